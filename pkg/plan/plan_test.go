// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/routing"
)

func ether(index int, name, kind string, addresses ...string) link.Interface {
	i := link.Interface{Index: index, Name: name, Kind: kind, Encapsulation: "ether"}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, link.Address{Prefix: netip.MustParsePrefix(a)})
	}
	return i
}

func router(priority int, addresses ...string) config.Router {
	r := config.Router{Name: "web", Interface: "eth0", VRID: 51, Priority: priority}
	for _, a := range addresses {
		r.Addresses = append(r.Addresses, netip.MustParsePrefix(a))
	}
	return r
}

func codes(all []Finding) (codes []string) {
	for _, f := range all {
		codes = append(codes, f.Code)
	}
	return codes
}

func TestUsable(t *testing.T) {
	for name, c := range map[string]struct {
		i    link.Interface
		good bool
	}{
		"a NIC":     {ether(2, "eth0", ""), true},
		"a bridge":  {ether(2, "br0", "bridge"), true},
		"loopback":  {link.Interface{Kind: link.KindLoopback, Encapsulation: "loopback"}, true},
		"tun":       {link.Interface{Name: "tun0", Kind: "tun", Encapsulation: "none"}, false},
		"WireGuard": {link.Interface{Name: "wg0", Kind: "wireguard", Encapsulation: "none"}, false},
		"PPP":       {link.Interface{Name: "ppp0", Encapsulation: "ppp"}, false},
	} {
		err := Usable(c.i)
		if (err == nil) != c.good || err != nil && (!strings.Contains(err.Error(), c.i.Name) || !strings.Contains(err.Error(), c.i.Kind)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChooseMACMode(t *testing.T) {
	unfenced := errors.New("no TC")
	nic, macvlan, ipvlan := ether(2, "eth0", ""), ether(2, "eth0", "macvlan"), ether(2, "eth0", "ipvlan")
	passthru := macvlan
	passthru.Passthru = true
	const auto, bpf, dev, off = config.VirtualMACAuto, config.VirtualMACBPF, config.VirtualMACMacvlan, config.VirtualMACOff
	tc := MACRequest{Want: auto, Accept: true, TC: true, VRID: 51}
	with := func(change func(*MACRequest)) MACRequest {
		m := tc
		change(&m)
		return m
	}
	want := func(mode config.VirtualMAC) MACRequest { return with(func(m *MACRequest) { m.Want = mode }) }
	none := func(mode config.VirtualMAC) MACRequest {
		return with(func(m *MACRequest) { m.Want, m.TC, m.Unfenced = mode, false, unfenced })
	}
	for name, c := range map[string]struct {
		m    MACRequest
		i    link.Interface
		mode config.VirtualMAC
		why  string // part of the reason or of the error
	}{
		"auto":                       {tc, nic, bpf, ""},
		"auto without TC":            {none(auto), nic, dev, ""},
		"auto of an owner":           {with(func(m *MACRequest) { m.TC, m.Owner, m.Unfenced = false, true, unfenced }), nic, off, "no TC"},
		"auto to peers":              {with(func(m *MACRequest) { m.Unicast = true }), macvlan, off, ""},
		"auto on a macvlan":          {tc, macvlan, off, "eth0 is a macvlan"},
		"auto on a passthru macvlan": {tc, passthru, bpf, ""},
		"auto on an ipvlan":          {none(auto), ipvlan, off, "eth0 is an ipvlan"},
		"bpf":                        {want(bpf), nic, bpf, ""},
		"bpf without TC":             {none(bpf), nic, "", "no TC"},
		"bpf on a macvlan":           {want(bpf), macvlan, "", "its own MAC only"},
		"macvlan":                    {none(dev), nic, dev, ""},
		"macvlan on a macvlan":       {want(dev), macvlan, dev, ""},
		"macvlan on an ipvlan":       {want(dev), ipvlan, "", "shares the MAC"},
		"off":                        {want(off), ipvlan, off, ""},
		"Accept_Mode without TC":     {with(func(m *MACRequest) { m.Accept, m.TC, m.Unfenced = false, false, unfenced }), nic, "", "Accept_Mode"},
		"an owner's without TC":      {with(func(m *MACRequest) { m.Accept, m.TC, m.Owner, m.Unfenced = false, false, true, unfenced }), nic, off, "no TC"},
	} {
		mode, why, err := ChooseMACMode(c.m, c.i)
		if err != nil {
			why = err.Error()
		}
		if mode != c.mode || (err != nil) != (c.mode == "") || c.why == "" && why != "" || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, %q, %v", name, mode, why, err)
		}
	}
}

func TestFindings(t *testing.T) {
	eth0 := ether(2, "eth0", "", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")
	dummy := ether(9, "kube-ipvs0", "dummy", "192.0.2.10/32")
	quiet := ether(9, "ifb0", "ifb", "192.0.2.10/32")
	quiet.NoARP = true
	lo := ether(1, "lo", link.KindLoopback, "192.0.2.10/32")
	eth1 := ether(3, "eth1", "", "192.0.2.10/25", "fe80::5/64")
	has := func(a string) link.Interface {
		return ether(2, "eth0", "", "192.0.2.1/24", a)
	}
	port := eth0
	port.Master = 7
	peers := router(100, "192.0.2.10/24")
	peers.Unicast.Peers = []config.Peer{{Address: netip.MustParseAddr("198.51.100.9")}, {Address: netip.MustParseAddr("192.0.2.1")}, {Address: netip.MustParseAddr("fe80::5")}}
	extra := router(100, "192.0.2.9/24")
	extra.Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.10/24"), Interface: "eth0"}}
	one := router(100, "192.0.2.10/24")
	placed := router(100, "192.0.2.10/24", "192.0.2.11/24")
	placed.Interfaces = map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): "eth1"}
	onDummy := one
	onDummy.Interfaces = map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): "kube-ipvs0"}
	for name, c := range map[string]struct {
		r      config.Router
		all    []link.Interface
		fenced bool
		ours   bool
		codes  []string
		text   string // of the first finding
	}{
		"fine":                          {one, []link.Interface{eth0}, true, false, nil, ""},
		"no interface yet":              {one, nil, true, false, nil, ""},
		"elsewhere":                     {one, []link.Interface{eth0, eth1}, true, false, []string{AddressElsewhere}, "ip addr del 192.0.2.10/25 dev eth1"},
		"elsewhere, without the own":    {one, []link.Interface{eth1}, true, false, []string{AddressElsewhere}, "or run the router on eth1"},
		"elsewhere, of failoverd":       {one, []link.Interface{eth0, eth1}, true, true, nil, ""},
		"on a dummy, fenced":            {one, []link.Interface{eth0, dummy}, true, false, []string{AddressSilent}, "ip addr del 192.0.2.10/32 dev kube-ipvs0"},
		"on a dummy, unfenced":          {one, []link.Interface{eth0, dummy}, false, false, []string{AddressElsewhere}, "ip addr del 192.0.2.10/32 dev kube-ipvs0"},
		"on the loopback":               {one, []link.Interface{lo, eth0}, true, false, []string{AddressSilent}, "dev lo"},
		"without ARP":                   {one, []link.Interface{eth0, quiet}, true, false, []string{AddressSilent}, "dev ifb0"},
		"on two":                        {one, []link.Interface{eth0, eth1, dummy}, false, false, []string{AddressElsewhere}, "eth1"},
		"here":                          {one, []link.Interface{has("192.0.2.10/32")}, true, false, []string{AddressHere}, "ip addr del 192.0.2.10/32 dev eth0"},
		"here, of failoverd":            {one, []link.Interface{has("192.0.2.10/32")}, true, true, nil, ""},
		"an owner's":                    {router(255, "192.0.2.10/24"), []link.Interface{has("192.0.2.10/24")}, true, false, nil, ""},
		"an owner without":              {router(255, "192.0.2.10/24"), []link.Interface{eth0}, true, false, []string{OwnerWithout}, "is not on eth0"},
		"link-local elsewhere":          {router(100, "fe80::5/64"), []link.Interface{eth0, eth1}, true, false, nil, ""},
		"an extra address here":         {extra, []link.Interface{has("192.0.2.10/32")}, true, false, []string{ExtraElsewhere}, "ip addr del 192.0.2.10/32 dev eth0"},
		"an extra address on a dummy":   {extra, []link.Interface{eth0, dummy}, true, false, nil, ""},
		"an extra address, unfenced":    {extra, []link.Interface{eth0, dummy}, false, false, []string{ExtraElsewhere}, "dev kube-ipvs0"},
		"on its own interface":          {placed, []link.Interface{eth0, eth1}, true, false, []string{AddressElsewhere}, "ip addr del 192.0.2.10/25 dev eth1"},
		"there, of failoverd":           {placed, []link.Interface{eth0, eth1}, true, true, nil, ""},
		"not yet there":                 {placed, []link.Interface{eth0, ether(3, "eth1", "")}, true, false, nil, ""},
		"on the router's instead":       {placed, []link.Interface{has("192.0.2.10/32"), ether(3, "eth1", "")}, true, false, []string{AddressElsewhere}, "ip addr del 192.0.2.10/32 dev eth0"},
		"its own is a dummy":            {onDummy, []link.Interface{eth0, dummy}, true, false, []string{AddressElsewhere}, "dev kube-ipvs0"},
		"a peer that is the host":       {peers, []link.Interface{eth0}, true, false, []string{PeerIsHost}, "peer 192.0.2.1 is"},
		"a link-local peer elsewhere":   {peers, []link.Interface{ether(2, "eth0", ""), ether(3, "eth1", "", "fe80::5/64")}, true, false, nil, ""},
		"a port of a bridge":            {one, []link.Interface{port, ether(7, "br0", "bridge")}, true, false, []string{BridgePort}, "run the router on br0"},
		"a port of a bond":              {one, []link.Interface{port, ether(7, "bond0", "bond")}, true, false, nil, ""},
		"32 bits":                       {router(100, "192.0.2.10/32"), []link.Interface{eth0}, true, false, []string{HostPrefix}, "192.0.2.10/24"},
		"128 bits":                      {router(100, "2001:db8::10/128"), []link.Interface{eth0}, true, false, []string{HostPrefix}, "2001:db8::10/64"},
		"outside":                       {router(100, "192.0.3.10/24"), []link.Interface{eth0}, true, false, []string{OutsideNetwork}, "192.0.2.0/24"},
		"outside, of one with no other": {router(100, "192.0.3.10/24"), []link.Interface{ether(2, "eth0", "")}, true, false, nil, ""},
		"within a virtual one's only":   {router(100, "192.0.2.200/32"), []link.Interface{has("192.0.2.199/25")}, true, false, []string{HostPrefix}, "192.0.2.200/24"},
	} {
		h := HostFacts{Interfaces: c.all, Fenced: c.fenced, Ours: func(int, netip.Addr) bool { return c.ours }}
		all := append(Obstacles(c.r, h), Warnings(c.r, h, link.NewAddressSet(netip.MustParseAddr("192.0.2.199")))...)
		if !slices.Equal(codes(all), c.codes) || len(all) > 0 && !strings.Contains(all[0].String(), c.text) {
			t.Errorf("%s: %+v", name, all)
		}
	}
	if all := Warnings(peers, HostFacts{Interfaces: []link.Interface{eth0}, Ours: func(int, netip.Addr) bool { return false }}, nil); len(all) != 1 || all[0].Key != "unicast" || all[0].Item != 2 {
		t.Errorf("the position of the second peer: %+v", all)
	}
}
