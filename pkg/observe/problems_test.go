// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

var problemsID = router.ID{Interface: "eth0", Family: packet.IPv4, VRID: 51}

// problemRig is a Problems with a clock of its own.
type problemRig struct {
	*Problems
	now time.Time
}

func newProblemRig() *problemRig {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &problemRig{NewProblems(log, control.NewHistory(), NewLogBudget()), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// see notes an observation several times, at the given interval.
func (k *problemRig) see(s Observation, times int, every time.Duration) {
	for range times {
		k.now = k.now.Add(every)
		k.Note(k.now, problemsID, s)
		k.tick(k.now)
	}
}

func (k *problemRig) events() (all []string) {
	events, _ := k.history.After(0)
	for _, e := range events {
		all = append(all, e.Text)
	}
	return all
}

// A problem is logged once when it begins, and once when it ends.
func TestProblemBeginsAndEnds(t *testing.T) {
	k := newProblemRig()
	s := Observation{Kind: control.Interval, Peer: "192.0.2.2", Text: "the text", Remedy: "the remedy", Interval: time.Second}
	k.see(s, 5, time.Second)
	want := []control.Problem{{Kind: "interval", Peer: "192.0.2.2", Since: k.now.Add(-4 * time.Second), Last: k.now, Count: 5, Text: "the text", Remedy: "the remedy"}}
	if diff := cmp.Diff(want, k.of(problemsID)); diff != "" {
		t.Error(diff)
	}
	if other := k.of(router.ID{Interface: "eth0", Family: packet.IPv6, VRID: 51}); len(other) > 0 {
		t.Errorf("another router has %v", other)
	}
	k.tick(k.now.Add(12*time.Second - 1))
	if len(k.of(problemsID)) != 1 {
		t.Error("the problem ended before three times the Active_Down_Interval")
	}
	k.tick(k.now.Add(12 * time.Second))
	if all := k.of(problemsID); len(all) > 0 {
		t.Errorf("the problem doesn't end: %v", all)
	}
	if diff := cmp.Diff([]string{"interval: the text: the remedy", "interval over after 4s: the text"}, k.events()); diff != "" {
		t.Error(diff)
	}
}

// Invented addresses don't fill the memory.
func TestProblemsAreBounded(t *testing.T) {
	k := newProblemRig()
	for n := range 1000 {
		k.see(Observation{Kind: control.Interval, Peer: fmt.Sprint(n)}, 1, time.Microsecond)
	}
	if n := len(k.of(problemsID)); n != maxProblemPeers {
		t.Errorf("%d problems of a kind", n)
	}
}

// A finding of the state machine becomes a problem with the values of both routers.
func TestObservationOf(t *testing.T) {
	said := func(priority uint8, interval time.Duration, addresses ...string) vrrp.Parameters {
		s := vrrp.Parameters{Version: 3, Priority: priority, Interval: interval}
		for _, a := range addresses {
			s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
		}
		return s
	}
	ours := said(100, 100*time.Millisecond, "192.0.2.10", "192.0.2.11")
	same := said(90, 100*time.Millisecond, "192.0.2.10", "192.0.2.11")
	typed := same
	typed.AuthType = 1
	for _, x := range []struct {
		reason     packet.Reason
		state      vrrp.State
		theirs     vrrp.Parameters
		refused    bool
		kind, text string
	}{
		{packet.ReasonAdvertisementReceived, vrrp.Active, same, false, "two_actives", "192.0.2.2 (priority 90) is Active at the same time as this host (priority 100)"},
		{packet.ReasonAdvertisementReceived, vrrp.Active, said(0, time.Second), false, "", ""},
		{packet.ReasonAdvertisementReceived, vrrp.Active, said(101, time.Second), false, "", ""},
		{packet.ErrOwnerConflict, vrrp.Active, same, false, "two_actives", "doesn't yield"},
		{packet.ErrOwnerConflict, vrrp.Active, same, false, "two_actives", "vmac_xmit_base"},
		{packet.ErrInterval, vrrp.Backup, said(90, time.Second), false, "interval", "192.0.2.2 advertises every 1s, this host every 100ms"},
		{packet.ErrInterval, vrrp.Backup, said(90, time.Second), true, "interval", "this host ignores it"},
		{packet.ErrAddressList, vrrp.Backup, said(90, time.Second, "192.0.2.10", "192.0.2.12"), false, "address_list", "192.0.2.2 has 192.0.2.12, which this host lacks, and lacks 192.0.2.11, which this host has"},
		{packet.ErrAddressList, vrrp.Backup, said(90, time.Second, "192.0.2.10"), false, "address_list", "192.0.2.2 lacks 192.0.2.11"},
		{packet.ErrAddressList, vrrp.Active, said(90, time.Second, "192.0.2.77"), false, "duplicate_vrid", "192.0.2.2 uses VRID 51 for 192.0.2.77, this host for 192.0.2.10 192.0.2.11"},
		{packet.ErrAddrCount, vrrp.Backup, said(90, time.Second), true, "duplicate_vrid", "192.0.2.2 uses VRID 51 for no address, and this host ignores it: both become Active"},
		{packet.ErrAuth, vrrp.Backup, typed, true, "authentication", "this host ignores 192.0.2.2: authentication data is wrong: another password or key"},
		{packet.ErrAuthType, vrrp.Backup, typed, true, "authentication", "192.0.2.2 has authentication type 1, this host 0"},
		{packet.ErrVersion, vrrp.Backup, same, true, "version", "another version"},
		{packet.ErrChecksum, vrrp.Backup, same, true, "checksum", "checksums"},
		{packet.ErrOwnSource, vrrp.Backup, same, true, "own_address", "own address"},
		{packet.ErrZeroInterval, vrrp.Backup, same, true, "", ""},
	} {
		f := router.Finding{ID: problemsID, Action: vrrp.Action{
			Kind: vrrp.Report, Reason: x.reason, Peer: netip.MustParseAddr("192.0.2.2"), Refused: x.refused,
			Comparison: &vrrp.Comparison{State: x.state, Ours: ours, Theirs: x.theirs},
		}}
		s, ok := observationOf(f, len(x.theirs.Addresses))
		if ok != (x.kind != "") || ok && (s.Kind != x.kind || !strings.Contains(s.Text+" -> "+s.Remedy, x.text) || s.Remedy == "") {
			t.Errorf("%v while %v: %+v, %v", x.reason, x.state, s, ok)
		}
	}
}

// An Active of this router's version may send the other version too.
func TestDiscardObservation(t *testing.T) {
	d := datapath.Discard{Source: netip.MustParseAddr("192.0.2.2"), ReceivedAt: 5}
	if got, ok := discardObservation(packet.ErrVersion, d, router.Status{ID: problemsID, Protocol: vrrp.Status{Since: 6}}); ok {
		t.Errorf("before the state was entered: %+v", got)
	}
	for active, want := range map[string]bool{"192.0.2.2": false, "192.0.2.3": true} {
		s := router.Status{ID: problemsID, Protocol: vrrp.Status{Active: netip.MustParseAddr(active)}}
		if got, ok := discardObservation(packet.ErrVersion, d, s); ok != want || ok && got.Kind != control.Version {
			t.Errorf("with %s Active: %+v, %v", active, got, ok)
		}
	}
}

// followed returns the status of a router that has heard an advertisement with the interval; 0
// means that it has heard none.
func followed(t *testing.T, c vrrp.Config, interval time.Duration, now vrrp.Instant) vrrp.Status {
	t.Helper()
	c.Version, c.VRID, c.Family, c.Interval = 3, 51, packet.IPv4, 100*time.Millisecond
	c.Priority, c.Preempt, c.Addresses = 100, true, []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	r, err := vrrp.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Step(now, vrrp.Event{Kind: vrrp.Startup, Source: netip.MustParseAddr("192.0.2.1")}, nil)
	if interval != 0 {
		a := packet.Advertisement{Version: 3, VRID: 51, Priority: 255, Interval: interval, Addresses: c.Addresses}
		r.Step(now, vrrp.Event{Kind: vrrp.Receive, Advertisement: a, From: netip.MustParseAddr("192.0.2.77"), Checksum: packet.ChecksumRFC9568}, nil)
	}
	r.Step(now, vrrp.Event{Kind: vrrp.TimerExpired}, nil)
	return r.Status()
}

// A Backup that waits for an Active much longer than its own interval suggests reports the
// problem, how long the Active has been silent, and when it takes over.
func TestSlowActive(t *testing.T) {
	const heard = vrrp.Instant(time.Hour)
	const longest = 40950 * time.Millisecond
	for _, x := range []struct {
		name     string
		most     time.Duration
		interval time.Duration
		after    time.Duration
		want     []string
	}{
		{"nobody", 0, 0, 0, nil},
		{"ten times, but soon enough", 0, time.Second, 0, nil},
		{"heard", 0, longest, 0, []string{"follows 192.0.2.77, whose interval of 40.95s is 409 times the 100ms of this host: if it fails, this host takes over only after 2m28s", "max_interval"}},
		{"silent", 0, longest, 12 * time.Second, []string{"and which has been silent for 12s: this host takes over in 2m16s at the latest"}},
		{"due", 0, longest, 3 * time.Minute, []string{"in 0s"}},
		{"bounded", time.Second, longest, 0, nil},
		{"hardly bounded", 20 * time.Second, longest, 0, []string{"of 40.95s", "only after 1m12s", "a lower max_interval"}},
	} {
		p := followed(t, vrrp.Config{MaxInterval: x.most}, x.interval, heard)
		s, ok := slowActive(p, heard.Add(x.after))
		if ok != (x.want != nil) || ok && (s.Kind != control.SlowActive || s.Peer != "192.0.2.77") {
			t.Errorf("%s: %+v, %v", x.name, s, ok)
		}
		for _, want := range x.want {
			if text := s.Text + " -> " + s.Remedy; !strings.Contains(text, want) {
				t.Errorf("%s: %q lacks %q", x.name, text, want)
			}
		}
	}
	if s, ok := slowActive(vrrp.Status{}, heard); ok {
		t.Errorf("reported for a router in Initialize: %+v", s)
	}
}

// Two hosts with priority 255 have a problem: the one that yields as long as it follows the other
// one, and the Active when it hears the other one.
func TestTwoOwners(t *testing.T) {
	said := vrrp.Parameters{Version: 3, Priority: vrrp.OwnerPriority, Interval: time.Second}
	for _, state := range []vrrp.State{vrrp.Active, vrrp.Backup} {
		log := logrus.New()
		log.SetOutput(io.Discard)
		o := newTestObserver(log)
		o.findings.note(time.Now(), &router.Finding{ID: problemsID, Action: vrrp.Action{
			Kind: vrrp.Report, Reason: packet.ErrOwnerConflict, Peer: netip.MustParseAddr("192.0.2.77"),
			Comparison: &vrrp.Comparison{State: state, Ours: said, Theirs: said},
		}})
		o.noteFindings(time.Now(), true)
		shown := func(now time.Time) bool {
			o.problems.tick(now)
			all := o.problems.of(problemsID)
			return len(all) == 1 && all[0].Kind == control.TwoOwners && all[0].Peer == "192.0.2.77"
		}
		if !shown(time.Now()) {
			t.Errorf("%v: %v", state, o.problems.of(problemsID))
		}
		if state == vrrp.Active {
			continue
		}
		p := vrrp.Status{State: vrrp.Backup, Priority: vrrp.OwnerPriority, ActivePriority: vrrp.OwnerPriority, Active: netip.MustParseAddr("192.0.2.77")}
		look := func() ([]router.Status, error) { return []router.Status{{ID: problemsID, Protocol: p}}, nil }
		now := time.Now()
		for range 100 {
			now = now.Add(checkEvery)
			if o.noteFollowed(now, look); !shown(now) {
				t.Fatalf("the problem ended after %v, while the router follows the other owner", time.Until(now))
			}
		}
		p.ActivePriority = 100
		for range 3 {
			now = now.Add(checkEvery)
			o.noteFollowed(now, look)
		}
		if shown(now) {
			t.Error("the problem doesn't end")
		}
	}
}

// A slow Active is logged once, and the problem ends as soon as the router stops following it.
func TestSlowActiveIsOver(t *testing.T) {
	now := process.Clock{}.Now()
	slow, fast := followed(t, vrrp.Config{}, 40*time.Second, now), followed(t, vrrp.Config{}, 100*time.Millisecond, now)
	var current vrrp.Status
	asked := 0
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := newTestObserver(log)
	look := func() ([]router.Status, error) {
		asked++
		return []router.Status{{ID: problemsID, Protocol: current}}, nil
	}
	said := func(interval time.Duration) vrrp.Parameters {
		return vrrp.Parameters{Version: 3, Priority: 255, Interval: interval}
	}
	hear := func(interval time.Duration) {
		o.findings.note(time.Now(), &router.Finding{ID: problemsID, Action: vrrp.Action{
			Kind: vrrp.Report, Reason: packet.ErrInterval, Peer: netip.MustParseAddr("192.0.2.77"),
			Comparison: &vrrp.Comparison{State: vrrp.Backup, Ours: said(100 * time.Millisecond), Theirs: said(interval)},
		}})
	}
	wall := time.Now()
	tick := func() {
		wall = wall.Add(checkEvery)
		o.noteFollowed(wall, look)
		o.problems.tick(wall)
	}
	shown := func() (n int) {
		for _, p := range Refresh(o.problems.of(problemsID), current, now) {
			if p.Kind == control.SlowActive {
				n++
			}
		}
		return n
	}
	current = slow
	tick()
	hear(200 * time.Millisecond)
	tick()
	if asked != 0 {
		t.Error("the loop's status is read without a reason")
	}
	for range 5 {
		hear(40 * time.Second)
		tick()
	}
	if shown() != 1 {
		t.Errorf("shown %d times: %v", shown(), o.problems.of(problemsID))
	}
	current = fast
	if shown() != 0 {
		t.Error("shown for a router that follows another Active")
	}
	for range 3 {
		tick()
	}
	asked = 0
	tick()
	if asked != 0 {
		t.Error("the loop's status is still read")
	}
	var told []string
	events, _ := o.history.After(0)
	for _, e := range events {
		if e.Kind == "problem" && strings.HasPrefix(e.Text, control.SlowActive) {
			told = append(told, e.Text)
		}
	}
	if len(told) != 2 || !strings.HasPrefix(told[1], "slow_active over after ") {
		t.Errorf("logged: %q", told)
	}
}

// A problem that is cleared isn't shown any more, although its retention isn't over.
func TestProblemIsOver(t *testing.T) {
	k := newProblemRig()
	k.see(Observation{Kind: control.Stuck, Text: "the text", Remedy: "the remedy", Interval: time.Minute}, 1, time.Second)
	k.see(Observation{Kind: control.Interval, Peer: "192.0.2.2", Text: "another", Remedy: "the remedy", Interval: time.Minute}, 1, time.Second)
	k.Clear(k.now, problemsID, control.Stuck)
	k.Clear(k.now, problemsID, control.Stuck) // there is no such problem
	if all := k.of(problemsID); len(all) != 1 || all[0].Kind != control.Interval {
		t.Errorf("left: %+v", all)
	}
	if all := k.events(); len(all) != 3 || !strings.HasPrefix(all[2], "stuck over after ") {
		t.Errorf("logged: %q", all)
	}
}
