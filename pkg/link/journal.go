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

// Changes is what a run may change at one interface.
type Changes struct {
	// Interfaces are those that the rest names. One of them may have another name
	// when the rest is undone.
	Interfaces []Identity       `json:"interfaces,omitempty"`
	Addresses  []JournalAddress `json:"addresses,omitempty"`
	Devices    []Device         `json:"devices,omitempty"`
	Settings   []Setting        `json:"settings,omitempty"`
	routing.Set
}

// with returns what is in either.
func (c Changes) with(o Changes) Changes {
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
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}

// Identity tells an interface from others as long as the host runs: its index is
// given to another one only if somebody asks for it, and its name or its MAC stays.
type Identity struct {
	Name  string     `json:"name"`
	Index int        `json:"index"`
	MAC   packet.MAC `json:"mac"`
}

// Identity returns the interface's.
func (i Interface) Identity() Identity { return Identity{i.Name, i.Index, i.MAC} }

// is reports whether an interface is the one that was written down.
func (d Identity) is(i Interface) bool {
	return i.Index == d.Index && (i.Name == d.Name || d.MAC != packet.MAC{} && i.MAC == d.MAC)
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
// read can be locked. A Journal is not safe for concurrent use.
type Journal struct {
	path     string
	file     *os.File // nil if there was no room for it
	slot     int      // the size of each of its slots
	sequence uint64   // of the slot that is written next
	ports    map[string]Changes
	err      error
}

type journalFile struct {
	// Boot is the host's since it was started: what was changed before is gone.
	Boot string `json:"boot,omitempty"`
	// Namespace is the cookie of the network namespace: unlike the inode
	// number in the file's name it is never used again before a reboot.
	Namespace uint64 `json:"namespace"`
	Changes
}

// OpenJournal begins a journal in dir, which it makes if need be. That there is no
// room for it is no error: Set tries again, and Err says so.
func OpenJournal(dir string) (*Journal, error) {
	netns, err := namespace()
	if err != nil {
		return nil, err
	}
	if err := hostdir.Make(dir); err != nil {
		return nil, err
	}
	// The number of a process is its own in its PID namespace only.
	name := fmt.Sprintf("%d-%d-%08x.json", netns, os.Getpid(), rand.Uint32())
	j := &Journal{path: filepath.Join(dir, name), ports: make(map[string]Changes)}
	if err := j.write(); err != nil && !errors.Is(err, ErrNoRoom) {
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

// boot returns what the kernel calls the time since the host was started.
func boot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify the start of the host: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Set writes down what may be changed at the port's interface from now on. After an
// error the file says what it said before, until a later call or Retry can write
// all of it.
func (j *Journal) Set(port string, changes Changes) error {
	if before, there := j.ports[port]; there && j.err == nil && reflect.DeepEqual(before, changes) {
		return nil
	}
	j.ports[port] = changes
	return j.write()
}

// Add writes down what may be changed beside what was said before, and reports
// whether that was more.
func (j *Journal) Add(port string, changes Changes) (more bool, err error) {
	all := changes.with(j.ports[port])
	return !reflect.DeepEqual(all, changes), j.Set(port, all)
}

// Forget ends what Set began: nothing is changed at the interface any more.
func (j *Journal) Forget(port string) error {
	if _, ok := j.ports[port]; !ok {
		return nil
	}
	delete(j.ports, port)
	return j.write()
}

// Err says why what was given last is not written down; nil if it is.
func (j *Journal) Err() error { return j.err }

// Retry writes down what could not be written before, and all of it if somebody has
// removed the file, which it reports. It is cheap if there is nothing.
func (j *Journal) Retry() (lost bool, err error) {
	if lost = j.lost(); lost {
		_ = j.file.Close() // nobody finds what it says
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

// lost reports whether the file isn't where it was put.
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

// content is what the file has to say.
func (j *Journal) content() ([]byte, error) {
	cookie, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	booted, err := boot()
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

// Close ends the run but not the journal: the next run undoes what is in it.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// Remove ends the journal: everything in it has been undone. The directory
// goes with the last journal.
func (j *Journal) Remove() error {
	err := os.Remove(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // somebody else has removed it
	}
	err = errors.Join(err, j.Close())
	_ = os.Remove(filepath.Dir(j.path)) // another run's journal keeps it
	return err
}
