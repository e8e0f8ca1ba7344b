// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	askedPort  = 9 // discard: closed
	askingPort = 30009
	askingID   = 0x6173 // identifier of the echo requests
)

// Question is a kind of frame that a host with an address answers.
type Question int

// The questions.
const (
	QuestionNeighbor Question = iota // ARP, or neighbour solicitation
	QuestionPing                     // ICMP or ICMPv6 echo request
	QuestionTCP                      // SYN to a closed port
)

// Questions lists all questions.
var Questions = []Question{QuestionNeighbor, QuestionPing, QuestionTCP}

func (q Question) String() string {
	return [...]string{"ARP/ND", "ping", "TCP"}[q]
}

// Answer is a host's answer to a question.
type Answer struct {
	At       time.Time // when the switch received it
	From     string    // the node at the port that received it
	Question Question
}

// Asking configures an Asker.
type Asking struct {
	Address netip.Addr
	Every   time.Duration // interval between rounds of questions
	// Hosts are the hosts that may answer. The port of the switch identifies a host, because
	// several hosts may have the same MAC.
	Hosts []*Node
	// MACs are the destinations of pings and SYNs: the hosts' own MACs and a virtual one.
	// Each ping and each SYN goes to all of them. The broadcast MAC doesn't work, because
	// the kernel accepts no TCP segment that was sent to it.
	MACs []string
}

// Asker sends all questions about an address at an interval, and records the answers. It
// doesn't use the neighbour table of its node, so every host that has the address can answer.
type Asker struct {
	asking  Asking
	capture *Capture
	socket  int
	batch   []message
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu     sync.Mutex
	asked  []time.Time // when each round of questions left
	failed error
}

// Ask starts an Asker on an interface of a node. The node needs an address in the network of
// the address in question.
func (lan *LAN) Ask(n *Node, ifname string, what Asking) (*Asker, error) {
	fail := func(err error) (*Asker, error) {
		return nil, fmt.Errorf("ask for %s from %s: %w", what.Address, n.Name, err)
	}
	frames, err := n.questions(ifname, what)
	if err != nil {
		return fail(err)
	}
	capture, err := lan.CaptureFrom(what.Hosts...)
	if err != nil {
		return fail(err)
	}
	socket, err := n.sender(ifname)
	if err != nil {
		return fail(errors.Join(err, capture.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Asker{asking: what, capture: capture, socket: socket, batch: messages(frames, len(frames)), cancel: cancel}
	a.wait.Go(func() { a.ask(ctx) })
	return a, nil
}

// questions returns the frames of one round.
func (n *Node) questions(ifname string, what Asking) ([][]byte, error) {
	device, err := n.link(ifname)
	if err != nil {
		return nil, err
	}
	own, source := device.Attrs().HardwareAddr, netip.Addr{}
	addresses, err := n.Addresses(ifname)
	if err != nil {
		return nil, err
	}
	for _, p := range addresses {
		if p.Masked().Contains(what.Address) {
			source = p.Addr()
		}
	}
	if !source.IsValid() {
		return nil, fmt.Errorf("%s has no address in the network of %s", ifname, what.Address)
	}
	frame, err := solicitation(own, source, what.Address)
	if err != nil {
		return nil, fmt.Errorf("build a solicitation: %w", err)
	}
	frames := [][]byte{frame}
	for _, m := range what.MACs {
		mac, err := net.ParseMAC(m)
		if err != nil {
			return nil, err
		}
		for _, build := range []func(ethernet *layers.Ethernet, from, to netip.Addr) ([]byte, error){echoRequest, synchronize} {
			frame, err := build(&layers.Ethernet{SrcMAC: own, DstMAC: mac}, source, what.Address)
			if err != nil {
				return nil, fmt.Errorf("build a question: %w", err)
			}
			frames = append(frames, frame)
		}
	}
	return frames, nil
}

// echoRequest returns a ping.
func echoRequest(ethernet *layers.Ethernet, from, to netip.Addr) ([]byte, error) {
	if to.Is4() {
		return datagram(ethernet, from, to, layers.IPProtocolICMPv4, nil,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: askingID})
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	return datagram(ethernet, from, to, layers.IPProtocolICMPv6, icmp, icmp, &layers.ICMPv6Echo{Identifier: askingID})
}

// synchronize returns a SYN.
func synchronize(ethernet *layers.Ethernet, from, to netip.Addr) ([]byte, error) {
	tcp := &layers.TCP{SrcPort: askingPort, DstPort: askedPort, Seq: 1, SYN: true, Window: 1024}
	return datagram(ethernet, from, to, layers.IPProtocolTCP, tcp, tcp)
}

// checksummed is a layer whose checksum covers the IP addresses.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// datagram returns a frame with an IP header of the addresses' family and the payload. sum is
// the layer whose checksum covers the addresses, nil if there is none.
func datagram(ethernet *layers.Ethernet, from, to netip.Addr, protocol layers.IPProtocol, sum checksummed, payload ...gopacket.SerializableLayer) ([]byte, error) {
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	if to.Is4() {
		ethernet.EthernetType = layers.EthernetTypeIPv4
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	} else {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	if sum != nil {
		if err := sum.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	err := gopacket.SerializeLayers(buffer, options, append([]gopacket.SerializableLayer{ethernet, ip}, payload...)...)
	return buffer.Bytes(), err
}

func (a *Asker) ask(ctx context.Context) {
	tick := time.NewTicker(a.asking.Every)
	defer tick.Stop()
	for {
		now := time.Now()
		_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(a.socket), uintptr(unsafe.Pointer(&a.batch[0])), uintptr(len(a.batch)), 0, 0, 0)
		a.mu.Lock()
		if errno == 0 {
			a.asked = append(a.asked, now)
		} else if errno != unix.EINTR && a.failed == nil {
			a.failed = fmt.Errorf("ask for %s: %w", a.asking.Address, errno)
		}
		a.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// answer returns the answer in a frame, if the frame is one.
func (a *Asker) answer(f Frame) (Answer, bool) {
	q, ok := answered(f.Data, a.asking.Address)
	return Answer{f.At, f.From, q}, ok
}

// answered returns the question about the address that the frame answers, if it answers one.
func answered(data []byte, address netip.Addr) (Question, bool) {
	if !bytes.Contains(data, address.AsSlice()) {
		return 0, false // much cheaper than decoding the frame
	}
	if answers(data, address) != "" {
		return QuestionNeighbor, true
	}
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	ip := p.NetworkLayer()
	if ip == nil || !slices.Equal(ip.NetworkFlow().Src().Raw(), address.AsSlice()) {
		return 0, false
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return QuestionPing, icmp.TypeCode.Type() == layers.ICMPv4TypeEchoReply && icmp.Id == askingID
	}
	if echo, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
		icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		return QuestionPing, ok && icmp.TypeCode.Type() == layers.ICMPv6TypeEchoReply && echo.Identifier == askingID
	}
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	return QuestionTCP, ok && tcp.SrcPort == askedPort && tcp.DstPort == askingPort && (tcp.RST || tcp.SYN)
}

// WaitAnswers waits until the node has given count more answers to each question.
func (a *Asker) WaitAnswers(ctx context.Context, from *Node, count int) error {
	given := make(map[Question]int)
	_, err := a.capture.Wait(ctx, len(a.capture.Frames()), func(f Frame) bool {
		if f.From != from.Name {
			return false
		}
		if answer, ok := a.answer(f); ok {
			given[answer.Question]++
		}
		return !slices.ContainsFunc(Questions, func(q Question) bool { return given[q] < count })
	})
	if err != nil {
		return fmt.Errorf("%s gave %v answers, not %d to each question: %w", from.Name, given, count, err)
	}
	return nil
}

// Answers returns the answers so far, the oldest first.
func (a *Asker) Answers() Answers {
	var all Answers
	for _, f := range a.capture.Frames() {
		if answer, ok := a.answer(f); ok {
			all = append(all, answer)
		}
	}
	// Frames that different processors received may be recorded in another order.
	slices.SortStableFunc(all, func(x, y Answer) int { return x.At.Compare(y.At) })
	return all
}

// Pause returns the longest time between two rounds of questions that were sent between the
// given moments. The answers show nothing that is shorter.
func (a *Asker) Pause(since, until time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var longest time.Duration
	for i := 1; i < len(a.asked); i++ {
		if a.asked[i].After(since) && a.asked[i-1].Before(until) {
			longest = max(longest, a.asked[i].Sub(a.asked[i-1]))
		}
	}
	return longest
}

// Close stops the questions.
func (a *Asker) Close() error {
	a.cancel()
	a.wait.Wait()
	return errors.Join(a.failed, a.capture.Close(), unix.Close(a.socket))
}

// Answers is a list of answers, the oldest first.
type Answers []Answer

// To returns the answers to one question.
func (a Answers) To(q Question) Answers {
	return slices.DeleteFunc(slices.Clone(a), func(x Answer) bool { return x.Question != q })
}

// Handover describes how an old host stopped and a new host began to answer.
type Handover struct {
	LastOld  time.Time // last answer of the old host, zero if it gave none
	FirstNew time.Time // first answer of the new host, zero if it gave none
	// Overlap is the time from the first answer of the new host to the last answer of the
	// old host, during which both answered; 0 if there was no such time.
	Overlap time.Duration
	// Gap is the time from the last answer of the old host to the first answer of the new
	// host, during which neither answered; 0 if they overlap or one gave no answer.
	Gap time.Duration
	// Stale is the number of answers of the old host after the first of the new host.
	Stale int
}

// Handover describes the handover from one node to another. Answers of the new node before the
// given moment don't count.
func (a Answers) Handover(from, to *Node, since time.Time) Handover {
	var h Handover
	for _, x := range a {
		switch {
		case x.From == to.Name && h.FirstNew.IsZero() && !x.At.Before(since):
			h.FirstNew = x.At
		case x.From == from.Name:
			h.LastOld = x.At
			if !h.FirstNew.IsZero() {
				h.Stale++
			}
		}
	}
	if h.LastOld.IsZero() || h.FirstNew.IsZero() {
		return h
	}
	h.Overlap = max(0, h.LastOld.Sub(h.FirstNew))
	h.Gap = max(0, h.FirstNew.Sub(h.LastOld))
	return h
}
