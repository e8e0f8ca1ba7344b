// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	stormRate = 100_000 // frames in a second
	stormTime = 3 * time.Second
	// The guards of pkg/vrrp: the least time between two answers to rivals, and the time in which
	// an address is announced at most twice.
	answerSpacing   = 10 * time.Millisecond
	announceSpacing = 100 * time.Millisecond
	// late is the delay that a busy machine may cause.
	late = 200 * time.Millisecond
)

// storm is one kind of advertisement, sent again and again.
type storm struct {
	name string
	// frames returns the frames of the storm.
	frames func(s *stormSite) [][]byte
	// rival is true if RFC 9568 demands an answer of the Active.
	rival bool
	// resets is true if the frames restart Adver_Timer.
	resets bool
}

var (
	// S-T1, Q-02: the Active's own advertisements come back to it. The Backup hears the Active.
	stormOfOwn = storm{name: "S-T1 Q-02 own frames", frames: (*stormSite).ownFrames}
	// S-A5: a router of the same priority with a lower address. For the Backup its priority is
	// higher than its own, like the Active's.
	stormOfEqual = storm{name: "S-T1 S-A5 equal priority", frames: func(s *stormSite) [][]byte { return s.advertise(100, 3) }, rival: true}
	// S-A5: a lower priority with a greater address. It is lower than the Backup's too, which then
	// hears only the Active (S-B5).
	stormOfLower = storm{name: "S-T1 S-A5 lower priority", frames: func(s *stormSite) [][]byte { return s.advertise(30, 201) }, rival: true}
	// S-A3: a stranger sends priority 0. The Backup heeds that of the Active only (TM-05).
	stormOfLeaves = storm{name: "S-T1 S-A3 TM-05 priority 0", frames: func(s *stormSite) [][]byte { return s.advertise(0, 3) }, rival: true, resets: true}
)

// S-T1, Q-02, S-A3, S-A5, TM-05: in a storm of 100,000 advertisements of any kind in a second, an
// Active stays Active, keeps its rhythm and sends no more than its guards allow. The Backup stays
// Backup.
func TestStorm(t *testing.T) {
	for _, c := range []struct {
		name string
		protocol
		interval time.Duration
		mode     string
		storms   []storm
	}{
		{"version 3 over IPv4", protocols[1], time.Second, "auto", []storm{stormOfOwn, stormOfEqual, stormOfLower, stormOfLeaves}},
		{"version 3 over IPv6", protocols[2], time.Second, "auto", []storm{stormOfOwn, stormOfLower}},
		{"version 2", protocols[0], time.Second, "auto", []storm{stormOfOwn, stormOfLower}},
		{"without XDP", protocols[1], time.Second, "off", []storm{stormOfOwn, stormOfLower}},
		{"every 100ms", protocols[1], 100 * time.Millisecond, "auto", []storm{stormOfOwn, stormOfLower, stormOfLeaves}},
	} {
		t.Run(c.name, func(t *testing.T) { // not in parallel, because it takes a whole CPU
			s := &stormSite{site: newSite(t), protocol: c.protocol, interval: c.interval}
			s.start("--xdp-mode", c.mode, "--announce-again", "0s")
			for _, st := range c.storms {
				t.Run(st.name, func(t *testing.T) { s.weather(t, st) })
			}
			s.stop(s.b, s.backup)
			s.stop(s.a, s.active)
		})
	}
}

// stormSite is an Active on node a, a Backup on node b, and a capture of node a's frames. The
// storms come from the client's port.
type stormSite struct {
	*site
	protocol
	interval       time.Duration
	active, backup *lab.Failoverd
}

func (s *stormSite) start(more ...string) {
	s.t.Helper()
	// The Active has the greatest address but one.
	for n, address := range lab.Addresses(200) {
		s.ok(s.a.RemoveAddress(ifname, lab.Addresses(1)[n]))
		s.ok(s.a.AddAddress(ifname, address))
	}
	s.ok(s.capture.Close())
	var err error
	s.capture, err = s.lan.CaptureFrom(s.a)
	s.ok(err)
	s.active = s.router(s.a, "100", more...)
	s.waitState(s.active, 0, s.family, "Active")
	announced := 0 // the first announcement isn't the last
	_, err = s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool {
		if f.Announces(s.asked, virtualMAC(s.asked)) {
			announced++
		}
		return announced == config.DefaultAnnouncements
	})
	s.ok(err)
	s.backup = s.router(s.b, "50", more...)
	s.waitState(s.backup, 0, s.family, "Backup")
}

func (s *stormSite) router(n *lab.Node, priority string, more ...string) *lab.Failoverd {
	s.t.Helper()
	args := []string{"--iface", ifname, "--priority", priority, "--interval", s.interval.String(), "--vrrp-version", string(rune('0' + s.version))}
	for _, a := range s.addresses {
		args = append(args, "--vip", a)
	}
	return s.failoverd(n, append(args, more...)...)
}

// ownFrames returns the different advertisements that the Active has sent so far. Over IPv4 in
// version 3 there is one in each checksum form.
func (s *stormSite) ownFrames() [][]byte {
	var all [][]byte
	for _, f := range s.capture.Frames() {
		if _, _, _, ok := f.Advertisement(); ok && !slices.ContainsFunc(all, func(o []byte) bool { return slices.Equal(o, f.Data) }) {
			all = append(all, f.Data)
		}
	}
	return all
}

// advertise returns an advertisement of another router on the LAN, whose addresses end in the
// number.
func (s *stormSite) advertise(priority uint8, number int) [][]byte {
	s.t.Helper()
	a := packet.Advertisement{Version: uint8(s.version), VRID: 51, Priority: priority, Interval: s.interval}
	for _, v := range s.addresses {
		a.Addresses = append(a.Addresses, netip.MustParsePrefix(v).Addr())
	}
	source := lab.Addresses(number)[0]
	if s.family == "ipv6" {
		source = lab.Addresses(number)[1]
	}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, byte(number)}, netip.MustParsePrefix(source).Addr(), &a, packet.ChecksumRFC9568)
	s.ok(err)
	return [][]byte{frame}
}

// weather sends one storm and judges what the Active sends meanwhile.
func (s *stormSite) weather(t *testing.T, st storm) {
	before := s.next(t, time.Now())
	// The storm lasts from the middle between two advertisements to the middle between two later
	// ones. A timer that its last frame restarted is then out of phase.
	time.Sleep(time.Until(before.Add(s.interval / 2)))
	blast, err := s.c.Blast(ifname, st.frames(s), stormRate, stormTime)
	if err != nil {
		t.Fatal(err)
	}
	// Frames that came before the end may be answered after it.
	end := blast.Ended.Add(late)
	after := s.next(t, end)

	sent := s.sent(before, after)
	answers, announcements := s.between(sent, blast.Began, end), s.announced(blast.Began, end)
	t.Logf("%v; %d advertisements, %d announcements", blast, answers, announcements)
	duration := end.Sub(blast.Began)
	own := int(duration/s.interval) + 2 // plus a late one from before
	mayAnswer, mayAnnounce := 0, 0
	if st.rival {
		// After a pause in the storm the next frames are answered again.
		mayAnnounce = 2 * (int(duration/announceSpacing) + 1)
		if s.version == 3 || st.resets {
			mayAnswer = int(duration/answerSpacing) + 1
		}
	}
	if answers > own+mayAnswer {
		t.Errorf("%d advertisements in %v, want no more than %d regular ones and %d answers", answers, duration, own, mayAnswer)
	}
	if announcements > mayAnnounce {
		t.Errorf("%d announcements in %v, want no more than %d", announcements, duration, mayAnnounce)
	}
	if mayAnswer > 0 && answers <= own || mayAnnounce > 0 && announcements == 0 {
		t.Errorf("%d advertisements and %d announcements: it answered no rival", answers, announcements)
	}
	s.rhythm(t, st, sent)
	s.undisturbed(t, st)
}

// rhythm checks the times of the Active's advertisements, from the last one before the storm to
// the first one after it.
func (s *stormSite) rhythm(t *testing.T, st storm, sent []time.Time) {
	t.Helper()
	if n := int(sent[len(sent)-1].Sub(sent[0]) / s.interval); len(sent) < n/2 {
		t.Errorf("%d advertisements in %d intervals", len(sent), n)
	}
	if s.interval <= 2*late {
		return // a busy machine may be late by more than an interval
	}
	for n := 1; n < len(sent); n++ {
		if gap := sent[n].Sub(sent[n-1]); gap > 2*s.interval {
			t.Errorf("silent for %v", gap)
		}
	}
	if st.resets {
		return
	}
	// A busy machine isn't late three times in a row.
	at := sent[len(sent)-1]
	for range 3 {
		if (at.Sub(sent[0])+late)%s.interval <= 2*late {
			return
		}
		at = s.next(t, at)
	}
	t.Errorf("it advertised %v after its last advertisement before the storm: Adver_Timer was restarted", at.Sub(sent[0]))
}

// undisturbed checks that neither router has changed its state, and that both log little.
func (s *stormSite) undisturbed(t *testing.T, st storm) {
	t.Helper()
	if got := s.active.Transitions(); len(got) != 2 {
		t.Errorf("the Active did not stay Active: %+v", got)
	}
	if got := s.backup.Transitions(); len(got) != 1 {
		t.Errorf("the Backup did not stay Backup: %+v", got)
	}
	if out := s.active.Output(); !st.rival && !strings.Contains(out, `"counter":"own_source"`) {
		t.Errorf("the log does not say that its own frames come back:\n%s", out)
	}
	for _, f := range []*lab.Failoverd{s.active, s.backup} {
		if n := len(f.Lines()); n > 50 {
			t.Errorf("%d lines of log", n)
		}
	}
}

// next waits for the first advertisement that the Active sends after a moment.
func (s *stormSite) next(t *testing.T, after time.Time) time.Time {
	t.Helper()
	n, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.At.After(after) && regular(f) })
	if err != nil {
		t.Fatal(err)
	}
	return s.capture.Frames()[n].At
}

// sent returns the times of the Active's advertisements, both moments included.
func (s *stormSite) sent(from, to time.Time) (at []time.Time) {
	for _, f := range s.capture.Frames() {
		if !f.At.Before(from) && !f.At.After(to) && regular(f) {
			at = append(at, f.At)
		}
	}
	return at
}

// regular reports whether an advertisement isn't the copy in the other checksum form.
func regular(f lab.Frame) bool {
	_, _, form, ok := f.Advertisement()
	return ok && form == packet.ChecksumRFC9568
}

func (s *stormSite) between(sent []time.Time, from, to time.Time) (count int) {
	for _, at := range sent {
		if at.After(from) && at.Before(to) {
			count++
		}
	}
	return count
}

func (s *stormSite) announced(from, to time.Time) (count int) {
	for _, f := range s.capture.Frames() {
		if f.At.After(from) && f.At.Before(to) && f.Announces(s.asked, virtualMAC(s.asked)) {
			count++
		}
	}
	return count
}
