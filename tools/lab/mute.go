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

// Mute drops the broadcasts and the neighbour advertisements to all nodes that
// the node sends on an interface, until it is closed: nobody learns by them
// where an address is. Advertisements of VRRP go out.
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

// Guard has the switch drop what comes from a virtual MAC of VRRP at the port,
// as hypervisors do with any MAC but the one that they have given out.
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

// MuteVRRP has the switch drop what comes to the VRRP groups at the port: the node
// hears the others, and they don't hear it.
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

// filter attaches a program that goes on behind the instructions by passing a
// frame, unless they jump to "drop".
func (n *Node) filter(ifindex int, at ebpf.AttachType, instructions asm.Instructions) (link.Link, error) {
	const drop, pass = 2, -1 // TC_ACT_SHOT, TC_ACT_UNSPEC
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SchedCLS,
		License: "GPL",
		Instructions: slices.Concat(asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1), // for the loads
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
	defer func() { _ = program.Close() }() // the link keeps it
	var l link.Link
	err = n.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: program, Attach: at})
		return err
	})
	return l, err
}
