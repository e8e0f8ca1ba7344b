// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname = "eth0"
	vrid   = 51
	ours   = "failoverd"
	second = time.Second

	// high and low are the priorities in a case.
	high, low = 200, 100
)

// party is a router with its host and its settings.
type party struct {
	router
	name    string
	node    *lab.Node
	port    *lab.Port
	setting setting
	had     []setting // each setting that the router has run with
}

// run starts the router. It returns when the router is Backup.
func (p *party) run(ctx context.Context) error {
	p.had = append(p.had, p.setting)
	if err := p.start(ctx, p.node, p.setting); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// reload changes the setting of the running router.
func (p *party) reload(ctx context.Context, change func(*setting)) error {
	change(&p.setting)
	p.had = append(p.had, p.setting)
	if err := p.change(ctx, p.setting); err != nil {
		return fmt.Errorf("reload %s: %w", p.name, err)
	}
	return nil
}

// site is a LAN with the two routers, in the order of their starts.
type site struct {
	lab           *lab.Lab
	capture       *lab.Capture
	failoverd     *failoverd
	first, second *party
	aparts        []apart
}

// newSite makes the site of a case.
func newSite(c testCase, p programs) (*site, error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, failoverd: &failoverd{binary: p.failoverd}}
	if err := s.layOut(c, p); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

func (s *site) layOut(c testCase, programs programs) error {
	lan, err := s.lab.LAN("switch")
	if err != nil {
		return err
	}
	us := &party{name: ours, router: s.failoverd}
	them := &party{name: c.peer, router: programs.peer(c.peer)}
	s.first, s.second = us, them
	if !c.weFirst {
		s.first, s.second = them, us
	}
	// The second has the greater address.
	s.first.setting = setting{own: 110, peer: 120, priority: high}
	s.second.setting = setting{own: 120, peer: 110, priority: low}
	for _, p := range []*party{s.first, s.second} {
		p.setting.proto, p.setting.interval, p.setting.addresses = c.proto, second, c.proto.addresses
		if p.port, err = lan.Host(p.name, ifname, lab.Addresses(p.setting.own)...); err != nil {
			return err
		}
		p.node = p.port.Node
		if c.proto.hmac {
			p.setting.auth = authentication{modeEnforce, []int{1}, 1}
			if err := writeKeys(p.node, 1, 2); err != nil {
				return err
			}
		}
	}
	s.capture, err = lan.Capture()
	return err
}

func (s *site) close() error { return errors.Join(s.capture.Close(), s.lab.Close()) }

// us returns failoverd.
func (s *site) us() *party {
	if s.first.name == ours {
		return s.first
	}
	return s.second
}

func (s *site) them() *party {
	if s.first.name == ours {
		return s.second
	}
	return s.first
}

// holds reports whether the router has the addresses on its interface. FRR doesn't: it has them
// on a macvlan, which is up while it is Active.
func (s *site) holds(p *party) (bool, error) {
	addresses := p.setting.proto.addresses
	return p.node.Holds(ifname, addresses[len(addresses)-1])
}

// hear waits until the router has advertised this often from now on, with the interval and the
// key of its setting. Two frames at once are the two checksum forms of one advertisement.
func (s *site) hear(ctx context.Context, p *party, times int) error {
	var last time.Time
	next := len(s.capture.Frames())
	for range times {
		n, err := s.capture.Wait(ctx, next, func(f lab.Frame) bool {
			a, d, _, ok := f.Advertisement()
			return ok && f.From == p.node.Name && a.Priority != 0 && a.Interval == p.setting.interval &&
				signer(&d) == p.setting.auth.signs() && f.At.Sub(last) > 50*time.Millisecond
		})
		if err != nil {
			return fmt.Errorf("wait for %d advertisements of %s: %w", times, p.name, err)
		}
		last, next = s.capture.Frames()[n].At, n+1
	}
	return nil
}

// signer returns the id of the key that has signed an advertisement, 0 if it has no trailer.
func signer(d *packet.Datagram) int {
	t, _ := d.ParseTrailer()
	return int(t.KeyID)
}

// bothForms is the time in which a router that advertises in both checksum forms sends the
// second one.
const bothForms = 200 * time.Millisecond

// pull takes the link of a router down, right after one of its advertisements.
func (s *site) pull(ctx context.Context, p *party) error {
	if err := s.hear(ctx, p, 1); err != nil {
		return err
	}
	time.Sleep(bothForms)
	if err := p.port.Pull(); err != nil {
		return err
	}
	now := time.Now()
	s.aparts = append(s.aparts, apart{p.name, now, now.Add(time.Hour)})
	return nil
}

func (s *site) plug(p *party) error {
	s.aparts[len(s.aparts)-1].to = time.Now()
	return p.port.Plug()
}

// isolate makes the switch forward nothing between the routers.
func (s *site) isolate() error {
	now := time.Now()
	s.aparts = append(s.aparts, apart{"", now, now.Add(time.Hour)})
	return errors.Join(s.first.port.Isolate(true), s.second.port.Isolate(true))
}

func (s *site) connect() error {
	s.aparts[len(s.aparts)-1].to = time.Now()
	return s.first.port.Isolate(false)
}

// adverts returns the advertisements so far.
func (s *site) adverts(frames []lab.Frame) []advert {
	var all []advert
	for _, f := range frames {
		if a, _, _, ok := f.Advertisement(); ok {
			all = append(all, advert{f.At, f.From, int(a.Priority), a.Interval})
		}
	}
	return all
}
