// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func same(t testing.TB, want, got Advertisement) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

// stateful are the frames of the checklist's section 8 that only a router with its
// configuration can refuse, and one whose name can't be taken literally. All of them decode.
var stateful = map[string]struct {
	source string
	ad     Advertisement
}{
	"V08": {"192.0.2.2", Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V23": {"192.0.2.2", Advertisement{Version: 2, VRID: 53, Priority: 200, AuthType: 1, Interval: time.Second, Addresses: addrs("192.0.2.130"), AuthData: [8]byte([]byte("wrongpw\x00"))}},
	"V24": {"192.0.2.2", Advertisement{Version: 2, VRID: 52, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.222")}},
	"V29": {"192.0.2.2", Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V28": {"192.0.2.3", Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
}

// Each of the 31 frames is either read in full, or refused for the reason that
// the checklist's section 8 gives.
func TestVectors(t *testing.T) {
	t.Attr("proves", "F-01 R-03 R-04 R-06 R-07 R-08 R-09 R-10 R-11")
	frames := vectors(t)
	refused := map[string]Reason{
		"V12": ErrTTL, "V13": ErrTTL, "V14": ErrVersion, "V15": ErrType, "V16": ErrPacketLength,
		"V17": ErrChecksum, "V18": ErrAddrCount, "V19": ErrFirstAddr, "V20": ErrZeroInterval,
		"V25": ErrPacketLength, "V26": ErrAuthType, "V27": ErrNotVRRP,
		"T01": ErrNotVRRP, "T02": ErrNotVRRP,
	}
	if n := len(golden) + len(stateful) + len(refused); len(frames) != 31 || n != 31 {
		t.Errorf("%d frames, and an expectation for %d of them", len(frames), n)
	}
	for id, frame := range frames {
		t.Run(id, func(t *testing.T) {
			got, d, form, err := decode(frame)
			if reason, ok := refused[id]; ok {
				if !errors.Is(err, reason) {
					t.Errorf("%v, want %v", err, reason)
				}
				same(t, Advertisement{}, got)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			source, want, wantForm := stateful[id].source, stateful[id].ad, ChecksumRFC9568
			if g, ok := golden[id]; ok {
				source, want, wantForm = g.source, g.ad, g.form
			}
			destination := FamilyOf(d.Source).Group()
			if id == "V29" {
				destination = netip.MustParseAddr("192.0.2.3")
			}
			if d.Source != netip.MustParseAddr(source) || d.Destination != destination || d.TTL != 255 || form != wantForm {
				t.Errorf("%v to %v, TTL %d, checksum %v", d.Source, d.Destination, d.TTL, form)
			}
			same(t, want, got)

			// The decoded advertisement encodes to the same message, except V08: its
			// reserved bits are sent as 0 (P-06).
			m, err := got.AppendTo(nil, d.Source, d.Destination, form)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(m, d.Message) == (id == "V08") {
				t.Errorf("encoded %x, the frame has %x", m, d.Message)
			}
		})
	}
}
