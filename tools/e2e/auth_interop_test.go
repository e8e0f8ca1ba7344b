// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// with a password and with an Authentication Header, by multicast and by unicast,
// failoverd and keepalived take over from each other. With different passwords they refuse each
// other.
func TestAuthenticationInterop(t *testing.T) {
	t.Attr("proves", "A-01 A-03 A-04 A-05 A-06 O-08")
	t.Parallel()
	for _, c := range []struct{ kind, theirs string }{{"password", "PASS"}, {"ah", "AH"}} {
		for _, receive := range []string{"native", "tc", "off"} {
			t.Run(c.kind+"/"+receive, func(t *testing.T) {
				t.Parallel()
				legacyPair(&pair{site: newSite(t), protocol: protocols[0]}, c.kind, c.theirs, receive, "")
			})
		}
		t.Run(c.kind+"/unicast", func(t *testing.T) {
			t.Parallel()
			legacyPair(&pair{site: newSite(t), protocol: protocols[0]}, c.kind, c.theirs, "auto", "    unicast: {peers: [198.18.0.2]}\n")
		})
	}
}

func legacyPair(p *pair, kind, theirs, receive, unicast string) {
	t := p.t
	path := filepath.Join(t.TempDir(), "password")
	secret := func(text string) { p.ok(os.WriteFile(path, []byte(text+"\n"), 0o600)) }
	secret("failovr1")
	text := fmt.Sprintf(`
global: {xdp_mode: %s}
routers:
  - name: web
    interface: eth0
    vrid: 51
    version: 2
    priority: 200
    addresses: [198.18.0.10/24]
    authentication: {type: %s, key_file: %s}
%s`, receive, kind, path, unicast)
	config := lab.KeepalivedConfig{
		Interface: ifname, Version: 2, VRID: 51, Priority: 100, Interval: time.Second, Addresses: p.addresses,
		AuthType: theirs, AuthPass: "failovr1",
	}
	if unicast != "" {
		config.Source, config.Peers = "198.18.0.2", []string{"198.18.0.1"}
	}
	a := p.withFile(p.a, text)
	if _, err := a.WaitLine(p.ctx, 0, func(line string) bool { return strings.Contains(line, "RFC 3768 removed it") }); err != nil {
		t.Errorf("no warning about the type: %v", err)
	}
	p.waitHolder(p.asked, p.a)
	peer, err := p.b.Keepalived(config)
	p.ok(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("keepalived wrote:\n%s", peer.Output())
		}
	})
	// keepalived stays Backup: it sends nothing for longer than its Active_Down_Interval.
	since := len(p.capture.Frames())
	for range 5 {
		f := p.heard(p.a, "ipv4", since)
		if ip := packet.IPOf(f.Data); (ip[9] == packet.ProtocolAH) != (kind == "ah") {
			t.Errorf("sent with IP protocol %d", ip[9])
		}
		since = len(p.capture.Frames())
	}
	if n := p.rivals(p.b, 0); n != 0 {
		t.Fatalf("keepalived advertised %d times; on the wire:\n%s", n, p.capture.VRRP())
	}
	p.answeredBy(p.asked, p.a)

	// keepalived takes over. failoverd comes back and preempts it.
	p.ok(p.ports[p.a].Pull())
	p.waitHolder(p.asked, p.b)
	p.ok(p.ports[p.a].Plug())
	p.waitHolder(p.asked, p.a)
	a.router("web", "ipv4", inState("Active"))

	// failoverd stays Backup beside keepalived, and takes over when keepalived has gone.
	p.stop(p.a, a.Failoverd)
	p.waitHolder(p.asked, p.b)
	a = p.withFile(p.a, strings.Replace(text, "priority: 200", "priority: 50", 1))
	a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 100 })
	accepted := a.accepted()["ipv4"]
	for a.accepted()["ipv4"] < accepted+4 {
		if p.ctx.Err() != nil {
			t.Fatal("keepalived is no longer heard")
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.router("web", "ipv4", inState("Backup"))

	// With another password failoverd doesn't hear keepalived, and both are Active.
	secret("failovr2")
	if changes := a.reload(); len(changes) != 1 || changes[0].Details[0] != "authentication: the password changed" {
		t.Errorf("changes %+v", changes)
	}
	a.router("web", "ipv4", inState("Active"))
	if a.counter("auth_failures") == 0 {
		t.Error("no advertisement was refused")
	}
	secret("failovr1")
	a.reload()
	a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 100 })
	_, err = peer.Stop(p.ctx)
	p.ok(err)
	a.router("web", "ipv4", inState("Active"))
	p.stop(p.a, a.Failoverd)
}
