// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// The checklist's section 3.1, Skew_Time and Active_Down_Interval in ms.
const timerTable = `
  1 9.9609/39.9609 99.6094/399.6094 249.0234/999.0234 996.0938/3996.0938 40790.0391/163640.0391 996.0938/3996.0938 996.0938/9996.0938
 50 8.0469/38.0469 80.4688/380.4688 201.1719/951.1719 804.6875/3804.6875 32951.9531/155801.9531 804.6875/3804.6875 804.6875/9804.6875
100 6.0938/36.0938 60.9375/360.9375 152.3438/902.3438 609.3750/3609.3750 24953.9063/147803.9063 609.3750/3609.3750 609.3750/9609.3750
200 2.1875/32.1875 21.8750/321.8750 54.6875/804.6875 218.7500/3218.7500 8957.8125/131807.8125 218.7500/3218.7500 218.7500/9218.7500
254 0.0781/30.0781 0.7813/300.7813 1.9531/751.9531 7.8125/3007.8125 319.9219/123169.9219 7.8125/3007.8125 7.8125/9007.8125
`

var timerColumns = []struct {
	version  uint8
	interval time.Duration
}{
	{3, 10 * time.Millisecond},
	{3, 100 * time.Millisecond},
	{3, 250 * time.Millisecond},
	{3, time.Second},
	{3, 40950 * time.Millisecond},
	{2, time.Second},
	{2, 3 * time.Second},
}

// exactSkew is Skew_Time in ns, as a fraction.
func exactSkew(version, priority uint8, interval time.Duration) *big.Rat {
	unit := interval
	if version == 2 {
		unit = time.Second // RFC 3768 §6.1: in seconds, whatever the interval
	}
	return big.NewRat((256-int64(priority))*int64(unit), 256)
}

// near reports whether d differs from the exact value by less than a nanosecond.
func near(d time.Duration, exact *big.Rat) bool {
	diff := new(big.Rat).Sub(new(big.Rat).SetInt64(int64(d)), exact)
	return diff.Abs(diff).Cmp(big.NewRat(1, 1)) < 0
}

// TM-01: values are rounded only to nanoseconds.
func TestTimerTable(t *testing.T) {
	t.Attr("proves", "TM-01 TM-04 TM-06")
	for line := range strings.Lines(strings.TrimSpace(timerTable)) {
		cells := strings.Fields(line)
		var priority uint8
		if _, err := fmt.Sscan(cells[0], &priority); err != nil {
			t.Fatal(err)
		}
		for n, cell := range cells[1:] {
			c := timerColumns[n]
			t.Run(fmt.Sprintf("TM-01 priority %d v%d %v", priority, c.version, c.interval), func(t *testing.T) {
				m := newMachine(t, func(cfg *Config) { cfg.Version, cfg.Interval, cfg.Priority = c.version, c.interval, priority }).backup()
				skew := exactSkew(c.version, priority, c.interval)
				down := new(big.Rat).Add(skew, new(big.Rat).SetInt64(3*int64(c.interval)))
				s := m.Status()
				if !near(s.SkewTime, skew) || !near(s.ActiveDownInterval, down) || m.left() != s.ActiveDownInterval {
					t.Errorf("%d / %d ns, deadline in %d, want %v / %v", s.SkewTime, s.ActiveDownInterval, m.left(), skew, down)
				}
				million := big.NewRat(1e6, 1)
				if got := skew.Quo(skew, million).FloatString(4) + "/" + down.Quo(down, million).FloatString(4); got != cell {
					t.Errorf("the formula gives %s, the table has %s", got, cell)
				}
			})
		}
	}
}

// TM-01, Q-06: two priorities never expire together, not even at 1 cs.
func TestSkewSeparatesPriorities(t *testing.T) {
	t.Attr("proves", "Q-06 TM-01")
	for _, c := range timerColumns {
		unit := c.interval
		if c.version == 2 {
			unit = time.Second
		}
		last := time.Duration(0)
		for p := 254; p >= 1; p-- {
			m := newMachine(t, func(cfg *Config) { cfg.Version, cfg.Interval, cfg.Priority = c.version, c.interval, uint8(p) }).backup()
			skew := m.Status().SkewTime
			if skew-last < unit/256 {
				t.Fatalf("v%d %v: priority %d waits only %v longer than %d", c.version, c.interval, p, skew-last, p+1)
			}
			last = skew
		}
	}
}

// TM-08, TM-09: the extreme intervals of the wire format are learnt and replaced again,
// and no learnt interval sets a timer that has expired already.
func TestLearntExtremes(t *testing.T) {
	t.Attr("proves", "TM-08 TM-09")
	m := newMachine(t, func(c *Config) { c.Priority = 254 }).backup()
	for _, c := range []struct{ interval, want time.Duration }{
		{10 * time.Millisecond, 30078125},
		{40950 * time.Millisecond, 123169921875},
		{10 * time.Millisecond, 30078125},
	} {
		m.pass(time.Millisecond)
		a := m.heard(254)
		a.Interval = c.interval
		m.expect("TM-09 "+c.interval.String(), m.hear(a, less(m.c.Family), packet.ChecksumRFC9568), "interval_errors advertisement_rcvd", Backup, c.want)
		m.expect("TM-08 not yet", m.timer(), "", Backup, c.want)
	}
}

// A TimerExpired event before the deadline, or a second one after it, does nothing.
func TestSpuriousTimers(t *testing.T) {
	for _, build := range []func(*machine) *machine{(*machine).backup, (*machine).active} {
		m := build(newMachine(t, nil))
		left := m.left()
		for _, early := range []time.Duration{left, left / 2, 1} {
			m.now = m.deadline.Add(-early)
			m.expect("early", m.timer(), "", m.State(), early)
		}
		m.pass(1)
		if len(m.timer()) == 0 {
			t.Error("nothing happens at the deadline")
		}
		m.expect("again", m.timer(), "", Active, time.Second)
	}
}

// TM-02: a router that was stopped for many intervals sends one advertisement, not all
// that it missed, and then one every interval.
func TestSkipAhead(t *testing.T) {
	t.Attr("proves", "TM-02")
	for _, late := range []time.Duration{time.Second, 1001 * time.Millisecond, time.Hour, 365 * 24 * time.Hour} {
		t.Run("S-A2 "+late.String(), func(t *testing.T) {
			m := newMachine(t, nil).active()
			m.pass(m.left() + late)
			m.expect("late", m.timer(), "ADV(100)", Active, time.Second)
			m.expect("no burst", m.timer(), "", Active, time.Second)
			m.expect("rhythm", m.expire(), "ADV(100)", Active, time.Second)
		})
	}
	t.Run("S-B2", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.pass(time.Hour)
		m.expect("late", m.timer(), "Backup>Active assign ADV(100) announce", Active, time.Second)
		m.expect("no burst", m.timer(), "", Active, time.Second)
	})
	t.Run("queued advertisements count", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		for range 60 {
			m.pass(time.Second)
			m.receive(200, greater(m.c.Family))
		}
		m.expect("the Active lives", m.timer(), "", Backup, 3609375*time.Microsecond)
		m.now -= second // delivered late and out of order
		m.receive(200, greater(m.c.Family))
		m.now += second
		m.expect("an old one changes nothing", m.timer(), "", Backup, 3609375*time.Microsecond)
	})
}
