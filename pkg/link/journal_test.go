// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/tools/lab"
)

// journals calls f in a host's network namespace, with a directory for journals.
func journals(t *testing.T, n *lab.Node, f func(dir string) error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := n.Do(func() error { return f(dir) }); err != nil {
		t.Fatal(err)
	}
}

// written returns the changes of a run that adds one address.
func written(i Interface, p netip.Prefix) Changes {
	return Changes{Interfaces: []Identity{i.Identity()}, Addresses: []JournalAddress{{i.Index, i.Name, p}}}
}

// Two processes can have the same PID and the same directory: in two containers with the
// host's network and its /run.
func TestJournalsOfOneNumber(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0 := find(t, h, "eth0")
	virtual := prefixes("192.0.2.10/24", "192.0.2.20/24")
	journals(t, n, func(dir string) error {
		var all []*Journal
		for _, p := range virtual {
			j, err := OpenJournal(dir)
			if err != nil {
				return err
			}
			all = append(all, j)
			if err := errors.Join(j.Set("eth0", written(eth0, p)), h.Assign(eth0.Index, p)); err != nil {
				return err
			}
		}
		for _, j := range all { // as the kernel does at the end of a process
			if err := j.Close(); err != nil {
				return err
			}
		}
		removed, living, err := Recover(dir, h)
		slices.Sort(removed)
		if want := []string{"address 192.0.2.10/24 from eth0", "address 192.0.2.20/24 from eth0"}; !slices.Equal(removed, want) || len(living) > 0 {
			t.Errorf("removed %q, living %v", removed, living)
		}
		return err
	})
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
}

// A run that takes over a part of the changes has it in its own journal before the dead run's is
// removed. Nobody else undoes the changes in between.
func TestRecoverKeeps(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0 := find(t, h, "eth0")
	virtual := prefixes("192.0.2.10/24", "192.0.2.20/24")
	journals(t, n, func(dir string) error {
		j, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		both := written(eth0, virtual[0]).merged(written(eth0, virtual[1]))
		if err := errors.Join(j.Set("eth0", both), h.Assign(eth0.Index, virtual[0]), h.Assign(eth0.Index, virtual[1]), j.Close()); err != nil {
			return err
		}
		dead, err := FindDead(dir)
		if err != nil {
			return err
		}
		if got := dead.Changes(); !reflect.DeepEqual(got, both) {
			t.Errorf("found %+v", got)
		}
		if removed, living, err := Recover(dir, h); len(removed) > 0 || len(living) != 1 || err != nil {
			t.Errorf("another run removed %q, living %v: %v", removed, living, err)
		}
		keep := written(eth0, virtual[0])
		heir, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		if err := heir.Set("host", keep); err != nil {
			return err
		}
		removed, err := dead.Recover(h, keep)
		if err != nil {
			return err
		}
		if want := []string{"address 192.0.2.20/24 from eth0"}; !slices.Equal(removed, want) {
			t.Errorf("removed %q", removed)
		}
		if got := names(find(t, h, "eth0")); got != "192.0.2.2/24 192.0.2.10/24" {
			t.Errorf("addresses %s", got)
		}
		if err := heir.Close(); err != nil { // it is killed too
			return err
		}
		removed, _, err = Recover(dir, h)
		if want := []string{"address 192.0.2.10/24 from eth0"}; !slices.Equal(removed, want) {
			t.Errorf("removed %q", removed)
		}
		return err
	})
}

// Recover finds a renamed interface by its index and MAC. It leaves another interface with
// the same name or index alone.
func TestJournalRenamed(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0 := find(t, h, "eth0")
	virtual, extra := netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("192.0.2.11/24")
	route := routing.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Interface: "eth0", Table: 254, Type: "unicast"}
	journals(t, n, func(dir string) error {
		j, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		setting := Setting{Path: "ipv4/conf/eth0/arp_announce", Value: 2}
		changes := written(eth0, virtual)
		changes.Placed, changes.Routes, changes.Settings = []routing.Placed{{Address: extra, Interface: "eth0"}}, []routing.Route{route}, []Setting{setting}
		// The index belongs to another interface now.
		stranger := Identity{Name: "gone", Index: eth0.Index, MAC: [6]byte{2, 0, 0, 0, 0, 99}}
		changes.Interfaces = append(changes.Interfaces, stranger)
		changes.Addresses = append(changes.Addresses, JournalAddress{eth0.Index, "gone", netip.MustParsePrefix("192.0.2.2/24")})
		l, e := n.Netlink().LinkByName("eth0")
		err = errors.Join(e, j.Set("eth0", changes), setting.Set(), h.Assign(eth0.Index, virtual), h.Assign(eth0.Index, extra),
			j.Close(), n.Netlink().LinkSetDown(l), n.Netlink().LinkSetName(l, "lan0"), n.Netlink().LinkSetUp(l))
		if err != nil {
			return err
		}
		route.Interface = "lan0"
		if _, err := h.AddRoute(route); err != nil {
			return err
		}
		removed, _, err := Recover(dir, h)
		want := []string{
			"route to 203.0.113.0/24 in table 254 dev lan0", "address 192.0.2.11/24 on lan0", "address 192.0.2.10/24 from lan0",
			"2 from ipv4/conf/lan0/arp_announce, which is 0 again",
		}
		if !slices.Equal(removed, want) {
			t.Errorf("removed %q", removed)
		}
		return err
	})
	if got := names(find(t, h, "lan0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
}

// Changes from before a reboot are gone, so Recover doesn't remove an address that equals one
// of them.
func TestJournalOfAnotherBoot(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0 := find(t, h, "eth0")
	journals(t, n, func(dir string) error {
		j, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		if err := j.Set("eth0", written(eth0, netip.MustParsePrefix("192.0.2.2/24"))); err != nil {
			return err
		}
		b, err := os.ReadFile(j.path)
		if err != nil {
			return err
		}
		content, ok := newestSlot(b)
		id, err := bootID()
		if err != nil || !ok {
			return fmt.Errorf("%v, %w", ok, err)
		}
		content = bytes.Replace(content, []byte(id), []byte("00000000-0000-0000-0000-000000000000"), 1)
		if err := errors.Join(j.put(content), j.Close()); err != nil {
			return err
		}
		removed, _, err := Recover(dir, h)
		if len(removed) > 0 {
			t.Errorf("removed %q", removed)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal stays: %v", err)
		}
		return err
	})
}

// On a full file system the journal keeps its content, and a write of the same size still
// works.
func TestJournalWithoutRoom(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0 := find(t, h, "eth0")
	all := func(count int) (c Changes) {
		for i := range count {
			c.Addresses = append(c.Addresses, JournalAddress{eth0.Index, "eth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 24)})
		}
		return c
	}
	journals(t, n, func(dir string) error {
		if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=755")); err != nil {
			return err
		}
		defer func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}()
		j, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		full := filepath.Join(dir, "full")
		if err := os.WriteFile(full, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("the file system isn't full: %w", err)
		}
		if err := j.Set("eth0", all(10)); err != nil {
			t.Errorf("in place: %v", err)
		}
		if err := j.Set("eth0", all(200)); !errors.Is(err, ErrNoRoom) || j.Err() == nil {
			t.Errorf("more than the file system has room for: %v", err)
		}
		if got := len(read(t, j.path).Addresses); got != 10 {
			t.Errorf("%d addresses are recorded, want 10", got)
		}
		none, err := OpenJournal(dir)
		if err != nil || !errors.Is(none.Err(), ErrNoRoom) {
			return fmt.Errorf("a journal without a file: %w", errors.Join(err, none.Err()))
		}
		if err := os.Remove(full); err != nil {
			return err
		}
		lost, retried := j.Retry()
		if err := errors.Join(retried, none.Set("eth0", all(20))); err != nil || lost || j.Err() != nil || none.Err() != nil {
			t.Errorf("with room again: %v, %v", err, j.Err())
		}
		if a, b := len(read(t, j.path).Addresses), len(read(t, none.path).Addresses); a != 200 || b != 20 {
			t.Errorf("%d and %d addresses are recorded, want 200 and 20", a, b)
		}
		return errors.Join(j.Remove(), none.Remove())
	})
}

func read(t *testing.T, path string) journalFile {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseJournal(b)
	if err != nil {
		t.Error(err)
	}
	return f
}

// An interrupted write leaves the previous content valid.
func TestSlots(t *testing.T) {
	before, after := []byte(`{"a":1}`), []byte(`{"b":2}`)
	blank := bytes.Repeat([]byte(" "), 100)
	slot := func(b []byte) []byte { return append(b, blank[len(b):]...) }
	older := slot(appendSlot(nil, 41, before))
	whole := appendSlot(nil, 42, after)
	for cut := range len(whole) + 1 {
		newer := append(slices.Clone(whole[:cut]), slot(appendSlot(nil, 40, []byte(`{"c":33}`)))[cut:]...)
		want := before
		if cut == len(whole) {
			want = after
		}
		for _, file := range [][]byte{slices.Concat(older, newer), slices.Concat(newer, older)} {
			if got, ok := newestSlot(file); !ok || !bytes.Equal(got, want) {
				t.Errorf("after %d octets: %q, %v", cut, got, ok)
			}
		}
	}
	for _, file := range [][]byte{nil, blank, []byte("x"), slot([]byte("0000000000000001 ffffffff 00000000\n"))} {
		if got, ok := newestSlot(file); ok {
			t.Errorf("%q: a slot is valid: %q", file, got)
		}
	}
}

// Recover removes the temporary file of a run that was killed while it created its journal.
func TestJournalUnfinished(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	journals(t, n, func(dir string) error {
		ns, err := namespaceInode()
		if err != nil {
			return err
		}
		unfinished := filepath.Join(dir, fmt.Sprintf("%d-1-0.json.new", ns))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(unfinished, nil, 0o600)); err != nil {
			return err
		}
		_, _, err = Recover(dir, h)
		if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file stays: %v", err)
		}
		return err
	})
}
