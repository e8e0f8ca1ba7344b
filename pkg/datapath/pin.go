// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/flock"
)

// mountedMark is a directory. It marks that failoverd mounted the BPF file system.
const mountedMark = "mounted"

// pins is the directory of a BPF file system in which this process pins its objects:
//
//	progs/failover_vrrp
//	maps/failover_count …
//	links/<interface>/xdp or receive, ingress, egress
//
// A process locks its directory, so a directory without a lock belongs to a dead process.
type pins struct {
	dir      string
	lock     *os.File
	mounted  string                       // the mount point, if failoverd mounted the BPF file system
	mark     string                       // the name of the stateMark; empty: none
	leftover map[int]map[string]link.Link // by interface and name of the pin
	kept     map[string]bool              // the paths of a killed run that stay pinned
}

// openPins locks the directory and removes what a killed run left in it, except the links
// of the interfaces to adopt and, with inherits, the maps and the links of the heirs. These
// stay pinned all the time, so that the fence never opens, even if this process is killed. If
// another process holds the directory, openPins uses the fallback: a directory with the PID
// appended to the name.
func openPins(o *Options, inherits, whole bool) (*pins, error) {
	dir := o.Dir
	mounted, err := ensureBPFFS(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	p := &pins{dir: dir, mounted: mounted, leftover: make(map[int]map[string]link.Link), kept: make(map[string]bool)}
	if o.Namespace != 0 {
		p.mark = stateMark(o.Namespace)
	}
	// Links in the fallback directories of killed runs aren't adopted. They are removed
	// first, because they would keep the interfaces' hooks occupied.
	if _, err := cleanFallbacks(dir); err != nil {
		return nil, err
	}
	if p.lock = o.Remains.takeLock(); p.lock == nil {
		p.lock, err = lockDir(p.dir, true)
	}
	if errors.Is(err, flock.ErrHeld) {
		p.dir = fmt.Sprintf("%s-%d", dir, os.Getpid())
		p.lock, err = lockDir(p.dir, true)
	}
	if err != nil {
		return nil, errors.Join(err, p.unmount())
	}
	if inherits || whole {
		p.keep(o, whole)
	}
	if err := p.keepLinks(o.Adopt); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if wasMounted(p.dir) {
		p.mounted = filepath.Dir(dir)
	}
	if _, err := removeExcept(p.dir, p.kept); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.mounted != "" {
		if err := os.Mkdir(filepath.Join(p.dir, mountedMark), 0o700); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// wasMounted reports whether the run that left the directory mounted the BPF file system.
func wasMounted(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, mountedMark))
	return err == nil
}

// ensureBPFFS mounts a BPF file system on dir if there is none, as bpftool does. It
// returns the mount point if it mounted one.
func ensureBPFFS(dir string) (mounted string, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return "", nil
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return "", fmt.Errorf("mount a BPF file system on %s: %w", dir, err)
	}
	return dir, nil
}

// lockTries limits how often lockDir removes what another user has put in its place.
const lockTries = 100

// lockDir opens and locks a directory. With create it makes a missing directory. By
// default every user may make directories and symbolic links in a BPF file system, so with
// create it also replaces one of an unprivileged user. It returns flock.ErrHeld if a living
// process has locked the directory. Without create it returns fs.ErrNotExist for a
// directory of an unprivileged user.
func lockDir(dir string, create bool) (*os.File, error) {
	for tries := 0; ; tries++ {
		made := false
		if create {
			err := os.Mkdir(dir, 0o700)
			if made = err == nil; err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		switch own, err := isOwn(dir); {
		case err == nil && own:
		case err == nil && create && tries < lockTries:
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			continue
		case err == nil:
			return nil, fmt.Errorf("%s belongs neither to root nor to this user: %w", dir, fs.ErrNotExist)
		case create && errors.Is(err, fs.ErrNotExist):
			continue // its owner has just removed it
		default:
			return nil, err
		}
		f, err := os.Open(dir)
		if err != nil {
			if create && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if made {
				err = errors.Join(err, os.Remove(dir))
			}
			return nil, err
		}
		if err := flock.Take(f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), f.Close())
		}
		opened, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if current, err := os.Stat(dir); err == nil && os.SameFile(opened, current) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		if !create {
			return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
		}
	}
}

// isOwn reports whether a path is a directory that belongs to root or to this process's
// user.
func isOwn(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && (st.Uid == 0 || int(st.Uid) == os.Geteuid()), nil
}

// keep keeps the maps, and the links of the interfaces of heirs. With whole it keeps all maps and
// programs, and the links of all interfaces to adopt.
func (p *pins) keep(o *Options, whole bool) {
	r := o.Remains
	p.kept[filepath.Join(p.dir, p.mark)] = true
	names, interfaces := inheritable, make(map[int]bool)
	for k := range o.heirs() {
		interfaces[k.Ifindex] = true
	}
	if whole {
		names = pinned
		p.kept[filepath.Join(p.dir, programsMark())] = true
		for _, name := range programsFor(nil) {
			p.kept[filepath.Join(p.dir, "progs", name)] = true
		}
		for _, ifindex := range o.Adopt {
			interfaces[ifindex] = true
		}
	}
	for _, name := range names {
		p.kept[filepath.Join(p.dir, "maps", name)] = true
	}
	for ifindex := range interfaces {
		links := r.links[ifindex]
		delete(r.links, ifindex) // Close must not close them
		if links == nil {
			continue
		}
		p.leftover[ifindex] = links
		paths, _ := filepath.Glob(filepath.Join(p.dir, "links", "*", "*")) // the pattern is valid
		for _, path := range paths {
			if l := links[filepath.Base(path)]; l != nil && isPinnedAt(l, path) {
				p.kept[path] = true
			}
		}
	}
}

// isPinnedAt reports whether a path is the pin of a link.
func isPinnedAt(l link.Link, path string) bool {
	there, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return false
	}
	defer func() { _ = there.Close() }() // it is pinned
	a, err := l.Info()
	if err != nil {
		return false
	}
	b, err := there.Info()
	return err == nil && a.ID == b.ID
}

// keepLinks opens the links of the interfaces to adopt, and unpins them.
func (p *pins) keepLinks(adopt []int) error {
	paths, err := filepath.Glob(filepath.Join(p.dir, "links", "*", "xdp"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if p.kept[path] {
			continue
		}
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			continue // it is removed with the rest
		}
		ifindex := 0
		if info, err := l.Info(); err == nil && info.XDP() != nil {
			ifindex = int(info.XDP().Ifindex)
		}
		// Without its pin the link lives as long as it is open here.
		if slices.Contains(adopt, ifindex) && p.leftover[ifindex] == nil {
			p.leftover[ifindex] = map[string]link.Link{"xdp": l}
			if err := l.Unpin(); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			continue
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// takeLeftover returns a link that a killed run left on an interface. The caller owns it.
func (p *pins) takeLeftover(ifindex int, name string) (link.Link, bool) {
	l, ok := p.leftover[ifindex][name]
	delete(p.leftover[ifindex], name)
	return l, ok
}

// dropLeftovers detaches the links that are left on an interface.
func (p *pins) dropLeftovers(ifindex int) {
	for _, l := range p.leftover[ifindex] {
		drop(l)
	}
	delete(p.leftover, ifindex)
}

// drop detaches a link of a killed run. It may have lost its pin already.
func drop(l link.Link) {
	_ = l.Unpin()
	_ = l.Close()
}

// pinned are the maps that are pinned, by the names of the pins. The last two are those of the
// programs' variables.
var pinned = []string{
	bpf.VrrpMapFailoverRouter, bpf.VrrpMapFailoverPeer, bpf.VrrpMapFailoverIface, bpf.VrrpMapFailoverStamp, bpf.VrrpMapFailoverCount,
	bpf.VrrpMapFailoverLast, bpf.VrrpMapFailoverRing, bpf.VrrpMapFailoverSealed,
	// failover_keys is never pinned: a reader of it could sign advertisements.
	bpf.VrrpMapFailoverProven,
	// Without a pin of failover_next the kernel would empty it when this process ends, and failover_in
	// would receive nothing.
	bpf.VmacMapFailoverAddress, bpf.VmacMapFailoverVmac, bpf.VmacMapFailoverLease, bpf.VmacMapFailoverNext,
	bpf.VrrpVarFailoverClock, bpf.VmacVarFailoverFilter,
}

// pinnedMap returns the map with the name of a pin, nil without a fence.
func (d *Datapath) pinnedMap(name string) *ebpf.Map {
	c := d.collection
	switch {
	case name == bpf.VrrpVarFailoverClock:
		return c.maps[variables]
	case d.fence != nil && name == bpf.VmacVarFailoverFilter:
		return d.fence.collection.maps[variables]
	case d.fence != nil && d.fence.collection.maps[name] != nil:
		return d.fence.collection.maps[name]
	case name == bpf.VmacMapFailoverLease:
		return nil
	}
	return c.maps[name]
}

// pin pins the maps, and the programs that are loaded.
func (p *pins) pin(d *Datapath) error {
	for _, sub := range []string{"progs", "maps", "links"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o700); err != nil {
			return err
		}
	}
	for _, name := range pinned {
		m, path := d.pinnedMap(name), filepath.Join(p.dir, "maps", name)
		if m == nil || p.kept[path] {
			continue
		}
		if err := m.Pin(path); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	for _, name := range programsFor(nil) {
		at := d.programAt(name)
		if at == nil || *at == nil || p.kept[filepath.Join(p.dir, "progs", name)] && (*at).IsPinned() {
			continue
		}
		if err := p.pinProgram(*at, name); err != nil {
			return err
		}
	}
	if p.mark == "" || d.fence == nil {
		return nil
	}
	if !d.collection.authenticates {
		if err := os.MkdirAll(filepath.Join(p.dir, programsMark()), 0o700); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(p.dir, p.mark), 0o700)
}

// unmarkPrograms keeps another run from taking the programs over.
func (p *pins) unmarkPrograms() error {
	if err := os.Remove(filepath.Join(p.dir, programsMark())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (p *pins) pinProgram(program *ebpf.Program, name string) error {
	name = filepath.Join("progs", name)
	if err := program.Pin(filepath.Join(p.dir, name)); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return nil
}

// pinLink pins a link of an interface and returns the directory of the pin.
func (p *pins) pinLink(l link.Link, ifname, name string) (string, error) {
	dir := filepath.Join(p.dir, "links", ifname)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("pin the link: %w", err)
	}
	if err := l.Pin(filepath.Join(dir, name)); err != nil {
		return "", fmt.Errorf("pin the link: %w", err)
	}
	return dir, nil
}

// classifiersMark is a directory next to an interface's links. It marks that the interface
// has failoverd's filters, which can't be pinned.
const classifiersMark = "classifiers"

// markClassifiers marks that an interface has filters, and returns the interface's
// directory.
func (p *pins) markClassifiers(ifname string) (string, error) {
	dir := filepath.Join(p.dir, "links", ifname)
	if err := os.MkdirAll(filepath.Join(dir, classifiersMark), 0o700); err != nil {
		return "", fmt.Errorf("mark that the interface has filters: %w", err)
	}
	return dir, nil
}

// removeClassifiers removes the filters from the interface that the directory is named
// after, if the interface still exists, and then the mark.
func removeClassifiers(dir string) error {
	name := strings.ReplaceAll(filepath.Base(dir), ":", ".")
	if device, err := netlink.LinkByName(name); err == nil {
		if err := detachClassifiers(device); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(dir, classifiersMark))
}

func (p *pins) removeLink(dir string) error { return os.Remove(dir) }

// close removes all pins and the directory, and unmounts the BPF file system if failoverd
// mounted it.
func (p *pins) close() error {
	var errs []error
	for _, links := range p.leftover {
		for _, l := range links {
			errs = append(errs, l.Close())
		}
	}
	_, err := removeAll(p.dir)
	errs = append(errs, err, os.Remove(p.dir), p.lock.Close(), p.unmount())
	return errors.Join(errs...)
}

func (p *pins) unmount() error {
	if p.mounted == "" {
		return nil
	}
	return unmount(p.mounted)
}

func unmount(dir string) error {
	// Unmounting would remove the pins of other programs too. maps.debug and
	// progs.debug are the kernel's.
	entries, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) != ".debug" }) {
		return err
	}
	err = unix.Unmount(dir, 0)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) {
		return nil // another process uses it, or has unmounted it
	}
	return err
}

// removeAll removes the content of a directory and returns the paths of the removed pins.
// Removing the pin of a link detaches it.
func removeAll(dir string) (removed []string, err error) { return removeExcept(dir, nil) }

// removeExcept is removeAll without the kept paths and their directories.
func removeExcept(dir string, kept map[string]bool) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if kept[path] {
			continue
		}
		if e.Name() == classifiersMark {
			if err := removeClassifiers(dir); err != nil {
				return removed, err
			}
			removed = append(removed, path)
			continue
		}
		if e.IsDir() {
			r, err := removeExcept(path, kept)
			removed = append(removed, r...)
			if err != nil {
				return removed, err
			}
			if rest, err := os.ReadDir(path); err == nil && len(rest) > 0 {
				continue // it has a kept path
			}
		} else {
			removed = append(removed, path)
		}
		if err := os.Remove(path); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// Cleanup removes what killed runs left pinned in dir and in the fallback directories, and
// returns a line for each pin. It doesn't touch the directory of a living process.
func Cleanup(dir string) (removed []string, err error) {
	fallbacks, err := cleanFallbacks(dir)
	own, ownErr := clean(dir, dir)
	return append(own, fallbacks...), errors.Join(err, ownErr)
}

// cleanFallbacks removes what killed runs left in the fallback directories of dir.
func cleanFallbacks(dir string) (removed []string, err error) {
	dirs, err := filepath.Glob(dir + "-[0-9]*")
	if err != nil {
		return nil, err
	}
	return clean(dir, dirs...)
}

// clean removes the given directories, except those that a living process has locked.
func clean(dir string, dirs ...string) (removed []string, err error) {
	var errs []error
	for _, d := range dirs {
		lock, err := lockDir(d, false)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrHeld) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		mounted := wasMounted(d)
		paths, err := removeAll(d)
		for _, path := range paths {
			removed = append(removed, "BPF object "+path)
		}
		errs = append(errs, err, os.Remove(d), lock.Close())
		if mounted {
			parent := filepath.Dir(dir)
			if err := unmount(parent); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", parent, err))
				continue
			}
			removed = append(removed, "BPF file system on "+parent)
		}
	}
	return removed, errors.Join(errs...)
}
