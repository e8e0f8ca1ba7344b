// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/link"
)

func TestSpread(t *testing.T) {
	snapshot := []link.Interface{
		{Index: 1, Name: "lo", Kind: link.KindLoopback},
		{Index: 2, Name: "eth0", Addresses: []link.Address{{Prefix: netip.MustParsePrefix("192.0.2.2/24")}, {Prefix: netip.MustParsePrefix("fe80::2/64")}}},
		{Index: 3, Name: "eth1", Addresses: []link.Address{{Prefix: netip.MustParsePrefix("198.51.100.2/24")}, {Prefix: netip.MustParsePrefix("2001:db8::2/64")}, {Prefix: netip.MustParsePrefix("fe80::3/64")}}},
	}
	both := []string{"eth0", "eth1"}
	for _, c := range []struct {
		name       string
		interfaces []string
		addresses  []string
		want       [][]string
		err        string
	}{
		{"each where its network is", both, []string{"198.51.100.10/24", "192.0.2.10/24"}, [][]string{{"192.0.2.10/24"}, {"198.51.100.10/24"}}, ""},
		{"link-local goes with the others", both, []string{"fe80::12:33/64", "2001:db8::10/64", "192.0.2.10/24"}, [][]string{{"192.0.2.10/24"}, {"2001:db8::10/64", "fe80::12:33/64"}}, ""},
		{"of no network", both, []string{"203.0.113.1/24"}, nil, "network of 0 of the interfaces"},
		{"nothing for one", both, []string{"192.0.2.10/24"}, nil, "interface eth1"},
		{"no such interface", []string{"eth0", "eth9"}, []string{"192.0.2.10/24"}, nil, `no interface "eth9"`},
		{"loopback", []string{"eth0", "lo"}, []string{"192.0.2.10/24"}, nil, "loopback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addresses []netip.Prefix
			for _, a := range c.addresses {
				addresses = append(addresses, netip.MustParsePrefix(a))
			}
			got, err := spread(c.interfaces, addresses, snapshot)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.want {
				var texts []string
				for _, p := range got[i] {
					texts = append(texts, p.String())
				}
				if strings.Join(texts, " ") != strings.Join(c.want[i], " ") {
					t.Errorf("%s gets %v, want %v", c.interfaces[i], texts, c.want[i])
				}
			}
		})
	}
}
