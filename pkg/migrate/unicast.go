// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/failoverd/failoverd/pkg/config"
)

// peersOnly is why what has keepalived look at the source isn't needed.
const peersOnly = "failoverd hears its peers only"

// primarySource is what becomes of the source of a router of the group.
const primarySource = "failoverd sends from the interface's primary address, for IPv6 from its link-local one"

func unicastPeers(t *translator, in *instance, n *node) {
	n.tell()
	if len(n.block) == 0 {
		t.find(n, Unneeded, "it is empty, so keepalived uses multicast too")
		return
	}
	in.unicast = n
	for _, c := range n.block {
		c.tell()
		a, err := config.ParseHost(c.name())
		if err != nil {
			t.find(c, Unknown, "%s", err)
			in.block("not all of its peers could be read")
			continue
		}
		p := config.NewPeer(a)
		for i := 1; i+1 < len(c.words); i += 2 {
			ttl, err := strconv.ParseUint(c.words[i+1], 10, 8)
			if err != nil {
				continue // the words that nobody has read are found
			}
			switch c.words[i] {
			case "min_ttl":
				p.MinTTL = int(ttl)
			case "max_ttl":
				p.MaxTTL = int(ttl)
			default:
				continue
			}
			c.arg(i)
			c.arg(i + 1)
		}
		in.peers = append(in.peers, p)
	}
}

func sourceAddress(t *translator, in *instance, n *node) {
	a, err := config.ParseHost(n.arg(1))
	if err != nil {
		t.find(n, Unknown, "%s", err)
		return
	}
	if in.source != nil {
		t.find(in.source, Unneeded, "a later line gives the source anew")
	}
	in.source, in.sourceAddress = n, a
}

// unicast has the router advertise to its peers.
func (t *translator) unicast(in *instance) {
	if in.unicast == nil {
		if in.source != nil {
			t.find(in.source, Changed, "%s", primarySource)
		}
		if in.ttl != nil {
			t.find(in.ttl, Unneeded, "it has no unicast_peer")
		}
		if in.faultless != nil {
			t.find(in.faultless, Changed, "keepalived would be in state FAULT without a peer, so the router is commented out")
			in.block("it has no unicast peer")
		}
		return
	}
	if in.faultless != nil {
		t.find(in.faultless, Unneeded, "it has peers; without any failoverd refuses unicast")
	}
	var lines []string
	if in.source != nil {
		lines = append(lines, "source: "+host(in.sourceAddress))
	}
	lines = append(lines, "peers:")
	for _, p := range in.peers {
		s := host(p.Address)
		if p.MinTTL != config.AutoTTL || p.MaxTTL != 255 {
			s = fmt.Sprintf("{address: %s, min_ttl: %d, max_ttl: %d}", s, max(p.MinTTL, 0), p.MaxTTL)
		}
		lines = append(lines, "  - "+s)
	}
	if in.ttlValue != 0 && in.ttlValue != config.DefaultTTL {
		lines = append(lines, "ttl: "+strconv.Itoa(in.ttlValue))
	}
	in.router.keys = append(in.router.keys, pair{key: "unicast", below: lines})
}

// host writes an address so that it is text in a list too.
func host(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return text(a.String())
}
