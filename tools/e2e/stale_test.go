// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// staleInterval is the interval of the advertisements.
const staleInterval = 200 * time.Millisecond

// After the first answer of a Backup that takes over, the Active that hangs or was killed gives no
// answer: to no ARP request, no ping and no TCP segment, although all of them reach both hosts.
// This holds for each make of Backup.
func TestStaleIPv4(t *testing.T) { stale(t, protocols[1]) }

// The same over IPv6, with neighbour solicitations.
func TestStaleIPv6(t *testing.T) { stale(t, protocols[2]) }

func stale(t *testing.T, proto protocol) {
	backups := []struct {
		name   string
		start  func(p *pair)
		moment func(p *pair) // waits for the moment of the signal
	}{
		{"failoverd takes over", (*pair).startStaleBackup, nil},
		{"keepalived takes over", (*pair).startStalePeerFirst, nil},
		{"keepalived that was never heard takes over", (*pair).startStalePeerLast, (*pair).awaitOther},
	}
	if proto.family == "ipv6" {
		backups = backups[:2] // IPv6 has one checksum form, so it makes no difference
	}
	for _, backup := range backups {
		for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			t.Run(backup.name+"/"+signalName(signal), func(t *testing.T) {
				t.Parallel()
				p := &pair{site: newSite(t), protocol: proto}
				p.captureRouters()
				backup.start(p)
				asker := p.ask()
				p.steady(asker)
				if backup.moment != nil {
					backup.moment(p)
				}
				before := time.Now()
				p.ok(p.daemon.Signal(signal))
				p.ok(asker.WaitAnswers(p.ctx, p.b, 500))
				p.waitHolder(p.asked, p.a, p.b) // the first still has the address, but is silent
				p.checkHandover(asker, before)
			})
		}
	}
}

// captureRouters captures what the routers send, without the questions.
func (p *pair) captureRouters() {
	p.t.Helper()
	p.ok(p.capture.Close())
	var err error
	p.capture, err = p.lan.CaptureFrom(p.a, p.b)
	p.ok(err)
}

func signalName(s syscall.Signal) string {
	if s == syscall.SIGSTOP {
		return "hangs"
	}
	return "killed"
}

func (p *pair) startStale(n *lab.Node, priority int) *lab.Failoverd {
	p.t.Helper()
	args := []string{"--iface", ifname, "--vrid", "51", "--priority", fmt.Sprint(priority), "--interval", staleInterval.String()}
	for _, a := range p.addresses {
		args = append(args, "--vip", a)
	}
	return p.failoverd(n, args...)
}

func (p *pair) startStaleActive() {
	p.t.Helper()
	p.daemon = p.startStale(p.a, 200)
	p.waitHolder(p.asked, p.a)
}

func (p *pair) startStaleBackup() {
	p.t.Helper()
	p.startStaleActive()
	p.waitState(p.startStale(p.b, 100), 0, p.family, "Backup")
}

func (p *pair) startStalePeer() {
	p.t.Helper()
	peer, err := p.b.Keepalived(lab.KeepalivedConfig{
		Interface: ifname, Version: p.version, VRID: 51, Priority: 100, Interval: staleInterval, Addresses: p.addresses,
	})
	p.ok(err)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("keepalived wrote:\n%s", peer.Output())
		}
	})
}

// startStalePeerFirst starts keepalived first. failoverd preempts it, and so hears it.
func (p *pair) startStalePeerFirst() {
	p.t.Helper()
	p.startStalePeer()
	p.waitHolder(p.asked, p.b)
	p.startStaleActive()
}

// startStalePeerLast starts keepalived after failoverd is Active. Over IPv4 keepalived understands
// only the advertisements in RFC 5798's form. If these suffice it never advertises, so failoverd
// doesn't hear it.
func (p *pair) startStalePeerLast() {
	p.t.Helper()
	p.startStaleActive()
	p.startStalePeer()
}

// awaitOther waits for the second advertisement after one that such a keepalived understands. If
// there are more of the other form, it waits for these.
func (p *pair) awaitOther() {
	p.t.Helper()
	after := -1
	_, err := p.capture.Wait(p.ctx, len(p.capture.Frames()), func(f lab.Frame) bool {
		_, _, form, ok := f.Advertisement()
		if ok && f.From == p.a.Name && (after >= 0 || form == packet.ChecksumRFC5798) {
			after++
		}
		return after == 2
	})
	p.ok(err)
}

// ask makes the client ask for the address every millisecond, at the routers' own MACs and at the
// virtual MAC.
func (p *pair) ask() *lab.Asker {
	p.t.Helper()
	address := netip.MustParseAddr(p.asked)
	virtual := packet.VirtualMAC(packet.FamilyOf(address), 51).String()
	asker, err := p.lan.Ask(p.c, ifname, lab.Asking{
		Address: address, Every: time.Millisecond,
		Hosts: []*lab.Node{p.a, p.b}, MACs: []string{p.mac(p.a), p.mac(p.b), virtual},
	})
	p.ok(err)
	p.t.Cleanup(func() {
		if err := asker.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return asker
}

// steady waits until only the first router has the address and has answered for longer than the
// Backup waits.
func (p *pair) steady(asker *lab.Asker) {
	p.t.Helper()
	p.waitHolder(p.asked, p.a)
	time.Sleep(5 * staleInterval)
	p.waitHolder(p.asked, p.a)
	p.ok(asker.WaitAnswers(p.ctx, p.a, 100))
}

// checkHandover checks that no answer of the first router came after the first answer of the
// second.
func (p *pair) checkHandover(asker *lab.Asker, since time.Time) {
	p.t.Helper()
	answers := asker.Answers()
	for _, q := range lab.Questions {
		h := answers.To(q).Handover(p.a, p.b, since)
		if h.LastOld.IsZero() || h.FirstNew.IsZero() {
			p.t.Errorf("%v: the last answer of the first router came at %v, the first one of the second at %v", q, h.LastOld, h.FirstNew)
		}
	}
	// The same holds for the answers to any question.
	if h := answers.Handover(p.a, p.b, since); h.Stale > 0 {
		for _, q := range lab.Questions {
			p.t.Errorf("%v: %+v", q, answers.To(q).Handover(p.a, p.b, since))
		}
		p.t.Errorf("the first router gave %d answers after the first one of the second, for %v; the longest pause between questions was %v; VRRP on the wire:\n%s",
			h.Stale, h.Overlap, asker.Pause(since, time.Now()), p.capture.VRRP())
	}
}
