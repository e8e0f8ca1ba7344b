// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname = "eth0"
	vrid   = 51
	ours   = "failoverd"
	second = time.Second

	// The two priorities of a case.
	high, low = 200, 100
)

// party is a router with its place on the LAN.
type party struct {
	router
	name    string
	node    *lab.Node
	port    *lab.Port
	setting setting
}

func (p *party) run(ctx context.Context) error {
	if err := p.start(ctx, p.node, p.setting); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// site is a LAN with the two routers, in the order in which they are started.
type site struct {
	lab           *lab.Lab
	capture       *lab.Capture
	failoverd     *failoverd
	first, second *party
	aparts        []apart
}

// newSite lays a site out for a case.
func newSite(c testCase, binary string) (*site, error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, failoverd: &failoverd{binary: binary}}
	if err := s.layOut(c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

func (s *site) layOut(c testCase) error {
	lan, err := s.lab.LAN("switch")
	if err != nil {
		return err
	}
	us := &party{name: ours, router: s.failoverd}
	them := &party{name: c.peer, router: peers[c.peer]()}
	s.first, s.second = us, them
	if !c.weFirst {
		s.first, s.second = them, us
	}
	for i, p := range []*party{s.first, s.second} {
		p.setting = setting{
			proto: c.proto, priority: high, interval: second, addresses: c.proto.addresses,
			// The greater address is that of whoever is started second.
			number: 100 + 10*(i+1),
		}
		if i == 1 {
			p.setting.priority = low
		}
		if p.port, err = lan.Host(p.name, ifname, lab.Addresses(p.setting.number)...); err != nil {
			return err
		}
		p.node = p.port.Node
	}
	s.capture, err = lan.Capture()
	return err
}

func (s *site) close() error { return errors.Join(s.capture.Close(), s.lab.Close()) }

// us returns our router.
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

// holds reports whether the router has the addresses. FRR has them always, on
// a macvlan device that is up while it is Active.
func (s *site) holds(p *party) (bool, error) {
	addresses := p.setting.proto.addresses
	return p.node.Holds(ifname, addresses[len(addresses)-1])
}

// hear waits until the router has advertised that often from now on, at its
// configured interval, and returns the number of the last of these frames. Two
// frames at once are the two forms of one advertisement.
func (s *site) hear(ctx context.Context, p *party, times int) (int, error) {
	return s.hearInterval(ctx, p, times, 0)
}

// hearInterval is hear of advertisements that name an interval, if it isn't 0.
func (s *site) hearInterval(ctx context.Context, p *party, times int, interval time.Duration) (n int, err error) {
	var last time.Time
	next := len(s.capture.Frames())
	for range times {
		n, err = s.capture.Wait(ctx, next, func(f lab.Frame) bool {
			a, _, _, ok := f.Advertisement()
			return ok && f.From == p.node.Name && a.Priority != 0 &&
				(interval == 0 || a.Interval == interval) && f.At.Sub(last) > 50*time.Millisecond
		})
		if err != nil {
			return n, fmt.Errorf("wait for %d advertisements of %s: %w", times, p.name, err)
		}
		last, next = s.capture.Frames()[n].At, n+1
	}
	return n, nil
}

// bothForms is the time in which a router that advertises in both checksum
// forms has sent the second, too.
const bothForms = 200 * time.Millisecond

// pull takes a router off the network right after one of its advertisements.
func (s *site) pull(ctx context.Context, p *party) error {
	if _, err := s.hear(ctx, p, 1); err != nil {
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

// isolate keeps the routers from each other.
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
