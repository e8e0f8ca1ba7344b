// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/hostdir"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
)

// Changes lists what a run may change at one interface.
type Changes struct {
	// Interfaces identifies the interfaces that the other fields name, because an
	// interface may be renamed before the changes are undone.
	Interfaces []Identity       `json:"interfaces,omitempty"`
	Addresses  []JournalAddress `json:"addresses,omitempty"`
	Devices    []Device         `json:"devices,omitempty"`
	Settings   []Setting        `json:"settings,omitempty"`
	routing.Set
}

// merged returns the union of both.
func (c Changes) merged(o Changes) Changes {
	c.Interfaces = union(c.Interfaces, o.Interfaces)
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
	there := make(map[T]bool, len(a))
	for _, x := range a {
		there[x] = true
	}
	for _, x := range b {
		if !there[x] {
			there[x] = true
			a = append(a, x)
		}
	}
	return a
}

// Identity identifies an interface until the host reboots. The kernel doesn't reuse an index
// by itself, so an interface with the same index and the same name or MAC is the same one.
type Identity struct {
	Name  string     `json:"name"`
	Index int        `json:"index"`
	MAC   packet.MAC `json:"mac"`
}

// Identity returns the identity of the interface.
func (i Interface) Identity() Identity { return Identity{i.Name, i.Index, i.MAC} }

// matches reports whether an interface has this identity.
func (d Identity) matches(i Interface) bool {
	return i.Index == d.Index && (i.Name == d.Name || d.MAC != packet.MAC{} && i.MAC == d.MAC)
}

// JournalAddress is a virtual address that a run may add to an interface.
type JournalAddress struct {
	Ifindex int          `json:"ifindex"`
	Name    string       `json:"name"`
	Prefix  netip.Prefix `json:"prefix"`
}

// Journal is the file in which a run records its changes before it makes them. The run holds
// a lock on the file, so a journal that another process can lock belongs to a dead run. Only
// the owner may read the file, because every user who can open a file can lock it. A Journal
// is not safe for concurrent use.
type Journal struct {
	path     string
	file     *os.File // nil if there was no room for it
	slotSize int      // the size of each of the two slots
	sequence uint64   // the sequence number of the next write
	ports    map[string]Changes
	err      error
}

type journalFile struct {
	// Boot is the kernel's boot ID. Changes from before a reboot are gone.
	Boot string `json:"boot,omitempty"`
	// Namespace is the cookie of the network namespace. Unlike the inode number in
	// the file's name, it isn't reused before a reboot.
	Namespace uint64 `json:"namespace"`
	Changes
}

// OpenJournal starts a journal in dir, and creates dir if it is missing. If the file system
// is full it returns no error: Set tries again, and Err returns the reason.
func OpenJournal(dir string) (*Journal, error) {
	netns, err := namespaceInode()
	if err != nil {
		return nil, err
	}
	if err := hostdir.Make(dir); err != nil {
		return nil, err
	}
	// A PID is unique only within its PID namespace, so the name has a random part.
	name := fmt.Sprintf("%d-%d-%08x.json", netns, os.Getpid(), rand.Uint32())
	j := &Journal{path: filepath.Join(dir, name), ports: make(map[string]Changes)}
	if err := j.write(); err != nil && !errors.Is(err, ErrNoRoom) {
		_ = os.Remove(dir) // another run's journal keeps it
		return nil, err
	}
	return j, nil
}

// namespaceInode returns the inode number of the current network namespace.
func namespaceInode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return st.Ino, nil
}

// NamespaceCookie returns the kernel's cookie of the current network namespace.
func NamespaceCookie() (uint64, error) {
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

// bootID returns the kernel's boot ID.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Set records what may be changed at the port's interface from now on. After an error the
// file keeps its old content, until a later call or Retry can write the new one.
func (j *Journal) Set(port string, changes Changes) error {
	if before, there := j.ports[port]; there && j.err == nil && reflect.DeepEqual(before, changes) {
		return nil
	}
	j.ports[port] = changes
	return j.write()
}

// Add records changes in addition to those that Set or Add recorded before. more says that
// the earlier ones have some that changes lacks.
func (j *Journal) Add(port string, changes Changes) (more bool, err error) {
	all := changes.merged(j.ports[port])
	return !reflect.DeepEqual(all, changes), j.Set(port, all)
}

// Forget removes the port's record. Nothing of it is changed any more.
func (j *Journal) Forget(port string) error {
	if _, ok := j.ports[port]; !ok {
		return nil
	}
	delete(j.ports, port)
	return j.write()
}

// Err returns the error of the last write, nil if the journal is up to date.
func (j *Journal) Err() error { return j.err }

// Retry repeats a write that failed. It also writes the journal anew if the file has been
// removed, and then returns lost. It is cheap if there is nothing to do.
func (j *Journal) Retry() (lost bool, err error) {
	if lost = j.lost(); lost {
		_ = j.file.Close() // no other run can find this file any more
		j.file = nil
		if err := hostdir.Make(filepath.Dir(j.path)); err != nil {
			return lost, err
		}
	}
	if j.err == nil && !lost {
		return false, nil
	}
	return lost, j.write()
}

// lost reports whether the file is no longer at its path.
func (j *Journal) lost() bool {
	if j.file == nil {
		return false
	}
	own, err := j.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(j.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(own, there)
}

func (j *Journal) write() error {
	content, err := j.content()
	if err == nil {
		err = j.put(content)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w in %s: make room there (df %[2]s): %[3]w", ErrNoRoom, filepath.Dir(j.path), err)
	}
	j.err = err
	return err
}

// content returns the content of the file.
func (j *Journal) content() ([]byte, error) {
	cookie, err := NamespaceCookie()
	if err != nil {
		return nil, err
	}
	booted, err := bootID()
	if err != nil {
		return nil, err
	}
	all := journalFile{Boot: booted, Namespace: cookie}
	for _, c := range j.ports {
		all.Interfaces = append(all.Interfaces, c.Interfaces...)
		all.Addresses = append(all.Addresses, c.Addresses...)
		all.Devices = append(all.Devices, c.Devices...)
		all.Settings = append(all.Settings, c.Settings...)
		all.Placed = append(all.Placed, c.Placed...)
		all.Routes = append(all.Routes, c.Routes...)
		all.Rules = append(all.Rules, c.Rules...)
	}
	return json.Marshal(all)
}

// Close ends the run but keeps the file. The next run undoes the changes in it.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// Remove removes the file, after all changes in it have been undone. It also removes the
// directory if this was the last journal.
func (j *Journal) Remove() error {
	err := os.Remove(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another process has removed it
	}
	err = errors.Join(err, j.Close())
	_ = os.Remove(filepath.Dir(j.path)) // another run's journal keeps it
	return err
}
