// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"io"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Mute drops the broadcasts and the frames to all IPv6 nodes that the node sends on an interface,
// until it is closed, so no host learns from announcements where an address is. VRRP
// advertisements aren't dropped.
func (n *Node) Mute(ifname string) (io.Closer, error) {
	device, err := n.link(ifname)
	if err != nil {
		return nil, err
	}
	l, err := n.filter(device.Attrs().Index, ebpf.AttachTCXEgress, asm.Instructions{
		asm.LoadAbs(0, asm.Word),
		asm.JEq.Imm32(asm.R0, -1, "drop"), // ff:ff:ff:ff
		asm.JNE.Imm32(asm.R0, 0x33330000, "pass"),
		asm.LoadAbs(2, asm.Word),
		asm.JEq.Imm32(asm.R0, 1, "drop"), // 33:33:00:00:00:01
	})
	if err != nil {
		return nil, fmt.Errorf("mute %s of %s: %w", ifname, n.Name, err)
	}
	return l, nil
}

// Guard lets the switch drop frames that come from a VRRP virtual MAC at the port. Hypervisors do
// this with every MAC that they haven't assigned.
func (p *Port) Guard() (io.Closer, error) {
	l, err := p.lan.node.filter(p.near.Attrs().Index, ebpf.AttachTCXIngress, asm.Instructions{
		asm.LoadAbs(6, asm.Word),
		asm.JEq.Imm32(asm.R0, 0x00005e00, "drop"),
	})
	if err != nil {
		return nil, fmt.Errorf("guard the port of %s: %w", p.Node.Name, err)
	}
	return l, nil
}

// MuteVRRP lets the switch drop what the node sends to the VRRP groups. The node hears the other
// nodes, and they don't hear it.
func (p *Port) MuteVRRP() (io.Closer, error) {
	l, err := p.lan.node.filter(p.near.Attrs().Index, ebpf.AttachTCXIngress, asm.Instructions{
		asm.LoadAbs(2, asm.Word),
		asm.JEq.Imm32(asm.R0, 0x5e000012, "drop"), // 01:00:5e:00:00:12
		asm.JEq.Imm32(asm.R0, 0x00000012, "drop"), // 33:33:00:00:00:12
	})
	if err != nil {
		return nil, fmt.Errorf("mute VRRP at the port of %s: %w", p.Node.Name, err)
	}
	return l, nil
}

// filter attaches a program that runs the instructions. They jump to "drop" or "pass", and a
// frame that reaches their end passes.
func (n *Node) filter(ifindex int, at ebpf.AttachType, instructions asm.Instructions) (link.Link, error) {
	const drop, pass = 2, -1 // TC_ACT_SHOT, TC_ACT_UNSPEC
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SchedCLS,
		License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1), // LoadAbs reads the context from R6
		}, instructions, asm.Instructions{
			asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
			asm.Return(),
			asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
			asm.Return(),
		}),
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }() // the link holds the program
	var l link.Link
	err = n.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: program, Attach: at})
		return err
	})
	return l, err
}
