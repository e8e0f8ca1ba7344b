// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/failoverd/failoverd/tools/lab"
)

// Each wrong input ends failoverd with an exit code other than 0 and one line that names the
// mistake and the remedy. Nothing on the host has changed.
func TestBadInput(t *testing.T) {
	t.Attr("proves", "K-15 O-03")
	s := newSite(t)
	// eth1 has no address. eth2 has the address that another case asks for.
	for _, c := range []struct{ name, address string }{{"eth1", ""}, {"eth2", "192.0.2.10/24"}} {
		var list []string
		if c.address != "" {
			list = append(list, c.address)
		}
		_, err := s.lan.Connect(s.a, c.name, list...)
		s.ok(err)
	}
	before := host(s, s.a)
	vip := []string{"--iface", "eth0", "--vip", "198.18.0.10/24"}
	with := func(args ...string) []string { return append(vip[:len(vip):len(vip)], args...) }

	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // parts of the line
		wrap []string // the program that runs failoverd
	}{
		{name: "no such interface", args: []string{"--iface", "eth9", "--vip", "198.18.0.10/24"}, code: 1, want: []string{`"eth9"`, "eth0"}},
		{name: "no such interface to watch", args: []string{"--iface", "eth9"}, code: 1, want: []string{`"eth9"`, "eth0"}},
		{name: "loopback", args: []string{"--iface", "lo", "--vip", "198.18.0.10/24"}, code: 1, want: []string{"lo", "loopback"}},
		{name: "interface without an address", args: []string{"--iface", "eth1", "--vip", "198.18.0.10/24"}, code: 1, want: []string{"eth1", "no IPv4 address", "ip addr add"}},
		{name: "interface without a link-local address", args: []string{"--iface", "eth1", "--vip", "2001:db8::10/64"}, code: 1, want: []string{"eth1", "IPv6 link-local", "ip addr add"}},
		{name: "no privilege", args: vip, code: 1, want: []string{"CAP_NET_ADMIN", "sudo"}, wrap: []string{"setpriv", "--bounding-set=-all", "--"}},
		{name: "malformed address", args: []string{"--iface", "eth0", "--vip", "198.18.0.256"}, code: 2, want: []string{`"198.18.0.256"`, "192.0.2.10/24"}},
		{name: "malformed prefix length", args: []string{"--iface", "eth0", "--vip", "198.18.0.10/33"}, code: 2, want: []string{`"198.18.0.10/33"`, "192.0.2.10/24"}},
		{name: "multicast address", args: []string{"--iface", "eth0", "--vip", "224.0.0.5/24"}, code: 2, want: []string{`"224.0.0.5/24"`, "unicast"}},
		{name: "VRID 0", args: with("--vrid", "0"), code: 2, want: []string{"VRID 0", "1 to 255"}},
		{name: "VRID 256", args: with("--vrid", "256"), code: 2, want: []string{"VRID 256", "1 to 255"}},
		{name: "priority 0", args: with("--priority", "0"), code: 2, want: []string{"priority 0", "1 to 254"}},
		{name: "priority 256", args: with("--priority", "256"), code: 2, want: []string{"priority 256", "1 to 254"}},
		{name: "priority 255 without the address", args: with("--priority", "255"), code: 1, want: []string{"255", "198.18.0.10", "254 or less"}},
		{name: "interval too short", args: with("--interval", "5ms"), code: 2, want: []string{"5ms", "10ms to 40.95s"}},
		{name: "interval too long", args: with("--interval", "41s"), code: 2, want: []string{"41s", "10ms to 40.95s"}},
		{name: "interval of half a centisecond", args: with("--interval", "15ms"), code: 2, want: []string{"15ms", "multiple of 10ms"}},
		{name: "interval without a unit", args: with("--interval", "1"), code: 2, want: []string{`"1"`, "1s"}},
		{name: "interval not for version 2", args: with("--vrrp-version", "2", "--interval", "100ms"), code: 2, want: []string{"100ms", "version 2", "use version 3"}},
		{name: "learns less than its own interval", args: with("--max-interval", "500ms"), code: 2, want: []string{"max_interval 500ms", "interval of 1s"}},
		{name: "version 4", args: with("--vrrp-version", "4"), code: 2, want: []string{"version 4", "3 (RFC 9568)"}},
		{name: "both versions, but only 2", args: with("--vrrp-version", "2", "--dual"), code: 2, want: []string{"version 2", "version 3"}},
		{name: "both versions over IPv6", args: []string{"--iface", "eth0", "--dual", "--vip", "2001:db8::10/64"}, code: 2, want: []string{"dual", "IPv4"}},
		{name: "unknown checksum", args: with("--checksum", "crc32"), code: 2, want: []string{`"crc32"`, "rfc5798"}},
		{name: "checksum in version 2", args: with("--vrrp-version", "2", "--checksum", "rfc5798"), code: 2, want: []string{"rfc5798", "version 2"}},
		{name: "unknown tolerance", args: with("--tolerate", "everything"), code: 2, want: []string{`"everything"`, "trailing-octets"}},
		{name: "tolerance without an address", args: []string{"--iface", "eth0", "--tolerate", "address-list"}, code: 2, want: []string{"--tolerate", "--vip"}},
		{name: "IPv6 in version 2", args: []string{"--iface", "eth0", "--vrrp-version", "2", "--vip", "2001:db8::10/64"}, code: 2, want: []string{"2001:db8::10/64", "version 3"}},
		{name: "the same VRID twice", args: with("--iface", "eth0"), code: 2, want: []string{"eth0", "twice", "VRID"}},
		{name: "the same address twice", args: with("--vip", "198.18.0.10/24"), code: 2, want: []string{"198.18.0.10", "twice"}},
		{name: "address on another interface", args: []string{"--iface", "eth0", "--vip", "192.0.2.10/24"}, code: 1, want: []string{"192.0.2.10", "eth2", "ip addr del"}},
		{name: "address of the interface itself", args: []string{"--iface", "eth0", "--vip", "198.18.0.1/24"}, code: 1, want: []string{"198.18.0.1", "priority 255"}},
		{name: "no BPF", args: with("--xdp-mode", "generic"), code: 1, want: []string{"XDP mode generic", "use off"}, wrap: withoutBPF(t)},
		{name: "no BPF, native", args: with("--xdp-mode", "native"), code: 1, want: []string{"XDP mode native", "use off"}, wrap: withoutBPF(t)},
		{name: "unknown XDP mode", args: with("--xdp-mode", "fast"), code: 2, want: []string{`"fast"`, "auto"}},
		{name: "unknown log format", args: with("--log-format", "xml"), code: 2, want: []string{`"xml"`, "json"}},
		{name: "unknown log level", args: with("--log-level", "loud"), code: 2, want: []string{`"loud"`, "debug"}},
		{name: "unknown flag", args: with("--prio", "100"), code: 2, want: []string{"--prio", "did you mean --priority?", "--help"}},
		{name: "stray argument", args: with("eth1"), code: 2, want: []string{`"eth1"`, "--iface"}},
		{name: "no interface", args: []string{"--vip", "198.18.0.10/24"}, code: 2, want: []string{"--iface"}},
		{name: "priority without an address", args: []string{"--iface", "eth0", "--priority", "100"}, code: 2, want: []string{"--priority", "--vip"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := append(append([]string{}, c.wrap...), failoverd())
			command = append(command, c.args...)
			p, err := s.a.Start(command[0], command[1:]...)
			s.ok(err)
			code, err := p.Wait(s.ctx)
			s.ok(err)
			checkError(t, p, code, c.code, c.want)
			if after := host(s, s.a); after != before {
				t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

func checkError(t *testing.T, p *lab.Process, code, wantCode int, want []string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit code %d, want %d", code, wantCode)
	}
	out := strings.TrimSpace(p.Output())
	if strings.Contains(out, "\n") || !strings.HasPrefix(out, "failoverd: ") {
		t.Errorf("want one line of failoverd, got:\n%s", out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in: %s", w, out)
		}
	}
}

// A receive mode that the interface doesn't support is an error. Here the interface is a bridge,
// whose driver has no XDP.
func TestModeNotSupported(t *testing.T) {
	s := newSite(t)
	_, err := s.a.Run(s.ctx, "ip", "link", "add", "name", "br0", "type", "bridge")
	s.ok(err)
	s.ok(s.a.SetUp("br0"))
	s.ok(s.a.AddAddress("br0", "192.0.2.1/24"))
	before := host(s, s.a)
	f := s.failoverd(s.a, "--iface", "br0", "--vip", "192.0.2.10/24", "--xdp-mode", "native")
	code, err := f.Wait(s.ctx)
	s.ok(err)
	if out := f.Output(); code != 1 || !strings.Contains(out, "failoverd: interface br0: ") || !strings.Contains(out, "--xdp-mode auto") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if after := host(s, s.a); after != before {
		t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
	}
}

// host describes the state of a node that failoverd could have changed.
func host(s *site, n *lab.Node) string {
	s.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "addr", "show"},
		{"ip", "-o", "link", "show"},
		{"ip", "maddr", "show"},
		{"ip", "route", "show", "table", "all"},
		{"find", "/run", "/sys/fs/bpf"},
		{"ss", "-xlHn"},
	} {
		out, err := n.Run(s.ctx, args[0], args[1:]...)
		s.ok(err)
		b.WriteString(out)
	}
	return b.String()
}

// A second failoverd for the same interface and VRID doesn't start, but one for another VRID does.
func TestSecondFailoverd(t *testing.T) {
	s := newSite(t)
	first := s.failoverd(s.a, "--iface", ifname, "--vip", "198.18.0.10/24", "--interval", "100ms", "--xdp-mode", "generic")
	s.waitHolder("198.18.0.10", s.a)

	before := host(s, s.a)
	p, err := s.a.Start(failoverd(), "--iface", ifname, "--vip", "198.18.0.11/24")
	s.ok(err)
	code, err := p.Wait(s.ctx)
	s.ok(err)
	checkError(t, p, code, 1, []string{"another failoverd", "VRID 51", ifname, "another VRID"})
	if after := host(s, s.a); after != before {
		t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
	}

	other := s.failoverd(s.a, "--iface", ifname, "--vip", "198.18.0.11/24", "--vrid", "52", "--interval", "100ms", "--xdp-mode", "generic")
	s.waitHolder("198.18.0.11", s.a)
	// It found another program at the XDP hook, and said so.
	if out := other.Output(); !strings.Contains(out, "another program owns its XDP hook") {
		t.Errorf("the log does not say how it receives:\n%s", out)
	}
	code, err = other.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.answeredBy("198.18.0.10", s.a)
	s.stop(s.a, first)
}

// On a kernel without BPF failoverd receives by AF_PACKET and uses a macvlan for the virtual MAC,
// and says so.
func TestNoBPF(t *testing.T) {
	s := newSite(t)
	s.holder = "" // a macvlan
	args := []string{"--iface", ifname, "--vip", "198.18.0.10/24", "--interval", "100ms"}
	a := s.failoverdUnder(withoutBPF(t), nil, s.a, append(args, "--priority", "200")...)
	s.waitHolder("198.18.0.10", s.a)
	b := s.failoverdUnder(withoutBPF(t), nil, s.b, args...)
	line := s.waitState(b, 0, "ipv4", "Backup")
	s.answeredBy("198.18.0.10", s.a)
	for _, f := range []*lab.Failoverd{a, b} {
		out := f.Output()
		for _, want := range []string{"af_packet", "no XDP on this host", "keeps answering", "on the macvlan vrrp4-"} {
			if !strings.Contains(out, want) {
				t.Errorf("the log does not say %q:\n%s", want, out)
			}
		}
	}
	for _, q := range []question{broadcastQuestion, unicastQuestion, probe} {
		s.answers(s.c, "198.18.0.10", q)
	}
	s.stop(s.a, a)
	s.waitState(b, line, "ipv4", "Active")
	s.answeredBy("198.18.0.10", s.b)
	s.stop(s.b, b)
}
