// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// A script is a list of events, each with the forms that are sent after it behind ">".
// Events are start, stop, timer, wait (100 ms), and for an advertisement its priority
// with o for the old or n for the new form.
func TestChecksumScripts(t *testing.T) {
	t.Attr("proves", "C-07 C-08 K-01")
	const old, current, both = "rfc5798", "rfc9568", "rfc9568+rfc5798"
	for _, c := range []struct {
		name   string
		policy ChecksumPolicy
		script string
	}{
		{"C-08 nobody is known", ChecksumAuto, "start> timer>" + both + " timer>" + both + " stop>" + both},
		{"C-08 Backup learns the Active's", ChecksumAuto, "start> 200o> 200o> timer>" + old + " timer>" + old + " stop>" + old},
		{"C-08 Backup learns RFC 9568's", ChecksumAuto, "start> 200n> timer>" + both + " timer>" + both + " stop>" + both},
		{"C-08 Backup learns from a leave", ChecksumAuto, "start> 200o> 0o> timer>" + old},
		{"C-08 the last two count", ChecksumAuto, "start> 200o> 200o> 200n> 200n> timer>" + both},
		{"C-08 peers of both forms", ChecksumAuto, "start> 200n> 200o> timer>" + both + " timer>" + both + " stop>" + both},
		{"C-08 a rival in the other form", ChecksumAuto, "start> timer>" + both + " wait> 50o>" + old + " timer>" + old + " stop>" + old},
		{"C-08 one that leaves in the other form", ChecksumAuto, "start> timer>" + both + " wait> 0o>" + old + " timer>" + old},
		{"C-08 a rival in the same form", ChecksumAuto, "start> timer>" + both + " wait> 50n>" + both + " timer>" + both},
		{"C-08 rivals of both forms", ChecksumAuto, "start> timer>" + both + " wait> 50o>" + old + " wait> 60n>" + both + " timer>" + both},
		{"C-08 learnt, then a rival in the other", ChecksumAuto, "start> 200o> 200o> timer>" + old + " wait> 50n>" + both + " wait> 50o>" + both},
		{"C-08 each time Active, the first change is a whole one", ChecksumAuto, "start> timer>" + both + " wait> 50o>" + old + " wait> 200o> timer>" + old + " wait> 50n>" + both},
		{"C-08 yields to the other form", ChecksumAuto, "start> 90n> timer>" + both + " wait> 200o> timer>" + old},
		{"C-08 survives Initialize", ChecksumAuto, "start> 200o> 200o> stop> start> timer>" + old},
		{"C-08 learnt while Active survives too", ChecksumAuto, "start> timer>" + both + " wait> 50o>" + old + " wait> 50o>" + old + " stop>" + old + " start> timer>" + old},
		{"C-07 only RFC 9568", ChecksumOnlyRFC9568, "start> 200o> timer>" + current + " wait> 50o> timer>" + current + " wait> 50n>" + current + " stop>" + current},
		{"C-07 only RFC 5798", ChecksumOnlyRFC5798, "start> 200n> timer>" + old + " wait> 50n> timer>" + old + " wait> 50o>" + old + " stop>" + old},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, func(cfg *Config) { cfg.Checksum = c.policy })
			for n, step := range strings.Fields(c.script) {
				word, want, _ := strings.Cut(step, ">")
				var actions []Action
				switch word {
				case "start":
					actions = m.startup()
				case "stop":
					actions = m.shutdown()
				case "timer":
					actions = m.adverTimer()
				case "wait":
					m.pass(100 * time.Millisecond)
				default:
					var priority uint8
					var form rune
					if _, err := fmt.Sscanf(word, "%d%c", &priority, &form); err != nil {
						t.Fatalf("%s: %v", word, err)
					}
					wire := packet.ChecksumRFC9568
					if form == 'o' {
						wire = packet.ChecksumRFC5798
					}
					actions = m.hear(m.heard(priority), greater(packet.IPv4), wire)
				}
				if got := sent(actions); got != want {
					t.Errorf("step %d, %s: sent in %q, want %q", n, word, got, want)
				}
			}
		})
	}
}

// adverTimer advances the time until an advertisement is sent.
func (m *machine) adverTimer() []Action {
	for range 4 { // addresses may be announced before
		if actions := m.expire(); sent(actions) != "" {
			return actions
		}
	}
	return nil
}

// C-07: an advertisement in a refused form changes nothing.
func TestChecksumRefused(t *testing.T) {
	t.Attr("proves", "C-07")
	for policy, wrong := range map[ChecksumPolicy]packet.Checksum{
		ChecksumOnlyRFC9568: packet.ChecksumRFC5798,
		ChecksumOnlyRFC5798: packet.ChecksumRFC9568,
	} {
		for _, build := range []func(*machine) *machine{(*machine).backup, (*machine).active} {
			m := build(newMachine(t, func(c *Config) { c.Checksum = policy }))
			before, left := m.Status(), m.left()
			for _, p := range []uint8{0, 50, 100, 255} {
				m.expect("C-07 R-11", m.hear(m.heard(p), greater(packet.IPv4), wrong), "refused:checksum_errors", before.State, left)
			}
			if m.Status() != before {
				t.Errorf("status %+v, was %+v", m.Status(), before)
			}
		}
	}
}

// C-01, C-02: version 2 and IPv6 have one form, and the policy changes nothing.
func TestChecksumSingleForm(t *testing.T) {
	t.Attr("proves", "C-01 C-02")
	for _, x := range []exact{exactTimers[0], exactTimers[2]} {
		for _, policy := range []ChecksumPolicy{ChecksumAuto, ChecksumOnlyRFC9568, ChecksumOnlyRFC5798} {
			t.Run(fmt.Sprintf("C-01 C-02 %s policy %d", x.name, policy), func(t *testing.T) {
				m := newMachine(t, func(c *Config) { c.Version, c.Family, c.Checksum = x.version, x.family, policy }).active()
				for range 3 {
					if got := sent(m.expire()); got != "rfc9568" {
						t.Errorf("sent in %q", got)
					}
				}
				m.expect("accepted", m.receive(200, greater(x.family)), "advertisement_rcvd release Active>Backup", Backup, 3609375*time.Microsecond)
			})
		}
	}
}

// K-01: advertisements in RFC 5798's form are counted, and the status has the forms that
// are sent.
func TestChecksumReported(t *testing.T) {
	t.Attr("proves", "K-01")
	m := newMachine(t, nil).active()
	if got := m.Status().Checksum; got != packet.ChecksumRFC9568|packet.ChecksumRFC5798 {
		t.Errorf("starts with %v", got)
	}
	actions := m.hear(m.heard(50), greater(packet.IPv4), packet.ChecksumRFC5798)
	if got, want := say(actions), "advertisement_rcvd csum_5798_form ADV(100) announce"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := m.Status().Checksum; got != packet.ChecksumRFC5798 {
		t.Errorf("goes on with %v", got)
	}
}
