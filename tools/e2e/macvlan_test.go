// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// A macvlan that is removed is added again with its addresses. At the end the interface's settings
// are as before, also after kill -9. A router whose macvlan can't be added says why.
func TestMacvlan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("macvlan")
	setting := func(want string) {
		t.Helper()
		got, err := s.a.Run(s.ctx, "sysctl", "-n", "net.ipv4.conf."+ifname+".arp_announce")
		s.ok(err)
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("arp_announce is %s, not %s", got, want)
		}
	}
	s.ok(s.a.Sysctl("net.ipv4.conf."+ifname+".arp_announce", "1"))
	a := s.failoverd(s.a, bothFamilies...)
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
	}
	setting("2")

	s.ok(s.a.RemoveAddress(device(s, 4), virtual4+"/24"))
	_, err := a.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, "putting it back") })
	s.ok(err)
	s.waitHolder(virtual4, s.a)

	line := len(a.Lines())
	_, err = s.a.Run(s.ctx, "ip", "link", "del", device(s, 4))
	s.ok(err)
	_, err = a.WaitLine(s.ctx, line, func(l string) bool { return strings.Contains(l, "removed by somebody else") })
	s.ok(err)
	s.waitState(a, line, "ipv4", "Active") // the other family goes on
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
		s.answeredBy(address, s.a)
	}
	s.stop(s.a, a)
	setting("1")

	a = s.failoverd(s.a, bothFamilies...)
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
	}
	s.ok(a.Signal(syscall.SIGKILL))
	_, err = a.Wait(s.ctx)
	s.ok(err)
	p, err := s.a.Start(failoverd(), "--cleanup")
	s.ok(err)
	code, err := p.Wait(s.ctx)
	s.ok(err)
	for _, want := range []string{"interface " + device(s, 4), "interface " + device(s, 6), "arp_announce, which is 1 again"} {
		if !strings.Contains(p.Output(), want) || code != 0 {
			t.Errorf("--cleanup: exit code %d, and the output lacks %q:\n%s", code, want, p.Output())
		}
	}
	setting("1")
	s.clean(s.a)

	_, err = s.a.Run(s.ctx, "ip", "link", "add", device(s, 4), "link", ifname, "type", "macvlan")
	s.ok(err)
	a = s.failoverd(s.a, bothFamilies...)
	code, err = a.Wait(s.ctx)
	s.ok(err)
	if out := a.Output(); code == 0 || !strings.Contains(out, "ip link del "+device(s, 4)) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	_, err = s.a.Run(s.ctx, "ip", "link", "del", device(s, 4))
	s.ok(err)
	setting("1")
	s.clean(s.a)
}

// device returns the name of the macvlan on the first router.
func device(s *site, family int) string {
	line, err := s.a.Run(s.ctx, "ip", "-o", "link", "show", ifname)
	s.ok(err)
	index, _, _ := strings.Cut(line, ":")
	return fmt.Sprintf("vrrp%d-%s-51", family, index)
}
