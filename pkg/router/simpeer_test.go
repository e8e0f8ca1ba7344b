// SPDX-License-Identifier: Apache-2.0

package router

import (
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// simPeer is another implementation in place of a host's Loop, with its defaults: version
// 3 over IPv4 with only RFC 5798's checksum. Keepalived as the Active sends nothing for an
// interval after a packet that it considers damaged, and answers lower priorities. FRR
// does neither.
type simPeer struct {
	keepalived bool
	h          *simHost
	state      vrrp.State
	interval   time.Duration // Active_Adver_Interval
	deadline   vrrp.Instant  // true time
}

func (p *simPeer) start() {
	p.interval = p.h.config.Interval
	p.enter(vrrp.Backup, vrrp.CauseStarting)
	p.arm(p.h.down(p.interval))
}

func (p *simPeer) stop() {
	if p.state == vrrp.Active {
		p.send(0)
	}
	p.enter(vrrp.Initialize, vrrp.CauseAdministrator)
}

func (p *simPeer) enter(to vrrp.State, cause vrrp.Cause) {
	from := p.state
	p.state = to
	p.h.s.tracef(p.h, "%v -> %v (foreign)", from, to)
	p.h.s.changed(p.h, from, to, cause)
}

func (p *simPeer) arm(d time.Duration) {
	p.deadline = p.h.s.now.Add(d)
	p.h.timerAt = p.deadline
	p.h.arm()
}

func (p *simPeer) timer() {
	switch {
	case p.state == vrrp.Initialize:
		return
	case p.h.s.now < p.deadline:
		p.h.timerAt = p.deadline
		p.h.arm()
		return
	case p.state == vrrp.Backup:
		p.enter(vrrp.Active, vrrp.CauseSilence)
	}
	p.send(p.h.config.Priority)
	p.arm(p.h.config.Interval)
}

func (p *simPeer) send(priority uint8) {
	c := &p.h.config
	a := packet.Advertisement{Version: 3, VRID: c.VRID, Priority: priority, Interval: c.Interval, Addresses: c.Addresses}
	b, err := packet.AppendAdvertisementFrame(nil, p.h.mac, p.h.source, &a, packet.ChecksumRFC5798)
	if err != nil {
		panic(err)
	}
	if !p.h.linkDown {
		p.h.s.send(p.h, p.h.frame(b))
	}
}

func (p *simPeer) receive(f *simFrame) {
	a := &f.advertisement
	if f.source == p.h.source || a.Version != 3 || p.state == vrrp.Initialize {
		return
	}
	if f.form != packet.ChecksumRFC5798 {
		if p.state == vrrp.Active && p.keepalived {
			p.arm(p.h.config.Interval)
		}
		return
	}
	switch {
	case p.state == vrrp.Backup && a.Priority == 0:
		p.arm(p.h.skew(p.interval))
	case p.state == vrrp.Backup && a.Priority >= p.h.config.Priority:
		p.interval = a.Interval
		p.arm(p.h.down(p.interval))
	case p.state == vrrp.Active && a.Priority == 0:
		p.send(p.h.config.Priority)
		p.arm(p.h.config.Interval)
	case p.state == vrrp.Active && p.h.beats(a.Priority, f.source):
		p.interval = a.Interval
		p.enter(vrrp.Backup, vrrp.CauseHigherPriority)
		p.arm(p.h.down(p.interval))
	case p.state == vrrp.Active && p.keepalived:
		p.send(p.h.config.Priority)
	}
}
