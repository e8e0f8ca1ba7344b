// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const trackContent = `
routers:
  - interface: eth0
    vrid: 51
    addresses: [192.0.2.10/24]
    track: [a, {name: b, weight: 5}, {name: c, reverse: false}, 7]
tracks:
  - {name: a, script: "/bin/check 'a b' c", weight: -20, reverse: true, rise: 2, fall: 3, interval: 2s, timeout: 500ms, user: "web:web"}
  - {name: b, script: "cat /x | grep -q y", shell: true, init_fail: true, weight: 1, interval: 5s}
  - {name: c, script: [/bin/check, "1", 2], reverse: true}
  - {name: 7, http: "https://[::1]:8443/x", host: a.example, status: [200, 300-302], tls_verify: false}
  - {name: e, process: [/usr/sbin/nginx, -c], min: 0, max: 0}
  - {name: f, process: nginx}
  - {name: g, route: default6, via: fe80::1, table: 100}
  - {name: h, address: "::ffff:192.0.2.1"}
  - {name: i, route: 192.0.2.1}
  - {name: j, router: eth0-51, state: running}
  - {name: k, ping: 192.0.2.1}
  - {name: l, ping: [192.0.2.1, "fe80::1"], at_least: 2, interface: eth1}
  - {name: m, interface: eth1}
  - {name: n, arp: "fe80::1", interface: eth1}
global: {script_user: nobody, allow_insecure_scripts: true}
`

func TestTracks(t *testing.T) {
	f, err := Parse("x", []byte(trackContent))
	if err != nil {
		t.Fatal(err)
	}
	like := func(name, kind string, change func(*Track)) Track {
		d := defaultTrack()
		d.Name, d.Kind, d.Timeout = name, kind, time.Second
		if change(&d); kind == "script" && d.User == "" {
			d.User = "nobody"
		}
		return d
	}
	want := []Track{
		like("a", "script", func(t *Track) {
			t.Script, t.Weight, t.Reverse, t.Rise, t.Fall, t.Interval, t.Timeout, t.User = []string{"/bin/check", "a b", "c"}, -20, true, 2, 3, 2*time.Second, 500*time.Millisecond, "web:web"
		}),
		like("b", "script", func(t *Track) {
			t.Script, t.InitFail, t.Weight, t.Interval, t.Timeout = []string{"/bin/sh", "-c", "cat /x | grep -q y"}, true, 1, 5*time.Second, 5*time.Second
		}),
		like("c", "script", func(t *Track) { t.Script, t.Reverse = []string{"/bin/check", "1", "2"}, true }),
		like("7", "http", func(t *Track) {
			t.HTTP, t.Host, t.Statuses, t.Verify = "https://[::1]:8443/x", "a.example", [][2]int{{200, 200}, {300, 302}}, false
		}),
		like("e", "process", func(t *Track) { t.Process, t.Min, t.Max = []string{"/usr/sbin/nginx", "-c"}, 0, 0 }),
		like("f", "process", func(t *Track) { t.Process = []string{"nginx"} }),
		like("g", "route", func(t *Track) {
			t.Route, t.Via, t.Table = netip.MustParsePrefix("::/0"), netip.MustParseAddr("fe80::1"), 100
		}),
		like("h", "address", func(t *Track) { t.Address = netip.MustParseAddr("192.0.2.1") }),
		like("i", "route", func(t *Track) { t.Route = netip.MustParsePrefix("192.0.2.1/32") }),
		like("j", "router", func(t *Track) { t.Router, t.State = "eth0-51", WantRunning }),
		like("k", "ping", func(t *Track) { t.Ping = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }),
		like("l", "ping", func(t *Track) {
			t.Ping, t.AtLeast, t.Link = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")}, 2, "eth1"
		}),
		like("m", "interface", func(t *Track) { t.Link = "eth1" }),
		like("n", "arp", func(t *Track) { t.ARP, t.Link = []netip.Addr{netip.MustParseAddr("fe80::1")}, "eth1" }),
	}
	if diff := cmp.Diff(want, f.Tracks, cmpopts.IgnoreUnexported(Track{}), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	uses := []Use{{"a", -20, true}, {"b", 5, false}, {"c", 0, false}, {"7", 0, false}}
	if !slices.Equal(f.Routers[0].Track, uses) {
		t.Errorf("%v, want %v", f.Routers[0].Track, uses)
	}
	if f.Global.ScriptUser != "nobody" || !f.Global.AllowInsecureScripts {
		t.Errorf("%+v", f.Global)
	}

	f, err = Parse("x", []byte(`
tracks: [{name: a, interface: eth1}, {name: b, interface: eth2, weight: 3}]
routers:
  - {name: one, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], track: [{name: b, weight: 7}]}
  - {name: two, interface: eth0, vrid: 52, addresses: [192.0.2.11/24]}
groups: [{name: both, routers: [one, two], track: [a, b]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if one, two := f.Routers[0].Track, f.Routers[1].Track; !slices.Equal(one, []Use{{"b", 7, false}, {"a", 0, false}}) || !slices.Equal(two, []Use{{"a", 0, false}, {"b", 3, false}}) {
		t.Errorf("of a group: %v, %v", one, two)
	}
}

func TestTrackDifference(t *testing.T) {
	f, err := Parse("x", []byte(trackContent))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range f.Tracks {
		for j, b := range f.Tracks {
			if a.Same(b) != (i == j) {
				t.Errorf("%s is the same as %s: %t", a.Name, b.Name, a.Same(b))
			}
		}
	}
	err = f.TrackMistakes(map[string]Problem{"c": {Key: "script", Text: "others may change it"}, "j": {Key: "user", Text: "nobody knows"}})
	const text = `x:10:23: others may change it
   10 |   - {name: c, script: [/bin/check, "1", 2], reverse: true}
      |                       ^
x:17:5: nobody knows
   17 |   - {name: j, router: eth0-51, state: running}
      |     ^`
	if err == nil {
		t.Error("no mistakes")
	} else if diff := cmp.Diff(text, err.Error()); diff != "" {
		t.Error(diff)
	}
}
