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
	netns, err := namespaceInode()
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
			if _, err := fmt.Sscanf(filepath.Base(path), "%d-%d", &netns, &pid); err == nil {
				living = append(living, pid)
			}
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	errs = append(errs, removeUnfinished(dir, netns))
	// A living run's journal keeps the directory.
	if len(paths) > 0 {
		_ = os.Remove(dir)
	}
	return removed, living, errors.Join(errs...)
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
	content, err := parseJournal(b)
	if err != nil {
		return nil, fmt.Errorf("this file isn't a journal of failoverd, remove it: %w", err)
	}
	there, err := content.isHere()
	if err != nil {
		return nil, err
	}
	if there {
		if removed, err = content.undo(h); err != nil {
			return removed, err // the journal stays for another try
		}
	}
	return removed, os.Remove(path)
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
	cookie, err := namespaceCookie()
	return (f.Boot == "" || f.Boot == booted) && f.Namespace == cookie, err
}

// undo undoes the changes, and returns a line for each that still existed.
func (c Changes) undo(h *Handle) (removed []string, err error) {
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
