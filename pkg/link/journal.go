// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/flock"
	"github.com/failoverd/failoverd/pkg/hostdir"
)

// Changes is what a run may change at one interface.
type Changes struct {
	Addresses []JournalAddress `json:"addresses,omitempty"`
	Devices   []Device         `json:"devices,omitempty"`
	Settings  []Setting        `json:"settings,omitempty"`
	Routing
}

// with returns what is in either.
func (c Changes) with(o Changes) Changes {
	c.Addresses = union(c.Addresses, o.Addresses)
	c.Devices = union(c.Devices, o.Devices)
	c.Settings = union(c.Settings, o.Settings)
	c.Placed = union(c.Placed, o.Placed)
	c.Routes = union(c.Routes, o.Routes)
	c.Rules = union(c.Rules, o.Rules)
	return c
}

func union[T comparable](a, b []T) []T {
	a = slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}

// JournalAddress is a virtual address that a run may put on an interface.
type JournalAddress struct {
	Ifindex int          `json:"ifindex"`
	Name    string       `json:"name"`
	Prefix  netip.Prefix `json:"prefix"`
}

// Journal is the file in which a run writes down what it may change before it
// changes it. It is locked as long as the run lives: one that can be locked by
// somebody else is a dead run's. Nobody else can read it, because a file that can be
// read can be locked.
type Journal struct {
	path  string
	file  *os.File
	ports map[string]Changes
}

type journalFile struct {
	// Namespace is the cookie of the network namespace: unlike the inode
	// number in the file's name it is never used again before a reboot.
	Namespace uint64 `json:"namespace"`
	Changes
}

// OpenJournal begins a journal in dir, which it makes if need be.
func OpenJournal(dir string) (*Journal, error) {
	netns, err := namespace()
	if err != nil {
		return nil, err
	}
	if err := hostdir.Make(dir); err != nil {
		return nil, err
	}
	j := &Journal{
		path:  filepath.Join(dir, fmt.Sprintf("%d-%d.json", netns, os.Getpid())),
		ports: make(map[string]Changes),
	}
	if err := j.write(); err != nil {
		_ = os.Remove(dir) // another run's journal keeps it
		return nil, err
	}
	return j, nil
}

// namespace returns the inode number of this network namespace.
func namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return st.Ino, nil
}

// namespaceCookie returns what the kernel calls this network namespace.
func namespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		err = fmt.Errorf("identify the network namespace: %w", err)
	}
	return cookie, errors.Join(err, unix.Close(fd))
}

// Set writes down what may be changed at the port's interface from now on.
func (j *Journal) Set(port string, changes Changes) error {
	before := j.ports[port]
	if reflect.DeepEqual(before, changes) {
		return nil
	}
	j.ports[port] = changes
	err := j.write()
	if err != nil {
		j.ports[port] = before // that is what the file still says
	}
	return err
}

// Add writes down what may be changed beside what was said before, and reports
// whether that was more.
func (j *Journal) Add(port string, changes Changes) (more bool, err error) {
	all := changes.with(j.ports[port])
	return !reflect.DeepEqual(all, changes), j.Set(port, all)
}

// Forget ends what Set began: nothing is changed at the interface any more.
func (j *Journal) Forget(port string) error {
	before, ok := j.ports[port]
	if !ok {
		return nil
	}
	delete(j.ports, port)
	err := j.write()
	if err != nil {
		j.ports[port] = before
	}
	return err
}

// write replaces the file by a new one that is locked before it is visible.
func (j *Journal) write() error {
	cookie, err := namespaceCookie()
	if err != nil {
		return err
	}
	content := journalFile{Namespace: cookie}
	for _, c := range j.ports {
		content.Addresses = append(content.Addresses, c.Addresses...)
		content.Devices = append(content.Devices, c.Devices...)
		content.Settings = append(content.Settings, c.Settings...)
		content.Placed = append(content.Placed, c.Placed...)
		content.Routes = append(content.Routes, c.Routes...)
		content.Rules = append(content.Rules, c.Rules...)
	}
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	temporary := j.path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // of a dead run that had the same number
	}
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.Write(b); err == nil {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = os.Rename(temporary, j.path)
		}
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(temporary))
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file = file
	return err
}

// Close ends the run but not the journal: the next run undoes what is in it.
func (j *Journal) Close() error { return j.file.Close() }

// Remove ends the journal: everything in it has been undone. The directory
// goes with the last journal.
func (j *Journal) Remove() error {
	err := os.Remove(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // somebody else has removed it
	}
	err = errors.Join(err, j.file.Close())
	_ = os.Remove(filepath.Dir(j.path)) // another run's journal keeps it
	return err
}

// Recover undoes what the journals of dead runs in this network namespace say,
// and returns a line for each thing that was still there, and the processes whose
// runs live, which are left alone.
func Recover(dir string, h *Handle) (removed []string, living []int, err error) {
	netns, err := namespace()
	if err != nil {
		return nil, nil, err
	}
	switch err := hostdir.Check(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-*.json", netns)))
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, path := range paths {
		r, err := recoverOne(path, h)
		removed = append(removed, r...)
		if errors.Is(err, flock.ErrHeld) {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(path), "%d-%d.json", &netns, &pid); err == nil {
				living = append(living, pid)
			}
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	if len(paths) > 0 {
		_ = os.Remove(dir) // a living run's journal keeps it
	}
	return removed, living, errors.Join(errs...)
}

func recoverOne(path string, h *Handle) (removed []string, err error) {
	file, err := lockDead(path)
	if file == nil || err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	b, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var content journalFile
	if err := json.Unmarshal(b, &content); err != nil {
		return nil, fmt.Errorf("not a journal of failoverd, remove it: %w", err)
	}
	cookie, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	if content.Namespace != cookie {
		return nil, os.Remove(path) // its network namespace is gone
	}
	all, err := h.Interfaces()
	if err != nil {
		return nil, err
	}
	var errs []error
	removed, err = h.removeRouting(content.Routing)
	if err != nil {
		errs = append(errs, err)
	}
	for _, a := range content.Addresses {
		i := slices.IndexFunc(all, func(i Interface) bool { return i.Index == a.Ifindex && i.Name == a.Name })
		if i < 0 || !slices.ContainsFunc(all[i].Addresses, func(b Address) bool { return b.Prefix == a.Prefix }) {
			continue
		}
		if err := h.Release(a.Ifindex, []netip.Prefix{a.Prefix}); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, fmt.Sprintf("address %s from %s", a.Prefix, a.Name))
	}
	for _, d := range content.Devices {
		i := slices.IndexFunc(all, d.Is)
		if i < 0 {
			continue
		}
		if err := h.DeleteDevice(all[i].Index); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "interface "+d.Name)
	}
	for _, s := range content.Settings {
		if s.Ifindex != 0 {
			i := slices.IndexFunc(all, func(i Interface) bool { return i.Index == s.Ifindex })
			if i < 0 {
				continue // gone, and the setting with it
			}
			s = s.On(all[i].Name)
		}
		switch restored, err := s.Restore(); {
		case err != nil:
			errs = append(errs, err)
		case restored:
			removed = append(removed, fmt.Sprintf("%d from %s, which is %d again", s.Value, s.Path, s.Before))
		}
	}
	if len(errs) > 0 {
		return removed, errors.Join(errs...) // the journal stays for another try
	}
	return removed, os.Remove(path)
}

// lockDead opens and locks the journal of a dead run. It returns flock.ErrHeld for
// one whose run lives, and nil for one that is gone or was replaced meanwhile.
func lockDead(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := flock.Take(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// A living run may have replaced the file in between: then what is
	// locked here is the old one.
	opened, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	current, err := os.Stat(path)
	if err != nil || !os.SameFile(opened, current) {
		return nil, file.Close()
	}
	return file, nil
}
