// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"io"

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
	const drop, pass = 2, -1 // TC_ACT_SHOT, TC_ACT_UNSPEC
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SchedCLS,
		License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(0, asm.Word),
			asm.JEq.Imm32(asm.R0, -1, "drop"), // ff:ff:ff:ff
			asm.JNE.Imm32(asm.R0, 0x33330000, "pass"),
			asm.LoadAbs(2, asm.Word),
			asm.JEq.Imm32(asm.R0, 1, "drop"), // 33:33:00:00:00:01
			asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
			asm.Return(),
			asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mute %s of %s: %w", ifname, n.Name, err)
	}
	defer func() { _ = program.Close() }() // the link keeps it
	var l link.Link
	if err := n.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: device.Attrs().Index, Program: program, Attach: ebpf.AttachTCXEgress})
		return err
	}); err != nil {
		return nil, fmt.Errorf("mute %s of %s: %w", ifname, n.Name, err)
	}
	return l, nil
}
