// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
	"github.com/failoverd/failoverd/tools/lab"
)

// What the XDP program returns.
const (
	xdpDrop = 1
	xdpPass = 2
)

// vectors has what section 8 of the checklist requires for each of its frames: the counters
// that it raises, and the verdict of the XDP program. The state machine is Backup, or Active
// if active is set.
var vectors = []struct {
	id       string
	counters string
	verdict  uint32
	active   bool
	check    func(*testing.T, *receiver) // checks the state machine afterwards
}{
	{id: "V01", counters: "advertisement_rcvd", verdict: xdpPass, check: downIn(52, 3609375*time.Microsecond)},
	{id: "V02", counters: "advertisement_rcvd", verdict: xdpPass, check: downIn(53, 3609375*time.Microsecond)},
	{id: "V03", counters: "advertisement_rcvd priority_zero_pkts_rcvd", verdict: xdpPass, check: downIn(52, 609375*time.Microsecond)},
	{id: "V04", counters: "advertisement_rcvd", verdict: xdpPass, check: downIn(51, 3609375*time.Microsecond)},
	{id: "V05", counters: "advertisement_rcvd csum_5798_form", verdict: xdpPass, check: downIn(51, 3609375*time.Microsecond)},
	{id: "V06", counters: "advertisement_rcvd", verdict: xdpPass},
	{id: "V07", counters: "advertisement_rcvd priority_zero_pkts_rcvd", verdict: xdpPass, check: downIn(51, 609375*time.Microsecond)},
	{id: "V08", counters: "advertisement_rcvd", verdict: xdpPass, check: downIn(51, 3609375*time.Microsecond)},
	{id: "V09", counters: "advertisement_rcvd", verdict: xdpPass, active: true, check: inState(55, packet.IPv4, vrrp.Backup)},
	{id: "V10", counters: "advertisement_rcvd", verdict: xdpPass, active: true, check: inState(51, packet.IPv6, vrrp.Active)},
	{id: "V11", counters: "advertisement_rcvd interval_errors", verdict: xdpPass, check: downIn(51, 902343750)},
	{id: "V12", counters: "ip_ttl_errors", verdict: xdpDrop},
	{id: "V13", counters: "ip_ttl_errors", verdict: xdpDrop},
	{id: "V14", counters: "version_errors", verdict: xdpDrop},
	{id: "V15", counters: "invalid_type_pkts_rcvd", verdict: xdpDrop},
	{id: "V16", counters: "packet_length_errors", verdict: xdpDrop},
	{id: "V17", counters: "checksum_errors", verdict: xdpDrop},
	{id: "V18", counters: "addr_count_errors", verdict: xdpDrop},
	{id: "V19", counters: "first_addr_errors", verdict: xdpDrop},
	{id: "V20", counters: "zero_interval_errors", verdict: xdpDrop, check: inState(51, packet.IPv4, vrrp.Backup)},
	{id: "V21", counters: "vrid_errors", verdict: xdpPass},
	{id: "V22", counters: "interval_errors", verdict: xdpPass, check: downIn(52, 3609375*time.Microsecond)},
	{id: "V23", counters: "auth_failures", verdict: xdpDrop, check: downIn(53, 3609375*time.Microsecond)},
	{id: "V24", counters: "address_list_errors", verdict: xdpPass, check: downIn(52, 3609375*time.Microsecond)},
	{id: "V25", counters: "packet_length_errors", verdict: xdpDrop, check: downIn(51, 3609375*time.Microsecond)},
	{id: "V26", counters: "auth_type_mismatch", verdict: xdpDrop},
	{id: "V27", counters: "advertisement_rcvd", verdict: xdpPass, check: downIn(54, 3609375*time.Microsecond)},
	{id: "V28", counters: "own_source", verdict: xdpDrop, active: true, check: inState(55, packet.IPv4, vrrp.Active)},
	{id: "V29", counters: "cast_errors", verdict: xdpDrop}, // to our address, by the VRID of a router that isn't unicast
	{id: "T01", counters: "", verdict: xdpPass},            // announcements, not advertisements
	{id: "T02", counters: "", verdict: xdpPass},
}

func TestVectors(t *testing.T) {
	t.Attr("proves", "A-01 A-03 A-04 A-05 A-06 A-07 C-04 E-04 E-05 E-06 F-01 K-03 K-09 K-10 K-16 O-09 P-10 Q-09 R-01 R-03 R-04 R-06 R-07 R-08 R-09 R-10 R-11 R-13 R-14 R-16 R-17 R-18 R-19 R-20 R-22 R-23 TM-08 X-01 X-02 X-05 X-06")
	frames := readVectors(t)
	if len(frames) != len(vectors) {
		t.Fatalf("%d frames, but %d are expected", len(frames), len(vectors))
	}
	for _, way := range []struct {
		name string
		mode Mode
	}{
		{"program run", ""},
		{"xdp native", ModeNative},
		{"xdp generic", ModeGeneric},
		{"tc", ModeTC},
		{"af_packet", ModeOff},
	} {
		t.Run(way.name, func(t *testing.T) {
			w := newWire(t, way.mode)
			for _, v := range vectors {
				t.Run(v.id, func(t *testing.T) {
					r := w.receiver(t, v.active)
					before := r.dp.Counters()
					if way.mode == "" {
						if got := runProgram(t, r, frames[v.id]); got != v.verdict {
							t.Errorf("verdict %d, want %d", got, v.verdict)
						}
						r.drain()
					} else {
						before[packet.ErrTTL]++ // by the frame that is sent after it
						w.send(t, r, frames[v.id], v.counters == "ip_ttl_errors", frames["V12"])
					}
					if diff := cmp.Diff(v.counters, raised(before, r.dp.Counters())); diff != "" {
						t.Errorf("counters (-want +got):\n%s", diff)
					}
					if v.check != nil {
						v.check(t, r)
					}
				})
			}
		})
	}
}

func readVectors(t testing.TB) map[string][]byte {
	t.Helper()
	return readFrames(t, "../packet/testdata/vectors.json")
}

func readFrames(t testing.TB, path string) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ ID, Hex string }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	frames := make(map[string][]byte)
	for _, v := range list {
		if frames[v.ID], err = hex.DecodeString(v.Hex); err != nil {
			t.Fatal(err)
		}
	}
	return frames
}

// namespace is any cookie of a network namespace.
const namespace = 7

// wire is a Datapath on a host, connected to another host if a mode attaches it.
type wire struct {
	dp      *Datapath
	lab     *lab.Lab
	lan     *lab.LAN // nil if nothing is attached
	here    *lab.Node
	ifindex int
	conn    *transmit.Conn
}

func newWire(t testing.TB, mode Mode) *wire {
	t.Helper()
	return newWireWith(t, mode, Options{Dir: "/sys/fs/bpf/failoverd", Authenticates: true})
}

func newWireWith(t testing.TB, mode Mode, o Options) *wire {
	t.Helper()
	l := lab.ForTest(t)
	here, err := l.Node("here")
	if err != nil {
		t.Fatal(err)
	}
	// With Program.Run, frames seem to come from the loopback interface.
	w := &wire{lab: l, here: here, ifindex: 1}
	if mode != "" {
		there, err := l.Node("there")
		if err != nil {
			t.Fatal(err)
		}
		lan, err := l.LAN("lan")
		if err != nil {
			t.Fatal(err)
		}
		w.lan = lan
		for _, n := range []*lab.Node{here, there} {
			if _, err := lan.Connect(n, "eth0"); err != nil {
				t.Fatal(err)
			}
		}
		if err := there.Do(func() (err error) { w.conn, err = transmit.Open(index(t, there)); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.conn.Close() })
		w.ifindex = index(t, here)
		addressee(t, here)
	}
	if err := here.Do(func() (err error) {
		if w.dp, err = Load(o); err != nil {
			return err
		}
		if err := w.dp.Unavailable(); err != nil {
			return err
		}
		if mode != "" {
			_, err = w.dp.Attach(Link{Index: w.ifindex, Name: "eth0", Kind: "veth"}, mode, false)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := here.Do(w.dp.Close); err != nil {
			t.Error(err)
		}
	})
	w.setClock(t, sentAt)
	return w
}

// addressee gives a node's interface the MAC to which the unicast vectors are sent.
func addressee(t testing.TB, n *lab.Node) {
	t.Helper()
	l, err := n.Netlink().LinkByName("eth0")
	if err == nil {
		err = n.Netlink().LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 0x0b})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func index(t testing.TB, n *lab.Node) int {
	t.Helper()
	l, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

// receiver is the receiver that the checklist's vectors are written for.
type receiver struct {
	dp       *Datapath
	machines map[packet.Key]*vrrp.Router
	start    vrrp.Instant
	at       vrrp.Instant // when the last advertisement was received
}

func (w *wire) receiver(t testing.TB, active bool) *receiver {
	t.Helper()
	w.dp.Drain(func(*Record) {}) // discard those of earlier vectors
	r := &receiver{dp: w.dp, machines: make(map[packet.Key]*vrrp.Router), start: monotonic()}
	for _, c := range []struct {
		config vrrp.Config
		source string
		auth   auth.Type
	}{
		{vrrp.Config{Version: 3, VRID: 51, Family: packet.IPv4, Addresses: list("192.0.2.1")}, "192.0.2.3", auth.None},
		{vrrp.Config{Version: 3, VRID: 51, Family: packet.IPv6, Addresses: list("fe80::1", "2001:db8:0:1::1")}, "fe80::b", auth.None},
		{vrrp.Config{Version: 2, VRID: 52, Family: packet.IPv4, Addresses: list("192.0.2.129")}, "192.0.2.3", auth.None},
		{vrrp.Config{Version: 2, VRID: 53, Family: packet.IPv4, Addresses: list("192.0.2.130"), AuthType: 1}, "192.0.2.3", auth.Password},
		{vrrp.Config{Version: 2, VRID: 54, Family: packet.IPv4, Addresses: list("192.0.2.131"), AuthType: 2}, "192.0.2.3", auth.Header},
		{vrrp.Config{Version: 3, VRID: 55, Family: packet.IPv4, Addresses: list("198.18.0.1")}, "198.18.0.200", auth.None},
		{vrrp.Config{Version: 3, VRID: 60, Family: packet.IPv4, Addresses: list("192.0.2.1")}, "192.0.2.3", auth.HMAC},
		{vrrp.Config{Version: 3, VRID: 60, Family: packet.IPv6, Addresses: list("fe80::1", "2001:db8::1")}, "fe80::b", auth.HMAC},
		{vrrp.Config{Version: 2, VRID: 61, Family: packet.IPv4, Addresses: list("192.0.2.1")}, "192.0.2.3", auth.HMAC},
	} {
		c.config.Priority, c.config.Interval, c.config.Preempt = 100, time.Second, true
		m, err := vrrp.New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		source := netip.MustParseAddr(c.source)
		m.Step(r.start, vrrp.Event{Kind: vrrp.Startup, Source: source}, nil)
		if active {
			deadline, _ := m.Deadline()
			m.Step(deadline, vrrp.Event{Kind: vrrp.TimerExpired}, nil)
		}
		k := packet.Key{Ifindex: w.ifindex, Family: c.config.Family, VRID: c.config.VRID}
		r.machines[k] = m
		if err := w.dp.SetRouter(k, authenticated(c.auth, Router{Version: c.config.Version, Addresses: c.config.Addresses, Source: source, Running: true, Forms: c.config.Forms()})); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// sentAt is the time at which keepalived sent the frames in auth.json.
var sentAt = time.Unix(1795579780, 0)

// guarded is a Verifier whose clock stands still at sentAt.
type guarded struct{ *auth.Guard }

func (g guarded) Verify(_ vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error {
	return g.Guard.Verify(sentAt, d, a)
}

// setClock sets the time of day of the kernel's programs. It runs on from there.
func (w *wire) setClock(t testing.TB, now time.Time) {
	t.Helper()
	var err error
	if w.dp.clock != nil { // it would overwrite the offset
		err, w.dp.clock = w.dp.clock.close(), nil
	}
	if err := errors.Join(err, w.dp.objects.FailoverClock.Set(uint64(now.UnixNano()-int64(monotonic())))); err != nil {
		t.Fatal(err)
	}
}

// authenticated returns the router with authentication, with the keys of the checklist and of
// auth.json.
func authenticated(kind auth.Type, r Router) Router {
	s := auth.Settings{Type: kind, Keys: []auth.Key{{Secret: auth.NewSecret([]byte("failovr1"))}}}
	if kind == auth.HMAC {
		s = hmacSettings()
	}
	if kind != auth.None {
		r.Verifier = guarded{auth.NewGuard(s)}
	}
	r.Tolerate.AuthTrailer, r.Tolerate.AuthHeader = kind == auth.HMAC, kind == auth.Header
	return r
}

func hmacSettings() auth.Settings {
	var key [32]byte
	for i := range key {
		key[i] = uint8(i)
	}
	return auth.Settings{Type: auth.HMAC, Mode: auth.Enforce, Keys: []auth.Key{{ID: 1, Secret: auth.NewSecret(key[:])}}, Send: 1, Window: 300 * time.Second}
}

func list(addresses ...string) (all []netip.Addr) {
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// drain drains the datapath and runs the state machines, as the event loop does.
func (r *receiver) drain() {
	r.dp.Drain(func(rec *Record) {
		m, ok := r.machines[rec.Key]
		if !ok {
			return
		}
		r.at = rec.ReceivedAt
		for _, a := range m.Step(rec.ReceivedAt, vrrp.Event{
			Kind: vrrp.Receive, Advertisement: rec.Advertisement, From: rec.Datagram.Source, Checksum: rec.Checksum,
		}, nil) {
			if a.Kind == vrrp.Report {
				r.dp.Count(a.Reason)
			}
		}
	})
}

// runProgram runs the XDP program on a frame, without an interface, and returns its verdict.
func runProgram(t testing.TB, r *receiver, frame []byte) uint32 {
	t.Helper()
	out := make([]byte, len(frame)+256)
	options := &ebpf.RunOptions{Data: frame, DataOut: out}
	verdict, err := r.dp.objects.FailoverVrrp.Run(options)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(frame, options.DataOut[:len(frame)]); diff != "" {
		t.Errorf("the frame was changed (-want +got):\n%s", diff)
	}
	return verdict
}

// send sends a frame over the wire, and last after it, which only raises ip_ttl_errors. When
// that counter has its final value, the first frame has been handled. raises says that the
// first frame raises it too.
func (w *wire) send(t *testing.T, r *receiver, frame []byte, raises bool, last []byte) {
	t.Helper()
	want := r.dp.Counters()[packet.ErrTTL] + 1
	if raises {
		want++
	}
	w.conn.Queue(frame)
	w.conn.Queue(last)
	var err error
	if w.conn.Flush(func(_ int, e error) { err = e }); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); r.dp.Counters()[packet.ErrTTL] != want; time.Sleep(time.Millisecond) {
		r.drain()
		if time.Now().After(end) {
			t.Fatal("the frames did not arrive")
		}
	}
	r.drain()
}

// raised returns the names of the counters that have risen.
func raised(before, after [packet.ReasonCount]uint64) string {
	var names []string
	for n := range after {
		switch d := after[n] - before[n]; {
		case packet.Reason(n) == packet.ReasonDelivered:
		case d == 1:
			names = append(names, packet.Reason(n).String())
		case d > 1:
			names = append(names, fmt.Sprintf("%s %d times", packet.Reason(n), d))
		}
	}
	return strings.Join(names, " ")
}

// downIn checks how long after the reception the Active_Down_Timer fires. If nothing was
// accepted it counts from the start.
func downIn(vrid uint8, want time.Duration) func(*testing.T, *receiver) {
	return func(t *testing.T, r *receiver) {
		t.Helper()
		for k, m := range r.machines {
			if k.VRID != vrid || k.Family != packet.IPv4 {
				continue
			}
			deadline, _ := m.Deadline()
			from := r.start
			if m.Status().Active.IsValid() || want < time.Second { // or priority 0
				from = max(r.at, r.start)
			}
			if got := deadline.Sub(from); got != want {
				t.Errorf("Active_Down_Timer fires in %v, want %v", got, want)
			}
		}
	}
}

func inState(vrid uint8, f packet.Family, want vrrp.State) func(*testing.T, *receiver) {
	return func(t *testing.T, r *receiver) {
		t.Helper()
		for k, m := range r.machines {
			if k.VRID == vrid && k.Family == f && m.State() != want {
				t.Errorf("state %v, want %v", m.State(), want)
			}
		}
	}
}

// The reasons have the same numbers and names in C and in Go.
func TestReasonsAgree(t *testing.T) {
	if int(bpf.VrrpFailoverReasonREASON_COUNT) != packet.ReasonCount {
		t.Fatalf("%d reasons in C, %d in Go", bpf.VrrpFailoverReasonREASON_COUNT, packet.ReasonCount)
	}
	spec, err := bpf.LoadVrrp()
	if err != nil {
		t.Fatal(err)
	}
	var counters *btf.Struct
	if err := spec.Types.TypeByName("failover_counters", &counters); err != nil {
		t.Fatal(err)
	}
	for n, field := range counters.Members {
		if want := packet.Reason(n).String(); field.Name != want {
			t.Errorf("counter %d is %s in C and %s in Go", n, field.Name, want)
		}
	}
}
