// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The sizes of the kernel's maps, in entries.
const (
	RoutersMax    = 16384 // failover_router, failover_stamp and failover_lease: Virtual Routers
	AddressesMax  = 65536 // failover_address: virtual addresses of all interfaces
	PeersMax      = 65536 // failover_peer: peers of all unicast Virtual Routers
	KeysMax       = 65536 // failover_keys: keys and passwords of all Virtual Routers
	InterfacesMax = 4096  // failover_vmac: interfaces with Virtual Routers
)

// Need is the number of map entries that one Virtual Router needs.
type Need struct {
	Interface string
	Addresses int
	Peers     int
	Keys      int
}

// Fit reports which Virtual Routers fit into the kernel's maps if they are added in this
// order. The result has an error for each that doesn't fit, and nil for each that does.
// One that doesn't fit takes no room from those after it.
func Fit(needs []Need) []error {
	var total Need
	var routers int
	interfaces := make(map[string]bool)
	all := make([]error, len(needs))
	for i, n := range needs {
		switch {
		case routers == RoutersMax:
			all[i] = full("failover_router", RoutersMax)
		case !interfaces[n.Interface] && len(interfaces) == InterfacesMax:
			all[i] = full("failover_vmac", InterfacesMax)
		case total.Addresses+n.Addresses > AddressesMax:
			all[i] = full("failover_address", AddressesMax)
		case total.Peers+n.Peers > PeersMax:
			all[i] = full("failover_peer", PeersMax)
		case total.Keys+n.Keys > KeysMax:
			all[i] = full("failover_keys", KeysMax)
		default:
			routers++
			interfaces[n.Interface] = true
			total.Addresses += n.Addresses
			total.Peers += n.Peers
			total.Keys += n.Keys
		}
	}
	return all
}

// contents describes the entries of each map in error messages.
var contents = map[string]string{
	"failover_router": "virtual routers", "failover_stamp": "virtual routers", "failover_proven": "authenticated virtual routers",
	"failover_address": "virtual addresses", "failover_peer": "unicast peers", "failover_keys": "keys",
	"failover_vmac": "interfaces with virtual routers",
}

func full(name string, most uint32) error {
	return fmt.Errorf("the kernel has room for %d %s (map %s): take some out of the configuration", most, contents[name], name)
}

// noRoom replaces E2BIG, which means that a map is full, by an error that names the map
// and the remedy. It returns other errors unchanged.
func noRoom(name string, most uint32, err error) error {
	if errors.Is(err, unix.E2BIG) {
		return full(name, most)
	}
	return err
}
