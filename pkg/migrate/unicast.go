// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/failoverd/failoverd/pkg/config"
)

// peersOnly is why a check of the sender isn't needed.
const peersOnly = "failoverd hears its peers only"

// primarySource is why the source of multicast isn't translated.
const primarySource = "failoverd sends from the interface's primary address, for IPv6 from the link-local one. Another source matters only between hosts of one priority"

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
			in.block("a peer of it isn't an address")
			continue
		}
		p := config.NewPeer(a)
		for i := 1; i+1 < len(c.words); i += 2 {
			ttl, err := strconv.ParseUint(c.words[i+1], 10, 8)
			if err != nil {
				continue // the sweep finds the words
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
		in.peers, in.peerNodes = append(in.peers, p), append(in.peerNodes, c)
	}
}

func sourceAddress(t *translator, in *instance, n *node) {
	a, err := config.ParseHost(n.arg(1))
	if err != nil {
		t.find(n, Unknown, "%s", err)
		return
	}
	if in.source != nil {
		t.find(in.source, Doubtful, "a later line gives another source")
	}
	in.source, in.sourceAddress = n, a
}

// unicast sets the peers of a router.
func (t *translator) unicast(in *instance) {
	if in.unicast == nil {
		if in.source != nil {
			t.find(in.source, Unneeded, "%s", primarySource)
		}
		if in.ttl != nil {
			t.find(in.ttl, Doubtful, "it has no unicast_peer")
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
	own := append(slices.Clone(t.Addresses), in.sourceAddress)
	others := slices.ContainsFunc(in.peers, func(p config.Peer) bool { return !slices.Contains(own, p.Address) })
	for i, p := range in.peers {
		if others && slices.Contains(own, p.Address) {
			t.find(in.peerNodes[i], Unneeded, "it is this host's own address, so it is left out")
			continue
		}
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

// host writes an address, quoted where YAML would take it for something else.
func host(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return text(a.String())
}
