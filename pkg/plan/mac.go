// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
)

// MACRequest is what ChooseMACMode needs besides the interface.
type MACRequest struct {
	Want    config.VirtualMAC
	Unicast bool // it has unicast peers
	Owner   bool // priority 255: it owns its addresses
	Accept  bool // Accept_Mode
	VRID    int
	// TC is set if the TC programs are attached. Unfenced says why they aren't, or why their
	// fence isn't reliable.
	TC       bool
	Unfenced error
}

// Usable returns an error with the reason and the remedy if VRRP can't run on an interface.
func Usable(i link.Interface) error {
	if i.IsEthernet() || i.Kind == link.KindLoopback { // the loopback interface has an error of its own
		return nil
	}
	kind := i.Kind
	if kind == "" {
		kind = i.Encapsulation
	}
	return fmt.Errorf("%s (%s) has no MAC addresses, but failoverd needs Ethernet: run the router on an Ethernet interface, for example a VXLAN or GRETAP tunnel over %s", i.Name, kind, i.Name)
}

// ChooseMACMode returns the mode of the virtual MAC on an interface, which is never auto. why
// says why auto has not found a virtual MAC, if so.
func ChooseMACMode(m MACRequest, i link.Interface) (mode config.VirtualMAC, why string, err error) {
	if !m.TC && !m.Accept && !m.Owner {
		return "", "", fmt.Errorf("no program can drop packets to the addresses of VRID %d (Accept_Mode is false): %w", m.VRID, m.Unfenced)
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
		return m.Want, "", nil // if the interface is a macvlan itself, the kernel makes the new one its sibling
	}
	switch {
	case m.Unicast: // cloud networks drop frames from other MACs than the interface's own
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
