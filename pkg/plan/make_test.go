// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/routing"
)

// checkable returns a router without problems.
func checkable(vrid int, addresses ...string) config.Router {
	r := router(100, addresses...)
	r.VRID, r.Version, r.Interval, r.DownAfter, r.Announcements, r.VirtualMAC, r.Accept = vrid, 3, time.Second, 3, 5, config.VirtualMACAuto, true
	return r
}

func altered(r config.Router, change func(*config.Router)) config.Router {
	change(&r)
	return r
}

// wrongLines returns the problems in an error, one on each line: KEY ITEM TEXT.
func wrongLines(err error) string {
	if err == nil {
		return ""
	}
	var lines []string
	var wrong *Error
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	for router, all := range wrong.Problems {
		for _, p := range all {
			lines = append(lines, strings.Join([]string{string(rune('0' + router)), p.Key, string(rune('0' + p.Item)), p.Text}, " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// areWrong reports whether each line starts and continues as wanted.
func areWrong(got string, want []string) bool {
	lines := strings.Split(got, "\n")
	if got == "" {
		lines = nil
	}
	return slices.EqualFunc(lines, want, func(line, w string) bool {
		begin, part, _ := strings.Cut(w, "|")
		return strings.HasPrefix(line, begin+" ") && strings.Contains(line, part)
	})
}

func TestCompleteRouters(t *testing.T) {
	six := checkable(52, "2001:db8::10/64")
	all, err := Complete([]config.Router{checkable(51, "192.0.2.10/24"), six, checkable(53, "fe80::5/64", "2001:db8::11/64")})
	if err != nil {
		t.Fatal(err)
	}
	if all[0].LinkLocal.IsValid() || all[0].Index != 0 || all[2].LinkLocal.IsValid() || all[2].Index != 2 {
		t.Errorf("%+v", all)
	}
	added := netip.MustParsePrefix("fe80::12:34/64")
	if all[1].LinkLocal != added || len(all[1].Addresses) != 2 || all[1].Addresses[1] != added || len(six.Addresses) != 1 {
		t.Errorf("%+v", all[1])
	}
	_, err = Complete([]config.Router{checkable(51, "192.0.2.10/24"), altered(checkable(0, "192.0.2.11/24"), func(r *config.Router) { r.Version = 4 })})
	if !areWrong(wrongLines(err), []string{"1 version 0|version 4", "1 vrid 0|VRID 0"}) {
		t.Error(wrongLines(err))
	}
	if text := err.Error(); !strings.Contains(text, "VRID 0") || !strings.Contains(text, "\n") {
		t.Error(text)
	}
}

func TestCheckInterfaces(t *testing.T) {
	eth0 := ether(2, "eth0", "", "192.0.2.1/24", "fe80::1/64", "2001:db8::1/64")
	bare := ether(2, "eth0", "")
	tentative := ether(2, "eth0", "", "192.0.2.1/24", "fe80::1/64")
	tentative.Addresses[1].Tentative = true
	lo := link.Interface{Index: 1, Name: "lo", Kind: link.KindLoopback, Encapsulation: "loopback"}
	host := []link.Interface{lo, eth0}
	peers := func(source string, all ...string) func(*config.Router) {
		return func(r *config.Router) {
			r.Unicast.TTL = 255
			for _, a := range all {
				r.Unicast.Peers = append(r.Unicast.Peers, config.NewPeer(netip.MustParseAddr(a)))
			}
			if source != "" {
				r.Unicast.Sources = []netip.Addr{netip.MustParseAddr(source)}
			}
		}
	}
	four, six := checkable(51, "192.0.2.10/24"), checkable(51, "2001:db8::10/64")
	for name, c := range map[string]struct {
		routers []config.Router
		host    []link.Interface
		now     []string // the problems
		waiting []string // the problems if routers may wait
	}{
		"fine":               {[]config.Router{four, checkable(52, "192.0.2.11/24")}, host, nil, nil},
		"one VRID, a family": {[]config.Router{four, six}, host, nil, nil},
		"no interface":       {[]config.Router{four}, []link.Interface{lo}, []string{"0 interface 0|eth0"}, nil},
		"the loopback": {
			[]config.Router{altered(four, func(r *config.Router) { r.Interface = "lo" })},
			host,
			[]string{"0 interface 0|loopback"},
			[]string{"0 interface 0|loopback"},
		},
		"a VRID twice": {
			[]config.Router{four, altered(checkable(51, "192.0.2.11/24"), func(r *config.Router) { r.Name = "other" })},
			host,
			[]string{"1 vrid 0|VRID 51 is used twice on eth0"},
			[]string{"1 vrid 0|VRID 51 is used twice on eth0"},
		},
		"no IPv4 address": {[]config.Router{four}, []link.Interface{bare}, []string{"0 interface 0|eth0 has no IPv4 address to send"}, nil},
		"no IPv6 address": {[]config.Router{six}, []link.Interface{bare}, []string{"0 interface 0|no IPv6 link-local address"}, nil},
		"tentative":       {[]config.Router{six}, []link.Interface{tentative}, nil, nil},
		"no global IPv6 address for peers": {
			[]config.Router{altered(six, peers("", "2001:db8::9"))},
			[]link.Interface{tentative},
			[]string{"0 interface 0|no global IPv6 address"},
			nil,
		},
		"link-local peers": {[]config.Router{altered(six, peers("", "fe80::9"))}, []link.Interface{tentative}, nil, nil},
		"the source":       {[]config.Router{altered(four, peers("192.0.2.1", "192.0.2.3"))}, host, nil, nil},
		"not the source":   {[]config.Router{altered(four, peers("192.0.2.7", "192.0.2.3"))}, host, []string{"0 unicast 0|the source 192.0.2.7 is not on interface eth0"}, nil},
		"the only one":     {[]config.Router{four}, []link.Interface{ether(2, "eth0", "", "192.0.2.10/24")}, []string{"0 addresses 0|192.0.2.10 is the only address"}, []string{"0 addresses 0|192.0.2.10 is the only address"}},
		"the only one, extra": {[]config.Router{altered(four, func(r *config.Router) {
			r.Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}}
		})}, []link.Interface{ether(2, "eth0", "", "192.0.2.20/24")}, []string{"0 addresses 0|192.0.2.20 is the only address"}, []string{"0 addresses 0|192.0.2.20 is the only address"}},
		"the only one, owned":  {[]config.Router{altered(four, func(r *config.Router) { r.Priority = 255 })}, []link.Interface{ether(2, "eth0", "", "192.0.2.10/24")}, nil, nil},
		"another router's own": {[]config.Router{altered(four, func(r *config.Router) { r.Priority = 255 }), checkable(52, "192.0.2.11/24")}, []link.Interface{ether(2, "eth0", "", "192.0.2.10/24")}, nil, nil},
	} {
		routers, err := Complete(c.routers)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := wrongLines(CheckInterfaces(routers, c.host, false)); !areWrong(got, c.now) {
			t.Errorf("%s: %s", name, got)
		}
		if got := wrongLines(CheckInterfaces(routers, c.host, true)); !areWrong(got, c.waiting) {
			t.Errorf("%s, waiting: %s", name, got)
		}
	}
}

func TestCheckAddresses(t *testing.T) {
	host := []link.Interface{ether(2, "eth0", "", "192.0.2.1/24", "192.0.2.10/24"), ether(3, "eth1", "", "192.0.2.2/24")}
	four := checkable(51, "192.0.2.11/24")
	on := func(name string, vrid int, addresses ...string) config.Router {
		return altered(checkable(vrid, addresses...), func(r *config.Router) { r.Interface = name })
	}
	for name, c := range map[string]struct {
		routers []config.Router
		want    []string
		always  bool // also a problem if routers may wait, and if failoverd has put the address there
	}{
		"fine":            {routers: []config.Router{four}},
		"here":            {routers: []config.Router{checkable(51, "192.0.2.11/24", "192.0.2.10/24")}, want: []string{"0 addresses 1|192.0.2.10 is already on eth0"}},
		"given twice":     {routers: []config.Router{four, checkable(52, "192.0.2.12/24", "192.0.2.11/24")}, want: []string{"1 addresses 1|192.0.2.11 is used on eth0 and on eth0"}, always: true},
		"on two":          {routers: []config.Router{four, on("eth1", 51, "192.0.2.11/24")}, want: []string{"1 addresses 0|is used on eth0 and on eth1"}, always: true},
		"link-local ones": {routers: []config.Router{checkable(51, "fe80::5/64"), on("eth1", 51, "fe80::5/64")}},
		"one link-local":  {routers: []config.Router{checkable(51, "fe80::5/64"), checkable(52, "fe80::5/64")}, want: []string{"1 addresses 0|is used on eth0 and on eth0"}, always: true},
	} {
		routers, err := Complete(c.routers)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, way := range []struct {
			wait, ours bool
			is         bool
		}{{false, false, true}, {true, false, c.always}, {false, true, c.always}} {
			want := c.want
			if !way.is {
				want = nil
			}
			if got := wrongLines(CheckAddresses(routers, host, way.wait, func(int, netip.Addr) bool { return way.ours })); !areWrong(got, want) {
				t.Errorf("%s, %+v: %s", name, way, got)
			}
		}
	}
}

// Changes are reported for each router. A router is the same if its interface, VRID and one
// family are the same.
func TestChangesOfRouters(t *testing.T) {
	named := func(name string, r config.Router) config.Router { r.Name = name; return r }
	web, six := named("web", checkable(51, "192.0.2.10/24")), named("six", checkable(51, "2001:db8::10/64"))
	for name, c := range map[string]struct {
		before, after []config.Router
		want          []string
	}{
		"nothing":        {[]config.Router{web, six}, []config.Router{six, web}, nil},
		"added":          {[]config.Router{web}, []config.Router{web, six}, []string{"six added"}},
		"removed":        {[]config.Router{web, six}, []config.Router{six}, []string{"web removed"}},
		"changed":        {[]config.Router{web}, []config.Router{altered(web, func(r *config.Router) { r.Priority = 150 })}, []string{"web changed priority: 100 → 150"}},
		"renamed":        {[]config.Router{web}, []config.Router{named("www", web)}, []string{"www changed name: web → www"}},
		"restarted":      {[]config.Router{web}, []config.Router{altered(web, func(r *config.Router) { r.XDPMode = "off" })}, []string{"web restarted xdp_mode: \"\" → off"}},
		"another family": {[]config.Router{web}, []config.Router{altered(six, func(r *config.Router) { r.Name = "web" })}, []string{"web removed", "web added"}},
		"another VRID":   {[]config.Router{web}, []config.Router{altered(web, func(r *config.Router) { r.VRID = 52 })}, []string{"web removed", "web added"}},
		"another interface": {
			[]config.Router{web},
			[]config.Router{altered(web, func(r *config.Router) { r.Interface = "eth1" })},
			[]string{"web removed", "web added"},
		},
	} {
		var got []string
		for _, change := range Changes(c.before, c.after) {
			got = append(got, strings.TrimSpace(change.Router+" "+change.What+" "+strings.Join(change.Details, ", ")))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
