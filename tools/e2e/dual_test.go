// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// dualArgs returns the arguments of a router that speaks both versions.
func dualArgs(priority string) []string {
	return []string{"--iface", ifname, "--vip", "198.18.0.10/24", "--vrid", "51", "--dual", "--interval", "500ms", "--priority", priority}
}

// versions counts the advertisements of each version that a node has sent.
func (s *site) versions(n *lab.Node) (count [4]int, intervals [4]time.Duration) {
	for _, f := range s.capture.Frames() {
		if a, _, _, ok := f.Advertisement(); ok && f.From == n.Name {
			count[a.Version]++
			intervals[a.Version] = a.Interval
		}
	}
	return count, intervals
}

// I-02 to I-04, I-07: two routers that speak both versions fail over like two of version 3. The
// Backup uses the interval of version 3.
func TestDual(t *testing.T) {
	t.Parallel()
	t.Attr("proves", "I-02 I-03 I-04 I-07")
	s := newSite(t)
	a := s.failoverd(s.a, dualArgs("200")...)
	s.waitHolder("198.18.0.10", s.a)
	b := s.failoverd(s.b, dualArgs("100")...)
	line := s.waitState(b, 0, "ipv4", "Backup")
	time.Sleep(3 * time.Second)
	if len(b.Transitions()) != 1 {
		t.Fatalf("it did not stay Backup:\n%s", b.Output())
	}
	count, intervals := s.versions(s.a)
	if count[2] < 3 || count[3] < 3 || intervals[2] != time.Second || intervals[3] != 500*time.Millisecond {
		t.Errorf("advertisements by version %v, intervals %v", count, intervals)
	}

	s.ok(s.ports[s.a].Pull())
	tr, _, err := b.WaitState(s.ctx, line, "ipv4", "Active")
	s.ok(err)
	s.waitHolder("198.18.0.10", s.b)
	if want := "Active_Down_Interval 1.805s"; !strings.Contains(tr.Cause, want) {
		t.Errorf("cause %q, want %s", tr.Cause, want)
	}
	s.ok(s.ports[s.a].Plug())
	s.waitHolder("198.18.0.10", s.a)
	s.answeredBy("198.18.0.10", s.a)
	s.stop(s.a, a)
	s.waitHolder("198.18.0.10", s.b)
	s.stop(s.b, b)
}

// I-01, I-08: a router that speaks both versions stands by for keepalived of either version, and
// keeps it Backup.
func TestDualBesideOldAndNew(t *testing.T) {
	t.Parallel()
	t.Attr("proves", "I-01 I-02 I-08")
	s := newSite(t)
	d := s.host("d", 3)
	a := s.failoverd(s.a, "--iface", ifname, "--vip", "198.18.0.10/24", "--vrid", "51", "--dual", "--priority", "200")
	s.waitHolder("198.18.0.10", s.a)
	var peers []*lab.Process
	for version, n := range map[int]*lab.Node{2: s.b, 3: d} {
		p, err := n.Keepalived(lab.KeepalivedConfig{Interface: ifname, Version: version, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []string{"198.18.0.10/24"}})
		s.ok(err)
		peers = append(peers, p)
	}
	// Longer than their Active_Down_Interval. The keepalived of version 3 may advertise once
	// before it is answered in its checksum form (C-08).
	time.Sleep(6 * time.Second)
	s.answeredBy("198.18.0.10", s.a)
	if count, _ := s.versions(s.b); count[2] > 0 {
		t.Errorf("keepalived of version 2 took over:\n%s", s.capture.VRRP())
	}
	if count, _ := s.versions(d); count[3] > 1 {
		t.Errorf("keepalived of version 3 took over:\n%s", s.capture.VRRP())
	}
	for _, p := range peers {
		_, err := p.Stop(s.ctx)
		s.ok(err)
	}
	s.stop(s.a, a)
}
