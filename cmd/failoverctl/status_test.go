// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The reason of a router's state; for a Backup it includes the Active that it hears.
func TestWhy(t *testing.T) {
	for want, r := range map[string]control.Router{
		"hears no Active yet":                     {State: "Backup", Cause: "starting"},
		"hears 192.0.2.2, priority 150, every 1s": {State: "Backup", Cause: "starting", Active: "192.0.2.2", ActivePriority: 150, ActiveAdverInterval: 1},
		"hears 192.0.2.2, priority 150, every 100ms; became Backup: back from maintenance; down: web": {
			State: "Backup", Cause: "back from maintenance", Active: "192.0.2.2", ActivePriority: 150, ActiveAdverInterval: 0.1,
			Tracks: []control.Dependency{{Track: "web", State: "down", Weight: -20}},
		},
		"nobody else heard":          {State: "Active", Cause: "nobody else heard", Active: "192.0.2.1"},
		"there is no interface eth7": {State: "Initialize", Cause: "starting", Waiting: "there is no interface eth7"},
	} {
		if got := why(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// answers is a daemon that has these routers.
type answers struct {
	fake
	routers []control.Router
}

func (a answers) Status() (control.Status, error) {
	return control.Status{Routers: a.routers}, nil
}

// The exit codes of is-active.
func TestIsActive(t *testing.T) {
	socket := serve(t, answers{routers: []control.Router{
		{Name: "a", Family: "ipv4", State: "Active"},
		{Name: "a", Family: "ipv6", State: "Active"},
		{Name: "b", Family: "ipv4", State: "Active"},
		{Name: "b", Family: "ipv6", State: "Backup"},
		{Name: "c", Family: "ipv4", State: "Initialize"},
	}})
	for _, c := range []struct {
		args      []string
		code      int
		out, errs string
	}{
		{[]string{"a"}, 0, "Active\n", ""},
		{[]string{"b"}, exitFailure, "Backup\n", ""},
		{[]string{"c"}, exitFailure, "Initialize\n", ""},
		{[]string{"-q", "a"}, 0, "", ""},
		{[]string{"c", "--quiet"}, exitFailure, "", ""},
		{[]string{"d"}, exitFailure, "", "failoverctl: there is no router \"d\": failoverctl status lists the routers\n"},
	} {
		code, out, errs := call(t, append([]string{"is-active", "--socket", socket}, c.args...)...)
		if code != c.code || out != c.out || errs != c.errs {
			t.Errorf("%v: exit code %d, %q, %q", c.args, code, out, errs)
		}
	}
	if code, _, errs := call(t, "is-active", "a", "--socket", "/nowhere"); code != exitStopped || errs == "" {
		t.Errorf("without a daemon: exit code %d, %q", code, errs)
	}
}

// The output of an order has the other reasons that keep a router in Initialize, too.
func TestTell(t *testing.T) {
	o := &options{socket: serve(t, answers{routers: []control.Router{
		{Name: "a", Family: "ipv4", State: "Initialize", Maintenance: true, Waiting: vrrp.CauseMaintenance.String()},
		{Name: "b", Family: "ipv4", State: "Initialize", Maintenance: true, Waiting: "check web is down"},
		{Name: "c", Family: "ipv4", State: "Initialize", Waiting: "check web is down"},
		{Name: "d", Family: "ipv6", State: "Backup", Priority: 50, ConfiguredPriority: 100, Active: "fe80::1"},
		{Name: "e", Family: "ipv4", State: "Active"},
	}})}
	var b bytes.Buffer
	if err := o.printRouters(t.Context(), &b, control.Order{Routers: []string{"a", "b", "c", "d"}}); err != nil {
		t.Fatal(err)
	}
	want := `a (ipv4): Initialize, in maintenance
b (ipv4): Initialize, in maintenance; also check web is down
c (ipv4): Initialize, check web is down
d (ipv6): Backup, priority 50 (configured 100), Active is fe80::1
`
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}
