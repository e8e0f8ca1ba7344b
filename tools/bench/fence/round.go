// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname = "eth0"
	vrid   = 51
	// askEvery is the interval between rounds of questions.
	askEvery = time.Millisecond
	// steadyAnswers is the number of answers after which a host answers steadily.
	steadyAnswers = 100
	// stillAnswers is the age up to which a host's last answer shows that it still answers,
	// on a busy machine.
	stillAnswers = 200 * time.Millisecond
	// patience is the longest duration of a round, without the time to watch.
	patience = 30 * time.Second
)

var signalNames = map[syscall.Signal]string{
	syscall.SIGSTOP: "SIGSTOP",
	syscall.SIGCONT: "SIGCONT",
	syscall.SIGKILL: "SIGKILL",
}

// contender starts one of the daemons on a node.
type contender struct {
	name  string
	start func(n *lab.Node, priority int) (*lab.Process, error)
}

// virtualAddresses returns the addresses that the routers share. The questions are about the
// last one.
func virtualAddresses(o Options) []string {
	if o.IPv6 {
		return []string{"fe80::12:33/64", "2001:db8::10/64"} // keepalived needs a link-local address too
	}
	return []string{"198.18.0.10/24"}
}

// asked returns the address that the questions are about.
func asked(o Options) netip.Addr {
	all := virtualAddresses(o)
	return netip.MustParsePrefix(all[len(all)-1]).Addr()
}

func contenders(o Options) []contender {
	all := []contender{
		{"failoverd", func(n *lab.Node, priority int) (*lab.Process, error) {
			args := []string{"--iface", ifname, "--vrid", fmt.Sprint(vrid), "--priority", fmt.Sprint(priority), "--interval", interval.String()}
			for _, a := range virtualAddresses(o) {
				args = append(args, "--vip", a)
			}
			return n.StartToFile(o.Failoverd, append(args, "--log-format", "json")...)
		}},
		{"keepalived", func(n *lab.Node, priority int) (*lab.Process, error) {
			return n.KeepalivedToFile(o.Keepalived, lab.KeepalivedConfig{Interface: ifname, Version: 3, VRID: vrid, Priority: priority, Interval: interval, Addresses: virtualAddresses(o)}.String())
		}},
	}
	return slices.DeleteFunc(all, func(c contender) bool { return !o.Who.MatchString(c.name) })
}

// site is a LAN with two routers, the first of which is Active, and an asker.
type site struct {
	options Options
	a, b    *lab.Node
	active  *lab.Process
	asker   *lab.Asker
}

// play measures one daemon whose Active hangs or is killed, in a lab of its own.
func play(ctx context.Context, o Options, c contender, signal syscall.Signal) (m map[row]sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience+watch)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := &site{options: o}
	if err := s.layOut(l); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.asker.Close()) }()
	if err := s.start(ctx, c); err != nil {
		return nil, err
	}
	m = make(map[row]sample)
	if err := s.interrupt(ctx, signal, m); err != nil {
		return nil, err
	}
	if signal == syscall.SIGSTOP {
		if err := s.resume(ctx, m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// layOut connects the hosts and starts the asker.
func (s *site) layOut(l *lab.Lab) error {
	lan, err := l.LAN("switch")
	if err != nil {
		return err
	}
	var nodes []*lab.Node
	var macs []string
	for n, name := range []string{"a", "b", "client"} {
		port, err := lan.Host(name, ifname, lab.Addresses(n+1)...)
		if err != nil {
			return err
		}
		mac, err := port.Node.MAC(ifname)
		if err != nil {
			return err
		}
		nodes, macs = append(nodes, port.Node), append(macs, mac)
	}
	s.a, s.b = nodes[0], nodes[1]
	address := asked(s.options)
	s.asker, err = lan.Ask(nodes[2], ifname, lab.Asking{
		Address: address, Every: askEvery, Hosts: nodes[:2],
		MACs: append(macs[:2], packet.VirtualMAC(packet.FamilyOf(address), vrid).String()),
	})
	return err
}

// start starts the daemons, and waits until the first one has been Active for a while.
func (s *site) start(ctx context.Context, c contender) (err error) {
	if s.active, err = c.start(s.a, 200); err != nil {
		return err
	}
	if err := s.holds(ctx); err != nil {
		return err
	}
	if _, err := c.start(s.b, 100); err != nil {
		return err
	}
	return s.settled(ctx)
}

// settled waits until the first router alone has had the address for longer than the other
// one's Active_Down_Interval, and answers for it.
func (s *site) settled(ctx context.Context) error {
	if err := s.holds(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, 5*interval); err != nil {
		return err
	}
	if err := s.holds(ctx); err != nil {
		return err
	}
	return s.asker.WaitAnswers(ctx, s.a, steadyAnswers)
}

// holds waits until the first router alone has the address.
func (s *site) holds(ctx context.Context) error {
	return lab.WaitHolds(ctx, ifname, asked(s.options).String(), []*lab.Node{s.a, s.b}, s.a)
}

// interrupt signals the Active and watches the takeover.
func (s *site) interrupt(ctx context.Context, signal syscall.Signal, m map[row]sample) error {
	since := time.Now()
	// All processes are stopped first, so that none sees another one die.
	if err := s.active.SignalAll(syscall.SIGSTOP); err != nil {
		return err
	}
	if signal != syscall.SIGSTOP {
		if err := s.active.SignalAll(signal); err != nil {
			return err
		}
	}
	if err := s.asker.WaitAnswers(ctx, s.b, 1); err != nil {
		return err
	}
	if err := lab.Pause(ctx, watch); err != nil {
		return err
	}
	return s.compare(m, signalNames[signal], since, s.a, s.b)
}

// resume continues the Active that hangs, and waits until the other router, which has the
// lower priority, has yielded.
func (s *site) resume(ctx context.Context, m map[row]sample) error {
	since := time.Now()
	if err := s.active.SignalAll(syscall.SIGCONT); err != nil {
		return err
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	return s.compare(m, signalNames[syscall.SIGCONT], since, s.b, s.a)
}

// compare measures in the answers how one host followed the other after a moment.
func (s *site) compare(m map[row]sample, event string, since time.Time, from, to *lab.Node) error {
	until := time.Now()
	all := s.asker.Answers()
	record := func(kind string, answers lab.Answers) error {
		h := answers.Handover(from, to, since)
		if h.FirstNew.IsZero() || h.LastOld.IsZero() {
			return fmt.Errorf("%s, %s: %s answered last at %v, %s first at %v", event, kind, from.Name, h.LastOld, to.Name, h.FirstNew)
		}
		m[row{event, two, kind}] = sample{h.Overlap, h.Overlap > 0 && until.Sub(h.LastOld) < stillAnswers}
		m[row{event, none, kind}] = sample{h.Gap, false}
		return nil
	}
	m[row{event, pause, ""}] = sample{s.asker.Pause(since, until), false}
	errs := []error{record(total, all)}
	for _, q := range lab.Questions {
		errs = append(errs, record(kind(s.options, q), all.To(q)))
	}
	return errors.Join(errs...)
}
