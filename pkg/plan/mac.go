// SPDX-License-Identifier: Apache-2.0

// Package plan decides what a configuration asks of a host: what keeps a router from
// taking part there and why, what is doubtful, and the way to have the virtual MAC. It
// only looks at what it is given.
package plan

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
)

// MAC is what decides on the way to have a virtual MAC, beside the interface.
type MACRequest struct {
	Want    config.VirtualMAC
	Unicast bool // it has peers
	Owner   bool // of its addresses, by priority 255
	Accept  bool // Accept_Mode
	VRID    int
	// TC says that the TC programs are attached; Unfenced why they aren't, or why
	// they don't hold.
	TC       bool
	Unfenced error
}

// Usable says why VRRP can't run on an interface, and what to do; nil if it can.
func Usable(i link.Interface) error {
	if i.IsEthernet() || i.Kind == link.KindLoopback { // which has a text of its own
		return nil
	}
	kind := i.Kind
	if kind == "" {
		kind = i.Encapsulation
	}
	return fmt.Errorf("%s (%s) has no MAC addresses, and failoverd sends and receives Ethernet frames only: run the router on a network with them, for example a VXLAN or GRETAP tunnel over %s", i.Name, kind, i.Name)
}

// VirtualMAC returns the way to have the virtual MAC on an interface: never auto. Why
// says what keeps auto from having one, if something does.
func ChooseMACMode(m MACRequest, i link.Interface) (mode config.VirtualMAC, why string, err error) {
	if !m.TC && !m.Accept && !m.Owner {
		return "", "", fmt.Errorf("nothing can hold back packets to the addresses of VRID %d (Accept_Mode is false): %w", m.VRID, m.Unfenced)
	}
	one := i.OneMAC()
	switch m.Want {
	case config.VirtualMACOff:
		return m.Want, "", nil
	case config.VirtualMACBPF:
		switch {
		case !m.TC:
			return "", "", fmt.Errorf("VRID %d can't have its virtual MAC: %w; use virtual MAC mode macvlan or off", m.VRID, m.Unfenced)
		case one != "":
			return "", "", fmt.Errorf("VRID %d can't have its virtual MAC: %s; use virtual MAC mode off", m.VRID, one)
		}
		return m.Want, "", nil
	case config.VirtualMACMacvlan:
		if i.SharesMAC() {
			return "", "", fmt.Errorf("VRID %d can't have its virtual MAC: %s; use virtual MAC mode off", m.VRID, one)
		}
		return m.Want, "", nil // on a macvlan the kernel puts it beside that one
	}
	switch {
	case m.Unicast: // clouds let no MAC through but the interface's own
		return config.VirtualMACOff, "", nil
	case one != "":
		return config.VirtualMACOff, one, nil
	case m.TC:
		return config.VirtualMACBPF, "", nil
	case m.Owner:
		return config.VirtualMACOff, fmt.Sprint(m.Unfenced), nil
	}
	return config.VirtualMACMacvlan, "", nil
}
