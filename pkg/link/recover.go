// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/flock"
	"github.com/failoverd/failoverd/pkg/hostdir"
)

// Recover undoes the changes in the journals of dead runs in this network namespace. It
// returns a line for each thing that it removed. It leaves the journals of living runs alone
// and returns the PIDs of these runs.
func Recover(dir string, h *Handle) (removed []string, living []int, err error) {
	dead, err := FindDead(dir)
	if dead == nil {
		return nil, nil, err
	}
	removed, recoverErr := dead.Recover(h, Changes{})
	return removed, dead.living, errors.Join(err, recoverErr)
}

// Dead has the journals of dead runs of this network namespace. They are locked, so that no
// other process undoes their changes.
type Dead struct {
	dir      string
	netns    uint64
	found    bool // there are journals, if only of living runs
	journals []deadJournal
	living   []int
}

type deadJournal struct {
	path    string
	file    *os.File
	changes Changes // that can still exist
}

// FindDead finds and locks the journals of dead runs. It returns nil if there can't be any. After
// an error the result lacks the journals that can't be read.
func FindDead(dir string) (*Dead, error) {
	netns, err := namespaceInode()
	if err != nil {
		return nil, err
	}
	switch err := hostdir.Check(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-*.json", netns)))
	if err != nil {
		return nil, err
	}
	d := &Dead{dir: dir, netns: netns, found: len(paths) > 0}
	var errs []error
	for _, path := range paths {
		j, err := openDead(path)
		if errors.Is(err, flock.ErrHeld) {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(path), "%d-%d", &netns, &pid); err == nil {
				d.living = append(d.living, pid)
			}
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		if j != nil {
			d.journals = append(d.journals, *j)
		}
	}
	return d, errors.Join(errs...)
}

// openDead opens and reads the journal of a dead run. It returns nil without an error if the file
// is gone.
func openDead(path string) (*deadJournal, error) {
	file, err := lockDead(path)
	if file == nil || err != nil {
		return nil, err
	}
	fail := func(err error) (*deadJournal, error) {
		_ = file.Close() // it was only read
		return nil, err
	}
	b, err := io.ReadAll(file)
	if err != nil {
		return fail(err)
	}
	content, err := parseJournal(b)
	if err != nil {
		return fail(fmt.Errorf("this file isn't a journal of failoverd, remove it: %w", err))
	}
	there, err := content.isHere()
	if err != nil {
		return fail(err)
	}
	if !there {
		content.Changes = Changes{}
	}
	return &deadJournal{path, file, content.Changes}, nil
}

// ChangesOfRun returns what is in the journal of a living run.
func ChangesOfRun(dir string, pid int) (all Changes, err error) {
	netns, err := namespaceInode()
	if err != nil {
		return all, err
	}
	if err := hostdir.Check(dir); err != nil {
		return all, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-%d-*.json", netns, pid)))
	if err != nil {
		return all, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return all, err
		}
		content, err := parseJournal(b)
		if err != nil {
			return all, fmt.Errorf("%s: %w", path, err)
		}
		all = all.merged(content.Changes)
	}
	return all, nil
}

// Changes returns everything that the dead runs may have left. d may be nil.
func (d *Dead) Changes() (all Changes) {
	if d == nil {
		return all
	}
	for _, j := range d.journals {
		all = all.merged(j.changes)
	}
	return all
}

// Recover undoes the changes of the dead runs except those to keep, and removes the journals. The
// journal of this run must have what is kept already. Recover returns a line for each thing that
// it removed. d may be nil.
func (d *Dead) Recover(h *Handle, keep Changes) (removed []string, err error) {
	if d == nil {
		return nil, nil
	}
	var errs []error
	for _, j := range d.journals {
		r, err := j.changes.without(keep).Undo(h)
		removed = append(removed, r...)
		if err == nil { // otherwise the journal stays for another try
			err = os.Remove(j.path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", j.path, err))
		}
	}
	d.Unlock()
	errs = append(errs, removeUnfinished(d.dir, d.netns))
	// A living run's journal keeps the directory.
	if d.found {
		_ = os.Remove(d.dir)
	}
	return removed, errors.Join(errs...)
}

// Unlock unlocks the journals, without a change of the host. d may be nil.
func (d *Dead) Unlock() {
	if d == nil {
		return
	}
	for _, j := range d.journals {
		_ = j.file.Close() // it was only read
	}
	d.journals = nil
}

// without returns the changes that aren't in o.
func (c Changes) without(o Changes) Changes {
	c.Addresses = except(c.Addresses, o.Addresses)
	c.Devices = except(c.Devices, o.Devices)
	c.Settings = except(c.Settings, o.Settings)
	c.Placed = except(c.Placed, o.Placed)
	c.Routes = except(c.Routes, o.Routes)
	c.Rules = except(c.Rules, o.Rules)
	return c
}

func except[T comparable](all, excluded []T) []T {
	set := make(map[T]bool, len(excluded))
	for _, x := range excluded {
		set[x] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return set[x] })
}

// removeUnfinished removes the temporary files of runs that were killed while they created a
// journal.
func removeUnfinished(dir string, netns uint64) error {
	paths, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-*.json.new", netns)))
	errs := []error{err}
	for _, path := range paths {
		file, err := lockDead(path)
		if errors.Is(err, flock.ErrHeld) {
			continue
		}
		if file != nil {
			err = errors.Join(os.Remove(path), file.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func parseJournal(b []byte) (content journalFile, err error) {
	if !bytes.HasPrefix(b, []byte("{")) { // older versions wrote plain JSON without slots
		newest, ok := newestSlot(b)
		if !ok {
			return content, errors.New("neither of its slots is valid")
		}
		b = newest
	}
	return content, json.Unmarshal(b, &content)
}

// isHere reports whether the changes can still exist: the host hasn't rebooted, and this is
// the network namespace of the journal.
func (f journalFile) isHere() (bool, error) {
	booted, err := bootID()
	if err != nil {
		return false, err
	}
	cookie, err := NamespaceCookie()
	return (f.Boot == "" || f.Boot == booted) && f.Namespace == cookie, err
}

// Undo undoes the changes, and returns a line for each that still existed.
func (c Changes) Undo(h *Handle) (removed []string, err error) {
	all, err := h.Interfaces()
	if err != nil {
		return nil, err
	}
	c = c.renamed(all)
	var errs []error
	removed, err = h.removeRouting(c.Set)
	if err != nil {
		errs = append(errs, err)
	}
	for _, a := range c.Addresses {
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
	for _, d := range c.Devices {
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
	for _, s := range c.Settings {
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
	return removed, errors.Join(errs...)
}

// renamed returns the changes with the current names of their interfaces.
func (c Changes) renamed(all []Interface) Changes {
	now := func(name string) string {
		for _, d := range c.Interfaces {
			if n := slices.IndexFunc(all, d.matches); d.Name == name && n >= 0 {
				return all[n].Name
			}
		}
		return name
	}
	c.Addresses, c.Placed = slices.Clone(c.Addresses), slices.Clone(c.Placed)
	c.Routes, c.Settings = slices.Clone(c.Routes), slices.Clone(c.Settings)
	for n := range c.Addresses {
		c.Addresses[n].Name = now(c.Addresses[n].Name)
	}
	for n := range c.Placed {
		c.Placed[n].Interface = now(c.Placed[n].Interface)
	}
	for n := range c.Routes {
		c.Routes[n].Interface = now(c.Routes[n].Interface)
	}
	for n, s := range c.Settings {
		// ipv4/conf/NAME/SETTING
		if parts := strings.Split(s.Path, "/"); len(parts) == 4 {
			parts[2] = now(parts[2])
			c.Settings[n].Path = path.Join(parts...)
		}
	}
	return c
}

// lockDead opens and locks the journal of a dead run. It returns flock.ErrHeld if the run is
// alive, and nil without an error if the file is gone or was replaced meanwhile.
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
	// A living run may have replaced the file in between. Then this lock is on the old
	// file.
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
