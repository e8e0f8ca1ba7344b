// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"

	"github.com/failoverd/failoverd/pkg/control"
)

// The names, labels and values here are those of mehdy/keepalived-exporter, so that its
// dashboards and alerts go on working. A metric without a value in failoverd is omitted.

var (
	keepalivedLabels      = []string{"iname", "intf", "vrid"}
	keepalivedStateLabels = []string{"iname", "intf", "vrid", "ip_address"}
)

// keepalivedCounters maps counters of the exporter to the counters of a router with the same
// meaning. Counters that a router doesn't have are omitted.
var keepalivedCounters = []struct{ name, help, counter string }{
	{"keepalived_advertisements_received_total", "Advertisements received", "advertisement_rcvd"},
	{"keepalived_advertisements_sent_total", "Advertisements sent", "advertisement_sent"},
	{"keepalived_packet_length_errors_total", "Packet length errors", "packet_length_errors"},
	{"keepalived_advertisements_interval_errors_total", "Advertisement interval errors", "interval_errors"},
	{"keepalived_ip_ttl_errors_total", "TTL errors", "ip_ttl_errors"},
	{"keepalived_invalid_type_received_total", "Invalid type errors", "invalid_type_pkts_rcvd"},
	{"keepalived_address_list_errors_total", "Address list errors", "address_list_errors"},
	{"keepalived_authentication_mismatch_total", "Authentication mismatch", "auth_type_mismatch"},
	{"keepalived_authentication_failure_total", "Authentication failure", "auth_failures"},
	{"keepalived_priority_zero_received_total", "Priority zero received", "priority_zero_pkts_rcvd"},
	{"keepalived_priority_zero_sent_total", "Priority zero sent", "priority_zero_pkts_sent"},
}

// wireID identifies a Virtual Router on the wire.
type wireID struct {
	iface, family string
	vrid          int
}

// keepalived sends the metrics of the routers as instances of keepalived.
func (o *output) keepalived(status control.Status, stats control.Stats) {
	o.gauge("keepalived_up", "Status", nil, 1)
	counters := make(map[wireID]map[string]uint64)
	for _, r := range stats.Routers {
		values := make(map[string]uint64)
		for _, c := range r.Counters {
			values[c.Name] = c.Value
		}
		counters[wireID{r.Interface, r.Family, r.VRID}] = values
	}
	dual := dualStack(status.Routers)
	for _, r := range status.Routers {
		iname, vrid := r.Name, strconv.Itoa(r.VRID)
		if dual[r.Name] && r.Family == "ipv6" {
			iname += "-ipv6"
		}
		addresses := r.Addresses
		if len(addresses) == 0 {
			addresses = []string{""}
		}
		for _, address := range addresses {
			o.gauge("keepalived_vrrp_state", "State of vrrp", keepalivedStateLabels, keepalivedState(r), iname, r.Interface, vrid, address)
		}
		o.counter("keepalived_become_master_total", "Became master", keepalivedLabels, r.BecameActive, iname, r.Interface, vrid)
		released := r.BecameActive
		if r.State == "Active" && released > 0 {
			released--
		}
		o.counter("keepalived_release_master_total", "Released master", keepalivedLabels, released, iname, r.Interface, vrid)
		for _, c := range keepalivedCounters {
			if value, ok := counters[wireID{r.Interface, r.Family, r.VRID}][c.counter]; ok {
				o.counter(c.name, c.help, keepalivedLabels, value, iname, r.Interface, vrid)
			}
		}
	}
}

// dualStack returns the names of routers with both families. An instance of keepalived has
// one family, so the IPv6 half of such a router gets the name NAME-ipv6.
func dualStack(routers []control.Router) map[string]bool {
	families := make(map[string]string)
	dual := make(map[string]bool)
	for _, r := range routers {
		if family, ok := families[r.Name]; ok && family != r.Family {
			dual[r.Name] = true
		}
		families[r.Name] = r.Family
	}
	return dual
}

// keepalivedState returns the number that the exporter has for a state. A router that waits
// in Initialize is in FAULT for keepalived.
func keepalivedState(r control.Router) float64 {
	switch {
	case r.State == "Active":
		return 2 // MASTER
	case r.State == "Backup":
		return 1 // BACKUP
	case r.Waiting != "":
		return 3 // FAULT
	}
	return 0 // INIT
}
