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
	askedPort  = 9 // discard: nobody listens
	askingPort = 30009
	askingID   = 0x6173 // of the echo requests
)

// Question is a way to ask for an address.
type Question int

// The questions.
const (
	QuestionNeighbor Question = iota // ARP, or neighbour solicitation
	QuestionPing                     // ICMP or ICMPv6 echo request
	QuestionTCP                      // SYN to a closed port
)

// Questions are all of them.
var Questions = []Question{QuestionNeighbor, QuestionPing, QuestionTCP}

func (q Question) String() string {
	return [...]string{"ARP/ND", "ping", "TCP"}[q]
}

// Answer is what one host has answered to one question.
type Answer struct {
	At       time.Time // when it came to the switch
	From     string    // the node at whose port it did
	Question Question
}

// Asking says what an Asker asks, and whom.
type Asking struct {
	Address netip.Addr
	Every   time.Duration // from one round of questions to the next
	// Hosts are those that may answer. They are told apart by their ports of
	// the switch, for they may have a MAC in common.
	Hosts []*Node
	// MACs are where pings and SYNs go to, each to every one: the hosts' own
	// and a virtual one. The broadcast MAC would do for pings, but the kernel
	// takes no TCP from it.
	MACs []string
}

// Asker asks for an address in a steady rhythm, in every way at once, and
// records who answers. It goes past its node's neighbour table, so that each
// host that would answer gets the chance.
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

// Ask begins to ask from an interface of a node. The node needs an address of
// the asked one's network.
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

// questions are the frames of one round.
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

// echoRequest is a ping.
func echoRequest(ethernet *layers.Ethernet, from, to netip.Addr) ([]byte, error) {
	if to.Is4() {
		return datagram(ethernet, from, to, layers.IPProtocolICMPv4, nil,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: askingID})
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	return datagram(ethernet, from, to, layers.IPProtocolICMPv6, icmp, icmp, &layers.ICMPv6Echo{Identifier: askingID})
}

// synchronize is the first segment of a TCP connection.
func synchronize(ethernet *layers.Ethernet, from, to netip.Addr) ([]byte, error) {
	tcp := &layers.TCP{SrcPort: askingPort, DstPort: askedPort, Seq: 1, SYN: true, Window: 1024}
	return datagram(ethernet, from, to, layers.IPProtocolTCP, tcp, tcp)
}

// checksummed is a layer whose checksum covers the IP addresses.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// datagram puts an IP header of the addresses' family before the payload. sum
// is the layer whose checksum covers it, nil if there is none.
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

// answer reports what question the frame answers, if any.
func (a *Asker) answer(f Frame) (Answer, bool) {
	q, ok := answered(f.Data, a.asking.Address)
	return Answer{f.At, f.From, q}, ok
}

// answered reports what question for the address the frame answers, if any.
func answered(data []byte, address netip.Addr) (Question, bool) {
	if !bytes.Contains(data, address.AsSlice()) {
		return 0, false // which is much cheaper than to decode it
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

// WaitAnswers waits until the node has given so many answers more to each
// question.
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
		return fmt.Errorf("%s has not given %d answers to each question, but %v: %w", from.Name, count, given, err)
	}
	return nil
}

// Answers returns the answers so far, in the order in which they came.
func (a *Asker) Answers() Answers {
	var all Answers
	for _, f := range a.capture.Frames() {
		if answer, ok := a.answer(f); ok {
			all = append(all, answer)
		}
	}
	// The CPUs of the switch may hand over frames in another order.
	slices.SortStableFunc(all, func(x, y Answer) int { return x.At.Compare(y.At) })
	return all
}

// Pause is the longest time between two rounds of questions that left between
// the given moments: nothing shorter can be seen in the answers.
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

// Close ends the questions.
func (a *Asker) Close() error {
	a.cancel()
	a.wait.Wait()
	return errors.Join(a.failed, a.capture.Close(), unix.Close(a.socket))
}

// Answers are answers in the order in which they came.
type Answers []Answer

// To returns those to one question.
func (a Answers) To(q Question) Answers {
	return slices.DeleteFunc(slices.Clone(a), func(x Answer) bool { return x.Question != q })
}

// Handover is how the answering passed from an old host to a new one.
type Handover struct {
	LastOld  time.Time // zero if the old one gave no answer
	FirstNew time.Time // zero if the new one gave none
	// Overlap is the time during which both answered: from the first answer of
	// the new host to the last of the old one; 0 if there was none.
	Overlap time.Duration
	// Gap is the time during which neither did: from the last answer of the
	// old host to the first of the new one; 0 if they overlap or one is
	// missing.
	Gap time.Duration
	// Stale is the number of answers of the old host after the new one's first.
	Stale int
}

// Handover finds how the answering passed from the one node to the other at a
// moment. What the new one answered before that moment doesn't count.
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
