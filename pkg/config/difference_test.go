// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each kind of key shows its values as the file has them.
func TestDifference(t *testing.T) {
	parse := func(router string) Router {
		f, err := Parse("x", []byte("tracks: [{name: web, file: /a}, {name: db, file: /b, weight: -20}]\nrouters: [{interface: eth0, vrid: 51, "+router+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		return f.Routers[0]
	}
	const own = "addresses: [192.0.2.10/24]"
	for router, want := range map[string][]string{
		own + ", priority: 200":                                  {"priority: 100 → 200"},
		own + ", preempt: false":                                 {"preempt: true → false"},
		own + ", interval: 1500ms":                               {"interval: 1s → 1.5s"},
		own + ", max_interval: 60s":                              {"max_interval: 0s → 1m"},
		own + ", virtual_mac: off":                               {"virtual_mac: auto → off"},
		own + ", name: web":                                      {"name: eth0-51 → web"},
		own + `, name: "51"`:                                     {`name: eth0-51 → "51"`},
		`addresses: [192.0.2.10/24, "2001:db8::10/64"]`:          {"addresses: [192.0.2.10/24] → [192.0.2.10/24, 2001:db8::10/64]"},
		"addresses: [{address: 192.0.2.10/24, interface: eth1}]": {"addresses: [192.0.2.10/24] → [{address: 192.0.2.10/24, interface: eth1}]"},
		"addresses: [{address: 192.0.2.10/24, interface: eth0}]": nil,
		own + ", ipv6_list: as-written":                          {"ipv6_list: rfc9568 → as-written"},
		own + ", extra_addresses: [192.0.2.20/24, {address: 192.0.2.21/24, interface: eth1}]":                 {"extra_addresses: [] → [192.0.2.20/24, {address: 192.0.2.21/24, interface: eth1}]"},
		own + ", tolerate: [trailing-octets]":                                                                 {"tolerate: [] → [trailing-octets]"},
		own + ", track: [web, {name: db, reverse: true}]":                                                     {"track: [] → [web, {name: db, weight: -20, reverse: true}]"},
		own + ", unicast: {peers: [192.0.2.3, {address: 192.0.2.4, min_ttl: 1}], source: 192.0.2.1, ttl: 64}": {"unicast: off → {peers: [192.0.2.3, {address: 192.0.2.4, min_ttl: 1}], source: 192.0.2.1, ttl: 64}"},
		own + ", authentication: {type: hmac, keys: [{id: 1, file: /etc/key}], window: 9s}":                   {"authentication: off → {type: hmac, keys: [{id: 1, file: /etc/key}], send: 1, window: 9s}"},
		own + ", routes: [{to: 203.0.113.0/24, via: 192.0.2.1, table: 100}]":                                  {"routes: [] → [{to: 203.0.113.0/24, via: 192.0.2.1, table: 100}]"},
		own + ", rules: [{from: 192.0.2.10, priority: 1000, fwmark: 7}]":                                      {"rules: [] → [{from: 192.0.2.10/32, fwmark: 7, priority: 1000}]"},
		own + `, notify: /bin/a web "two words", notify_timeout: 90s`:                                         {"notify: [] → [/bin/a, web, two words]", "notify_timeout: 30s → 1m30s"},
		own + `, notify_stop: [/bin/a, "", "true", "a, b", "- x", "#", "ü\n", "{", "a: b"]`:                   {`notify_stop: [] → [/bin/a, "", "true", "a, b", "- x", "#", "ü\n", "{", "a: b"]`},
	} {
		if diff := cmp.Diff(want, Difference(parse(own), parse(router))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", router, diff)
		}
	}
}

// Checks and what holds for all have the syntax of the file too.
func TestOtherDifferences(t *testing.T) {
	parse := func(track string) Track {
		f, err := Parse("x", []byte("tracks: [{name: t, "+track+"}]\nrouters: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]"))
		if err != nil {
			t.Fatal(err)
		}
		return f.Tracks[0]
	}
	for _, c := range []struct {
		before, after string
		want          []string
	}{
		{"tcp: 127.0.0.1:80", "tcp: 127.0.0.1:81, interval: 2s", []string{"tcp: 127.0.0.1:80 → 127.0.0.1:81", "interval: 1s → 2s", "timeout: 1s → 2s"}},
		{"tcp: 127.0.0.1:80", "http: http://a/", []string{`tcp: 127.0.0.1:80 → ""`, `http: "" → http://a/`}},
		{"ping: 192.0.2.1", "ping: [192.0.2.1, 192.0.2.2], at_least: 2, interface: eth1", []string{"ping: [192.0.2.1] → [192.0.2.1, 192.0.2.2]", "at_least: 1 → 2", `interface: "" → eth1`}},
		{"ping: 192.0.2.1, interface: eth1", "arp: 192.0.2.1, interface: eth1", []string{`ping: [192.0.2.1] → []`, `arp: [] → [192.0.2.1]`}},
		{"http: http://a/, status: [200]", "http: http://a/, status: [200-204, 301]", []string{`status: ["200"] → [200-204, "301"]`}},
		{"script: /bin/a b", "script: \"a | b\", shell: true", []string{"script: [/bin/a, b] → [/bin/sh, -c, a | b]"}},
		{"process: nginx", "process: nginx, max: 3", []string{`max: "" → 3`}},
		{"address: 192.0.2.1", "route: 10.0.0.0/8", []string{`address: 192.0.2.1 → ""`, `route: "" → 10.0.0.0/8`}},
	} {
		if diff := cmp.Diff(c.want, TrackDifference(parse(c.before), parse(c.after))); diff != "" {
			t.Errorf("%s → %s (-want +got):\n%s", c.before, c.after, diff)
		}
	}
	a := defaultGlobal()
	b := a
	b.Realtime, b.Notify, b.NotifyFIFO, b.AllowInsecureScripts = RealtimeAll, Command{"/bin/a", "b c"}, "/run/fifo", true
	want := []string{"realtime: auto → true", "notify: [] → [/bin/a, b c]", `notify_fifo: "" → /run/fifo`, "allow_insecure_scripts: false → true"}
	if diff := cmp.Diff(want, GlobalDifference(a, b)); diff != "" {
		t.Error(diff)
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 61 * time.Second: "1m1s", 24 * time.Hour: "24h"} {
		if got := duration(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
