// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Ruleset is the parsed output of nft -j list ruleset.
type Ruleset struct {
	chains []*chain
	sets   map[string][]json.RawMessage // the key is "FAMILY TABLE NAME"
}

type chain struct {
	Family, Table, Name string
	Type, Hook, Policy  string // of base chains
	// Device has the interfaces of a netdev chain. nft before 1.0.7 omits it.
	Device json.RawMessage `json:"dev"`
	rules  []rule
}

type rule struct {
	Family, Table, Chain string
	Handle               int
	Expr                 []map[string]json.RawMessage
}

// ParseRuleset parses the output of nft -j list ruleset.
func ParseRuleset(b []byte) (*Ruleset, error) {
	var all struct{ Nftables []map[string]json.RawMessage }
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("parse the ruleset of nft: %w", err)
	}
	r := &Ruleset{sets: make(map[string][]json.RawMessage)}
	var rules []rule
	for _, object := range all.Nftables {
		for kind, b := range object {
			var err error
			switch kind {
			case "chain":
				c := new(chain)
				err = json.Unmarshal(b, c)
				r.chains = append(r.chains, c)
			case "rule":
				var one rule
				err = json.Unmarshal(b, &one)
				rules = append(rules, one)
			case "set":
				var set struct {
					Family, Table, Name string
					Elem                []json.RawMessage
				}
				err = json.Unmarshal(b, &set)
				r.sets[set.Family+" "+set.Table+" "+set.Name] = set.Elem
			}
			if err != nil {
				return nil, fmt.Errorf("parse a %s of nft's ruleset: %w", kind, err)
			}
		}
	}
	for _, one := range rules {
		if c := r.chain(one.Family, one.Table, one.Chain); c != nil {
			c.rules = append(c.rules, one)
		}
	}
	return r, nil
}

func (r *Ruleset) chain(family, table, name string) *chain {
	i := slices.IndexFunc(r.chains, func(c *chain) bool { return c.Family == family && c.Table == table && c.Name == name })
	if i < 0 {
		return nil
	}
	return r.chains[i]
}

// SetDevices takes the interfaces of netdev chains from the output of nft list ruleset, where
// the JSON omits them.
func (r *Ruleset) SetDevices(text string) {
	var family, table, name string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) > 2 && words[0] == "table":
			family, table = words[1], words[2]
		case len(words) > 1 && words[0] == "chain":
			name = words[1]
		case slices.Contains(words, "hook"):
			c := r.chain(family, table, name)
			_, devices, found := strings.Cut(line, " device")
			if c == nil || c.Device != nil || !found {
				continue
			}
			devices, _, _ = strings.Cut(devices, " priority")
			names := strings.FieldsFunc(devices, func(r rune) bool { return strings.ContainsRune(" s={},\"", r) })
			if b, err := json.Marshal(names); err == nil {
				c.Device = b
			}
		}
	}
}

// on reports whether a base chain sees the packets of an interface. It returns false if the
// interfaces of the chain aren't known.
func (c *chain) on(ifname string) bool {
	if c.Family != "netdev" && c.Hook != "ingress" {
		return true
	}
	var one string
	var several []string
	if json.Unmarshal(c.Device, &one) == nil {
		return one == ifname
	}
	return json.Unmarshal(c.Device, &several) == nil && slices.Contains(several, ifname)
}

func (c *chain) String() string { return fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name) }

// uses reports whether the name of a table or a chain begins with prefix, as those of
// firewalld and ufw do.
func (r *Ruleset) uses(prefix string) bool {
	return slices.ContainsFunc(r.chains, func(c *chain) bool {
		return strings.HasPrefix(c.Table, prefix) || strings.HasPrefix(c.Name, prefix)
	})
}

// Drop is a place in the ruleset that drops a packet.
type Drop struct {
	Hook  string
	Chain string // FAMILY TABLE NAME
	Rule  int    // handle of the rule in the base chain, 0 for the policy
}

func (d Drop) String() string {
	if d.Rule == 0 {
		return fmt.Sprintf("the policy of nft chain %s", d.Chain)
	}
	return fmt.Sprintf("rule %d of nft chain %s", d.Rule, d.Chain)
}

// Drops returns the base chains of the hooks that are certain to drop a packet. A rule that
// isn't understood counts as one that may accept it.
func (r *Ruleset) Drops(p Packet, hooks ...string) []Drop {
	var all []Drop
	for _, c := range r.chains {
		if !slices.Contains(hooks, c.Hook) || c.Type == "nat" || !p.sees(c) {
			continue
		}
		e := evaluation{Ruleset: r, packet: p}
		after := e.walk(c, 0)
		if after.has(goesOn) {
			after = after.without(goesOn)
			if c.Policy == "drop" {
				after |= dropped
			} else {
				after |= accepted
			}
		}
		if after == dropped {
			all = append(all, Drop{Hook: c.Hook, Chain: c.String(), Rule: e.rule})
		}
	}
	return all
}
