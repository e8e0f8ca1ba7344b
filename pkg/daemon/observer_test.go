// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// O-10, O-02: what packets cause is logged once in ten seconds for each router,
// peer and reason, with the number of those that were held back.
func TestLogIsLimited(t *testing.T) {
	t.Attr("proves", "O-02 O-10")
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
		o := newObserver(log, nil, control.NewHistory())
		limited := &limiter{last: make(map[string]time.Time), held: make(map[string]int)}
		finding := func(vrid uint8, peer string, reason packet.Reason) {
			o.write(router.Finding{
				ID:     router.ID{Interface: "eth0", Family: packet.IPv4, VRID: vrid},
				Action: vrrp.Action{Kind: vrrp.Report, Reason: reason, Peer: netip.MustParseAddr(peer)},
			}, limited)
		}
		for range 1000 {
			finding(51, "192.0.2.2", packet.ErrOwnerConflict)
			finding(51, "192.0.2.3", packet.ErrOwnerConflict)
			finding(52, "192.0.2.2", packet.ErrOwnerConflict)
			finding(51, "192.0.2.2", packet.ErrInterval)
			o.write(router.Failure{Action: "send", Err: errors.New("no buffer space")}, limited)
		}
		if n := strings.Count(out.String(), "\n"); n != 5 {
			t.Errorf("%d lines, want one of each kind:\n%s", n, out.String())
		}
		out.Reset()
		time.Sleep(quiet)
		finding(51, "192.0.2.2", packet.ErrOwnerConflict)
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "suppressed=999") {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// Addresses that somebody makes up don't fill the memory.
func TestLimiterIsBounded(t *testing.T) {
	l := &limiter{last: make(map[string]time.Time), held: make(map[string]int)}
	for n := range 10000 {
		l.allow(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}).String())
		if len(l.last) > 1100 {
			t.Fatalf("%d kinds are kept", len(l.last))
		}
	}
}
