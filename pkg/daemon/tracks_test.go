// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/track"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A reload changes the effect of checks at once, and a removed check has none.
func TestTracksAreChanged(t *testing.T) {
	monitor, err := link.NewMonitor()
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	var log strings.Builder
	logger := logrus.New()
	logger.SetOutput(&log)
	c := newConditions()
	tracks, err := newTracks(script.NewRunner(), monitor, c, control.NewHistory(), observe.NewLogBudget(), logger)
	if err != nil {
		t.Fatal(err)
	}
	defer tracks.close()
	number := filepath.Join(t.TempDir(), "number")
	set := func(list, uses string) *config.File {
		t.Helper()
		f, err := config.Parse("x", fmt.Appendf(nil, "tracks: [%s]\nrouters:\n  - {name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], track: [%s]}\n", list, uses))
		if err != nil {
			t.Fatal(err)
		}
		if err := tracks.set(f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	web := config.Router{Name: "web", Priority: 100}
	until := func(priority int, cause vrrp.Cause) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			p, f := c.Priority(web), c.first("web")
			if p == priority && f.cause == cause {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("priority %d, %v %q; want %d, %v", p, f.cause, f.detail, priority, cause)
			}
		}
	}
	file := "{name: number, file: " + number + "}"
	set(file, "number")
	until(100, vrrp.CauseWaiting) // before the tracker runs

	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := tracks.run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); done.Wait() }()
	until(100, vrrp.CauseNone)
	if err := os.WriteFile(number, []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(100, vrrp.CauseFault)
	set(file, "{name: number, weight: 2}")
	until(114, vrrp.CauseNone)
	set(file, "{name: number, reverse: true}")
	until(100, vrrp.CauseNone)
	set(file, "number")
	until(100, vrrp.CauseFault)
	// With another file, the known result holds until there is a new one.
	set("{name: number, file: "+number+"2, interval: 50ms}", "number")
	until(100, vrrp.CauseNone)
	if err := os.WriteFile(number+"2", []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(100, vrrp.CauseFault)
	set("", "")
	until(100, vrrp.CauseNone)
	if len(c.states) != 0 || len(tracks.all()) != 0 || len(tracks.dependencies("web")) != 0 {
		t.Errorf("left: %+v, %+v", c.states, tracks.all())
	}
}

// A script that can't be run now is logged; a script that other users may change is an error.
func TestScriptsAreChecked(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o757); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ global, keys, refused, logged string }{
		{"", "script: /bin/true", "", ""},
		{"", "script: /bin/true, user: nobody", "", ""},
		{"", "script: /bin/true, user: nobody-here", `there is no user "nobody-here" on this host`, ""},
		{"", "script: " + dir + "/missing", "", "there is no " + dir + "/missing"},
		{"", "script: " + open, "is not safe to run: others may change it", ""},
		{"global: {allow_insecure_scripts: true}", "script: " + open, "", "is run although it is not safe"},
	} {
		f, err := config.Parse("x", []byte(c.global+"\ntracks: [{name: a, "+c.keys+"}]\nrouters:\n  - {interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}\n"))
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		logger := logrus.New()
		logger.SetOutput(&log)
		err = checkScripts(f, logger)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v", c.keys, err)
		}
		if (log.Len() > 0) != (c.logged != "") || !strings.Contains(log.String(), c.logged) {
			t.Errorf("%s: logged %q", c.keys, log.String())
		}
	}
}

// The interface of a ping or arp check is where it sends. It isn't the target that is checked.
func TestChecksThatAsk(t *testing.T) {
	f, err := config.Parse("x", []byte(`
tracks:
  - {name: gateway, ping: [192.0.2.1, "fe80::1"], interface: eth1, at_least: 2}
  - {name: switch, arp: 192.0.2.3, interface: eth2}
routers:
  - {name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], track: [gateway, switch]}
`))
	if err != nil {
		t.Fatal(err)
	}
	checks, _ := checksOf(f)
	want := []track.Check{{
		Name: "gateway", Kind: track.Ping, Rise: 1, Fall: 1, Interval: time.Second, Timeout: time.Second,
		Targets: track.Targets{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")}, Interface: "eth1", AtLeast: 2},
	}, {
		Name: "switch", Kind: track.ARP, Rise: 1, Fall: 1, Interval: time.Second, Timeout: time.Second,
		Targets: track.Targets{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.3")}, Interface: "eth2", AtLeast: 1},
	}}
	if diff := cmp.Diff(want, checks, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

// A neighbour is asked from an address of the interface that isn't a virtual one.
func TestOwnAddress(t *testing.T) {
	on := func(addresses ...string) (i link.Interface) {
		for _, a := range addresses {
			i.Addresses = append(i.Addresses, link.Address{Prefix: netip.MustParsePrefix(a)})
		}
		return i
	}
	virtual := link.NewAddressSet(netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("fe80::10"), netip.MustParseAddr("2001:db8::10"))
	for _, c := range []struct {
		on             link.Interface
		neighbor, want string
	}{
		{on("192.0.2.10/24", "192.0.2.2/24"), "192.0.2.1", "192.0.2.2"},
		{on("198.51.100.2/24", "192.0.2.2/24"), "192.0.2.1", "192.0.2.2"},
		{on("198.51.100.2/24", "192.0.2.10/24"), "192.0.2.1", "198.51.100.2"},
		{on("192.0.2.10/24"), "192.0.2.1", "0.0.0.0"},
		{on("fe80::10/64", "2001:db8::2/64", "fe80::2/64"), "2001:db8::1", "fe80::2"},
		{on("fe80::10/64", "2001:db8::10/64", "2001:db8::2/64"), "fe80::1", "2001:db8::2"},
		{on("fe80::10/64", "192.0.2.2/24"), "fe80::1", "invalid IP"},
	} {
		if is := ownAddress(c.on, netip.MustParseAddr(c.neighbor), virtual).String(); is != c.want {
			t.Errorf("%v to %s: from %s, want %s", c.on.Addresses, c.neighbor, is, c.want)
		}
	}
}
