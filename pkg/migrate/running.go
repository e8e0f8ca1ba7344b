// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
)

// running is a keepalived.conf that failoverd runs. It implements config.Origin: it finds the
// directive that a line of the translation comes from.
type running struct {
	path   string
	root   *node
	lines  []string // of the translation
	parts  []made
	groups map[string]*node // the vrrp_sync_groups by their names in the translation
}

// made is a router or a check of the translation.
type made struct {
	name        string // as a control.Change has it
	node        *node
	first, last int // its lines
}

// runKeepalived translates a keepalived.conf in memory. It returns the findings that the
// administrator must know.
func runKeepalived(path, id string, content []byte) (*config.File, []Finding, error) {
	// Includes are relative to the directory of the file itself, not of a symbolic link to it.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("find the directory of %s: %w", path, err)
	}
	o := Here()
	o.ConfigID = cmp.Or(id, o.ConfigID)
	o.StrictIncludes = true
	o.Addresses = nil // they can come later, and a peer that is this host has no effect
	o.KeyDir = whole  // there are no such files, the secrets stay in memory
	t := newTranslator(o)
	root, err := t.read(path, content, config.ReadFile, filepath.Glob)
	if err != nil {
		return nil, nil, brief(err)
	}
	r, err := t.translate(path, root)
	if err != nil {
		return nil, nil, brief(err)
	}
	findings := slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Kind == Unneeded || strings.Contains(f.Text, whole) })
	for i := range findings {
		findings[i].Text = strings.ReplaceAll(findings[i].Text, "commented out", "left out")
	}
	if !slices.ContainsFunc(t.instances, func(in *instance) bool { return in.router.blocked == "" }) {
		lines := []string{path + ": failoverd can run none of its routers:"}
		for _, f := range findings[:min(len(findings), maxShown)] {
			lines = append(lines, f.String())
		}
		return nil, nil, errors.New(strings.Join(lines, "\n"))
	}
	f, err := config.ParseTranslated(path, r.YAML, t.running(path, root, r))
	if err != nil {
		return nil, nil, err
	}
	f.Secrets = make(map[string]auth.Secret)
	for _, k := range r.Keys {
		if f.Secrets[k.Path], err = k.secret(); err != nil {
			return nil, nil, fmt.Errorf("%s: auth_hmac: a key: %w", path, err)
		}
	}
	return f, findings, nil
}

// maxShown is the number of findings in an error.
const maxShown = 50

// secret returns the secret that keepalived reads from a key file. The file has text, or
// octets in hexadecimal after "hex:". A password is always text, and shorter than any key.
func (k KeyFile) secret() (auth.Secret, error) {
	text := strings.TrimSuffix(k.Secret, "\n")
	digits, ok := strings.CutPrefix(text, "hex:")
	if !ok || len(text) <= auth.PasswordMax {
		return auth.NewSecret([]byte(text)), nil
	}
	octets, err := hex.DecodeString(digits)
	if err != nil {
		return auth.Secret{}, errors.New("the text after hex: isn't hexadecimal")
	}
	return auth.NewSecret(octets), nil
}

// running returns the origin of a translation.
func (t *translator) running(path string, root *node, r *Result) *running {
	k := &running{path: path, root: root, lines: strings.Split(string(r.YAML), "\n"), groups: make(map[string]*node)}
	for _, c := range t.checks {
		k.parts = append(k.parts, made{"track " + c.name, c.node, c.first, c.last})
	}
	for _, in := range t.instances {
		name := in.router.name
		if name == "" {
			name = fmt.Sprintf("%s-%d", in.iface, in.vrid)
		}
		k.parts = append(k.parts, made{name, in.router.node, in.router.first, in.router.last})
	}
	for _, g := range t.synced {
		name := strings.TrimLeft(nameless().ReplaceAllString(g.name, "-"), "._-")
		if k.groups[name] == nil {
			k.groups[name] = g.node
		}
	}
	return k
}

// directives are keepalived's directives by the keys that they become, where the names
// differ. The first one that a block has is the place of the key.
var directives = map[string][]string{
	"vrid": {"virtual_router_id"}, "interval": {"advert_int", "interval"},
	"addresses": {"virtual_ipaddress"}, "extra_addresses": {"virtual_ipaddress_excluded", "virtual_ipaddress"},
	"preempt": {"nopreempt", "preempt"}, "accept": {"accept", "no_accept", "strict_mode"},
	"virtual_mac": {"use_vmac", "vmac_xmit_base"}, "unicast": {"unicast_peer", "unicast_src_ip", "unicast_ttl"},
	"authentication": {"auth_hmac", "authentication"}, "routes": {"virtual_routes"}, "rules": {"virtual_rules"},
	"track":         {"track_script", "track_interface", "track_process", "track_file"},
	"notify_active": {"notify_master"}, "notify_lower_priority": {"notify_master_rx_lower_pri"}, "notify_priority_changes": {"vrrp_notify_priority_changes"}, "down_after": {"down_timer_adverts"},
	"announce_again": {"garp_master_delay"}, "announce_count": {"garp_master_repeat"}, "announce_refresh": {"garp_master_refresh"},
	"min": {"quorum"}, "max": {"quorum_max"},
	"startup_delay": {"vrrp_startup_delay"}, "delay_after_boot": {"vrrp_delay_after_boot"}, "notify_fifo": {"vrrp_notify_fifo", "notify_fifo"},
}

// Place implements config.Origin.
func (k *running) Place(line int) (path string, number int, directive string) {
	n := k.block(line)
	if n == nil {
		return k.path, 1, "the file"
	}
	key, item := k.key(line)
	names := directives[key]
	if names == nil {
		names = []string{key}
	}
	for _, name := range names {
		i := slices.IndexFunc(n.block, func(c *node) bool { return c.name() == name })
		if i < 0 {
			continue
		}
		n = n.block[i]
		if i := slices.IndexFunc(n.block, func(c *node) bool { return lists[name] && mentions(item, c.name()) }); i >= 0 {
			return n.block[i].path, n.block[i].number, n.name() + " " + clean(cut(n.block[i].name()))
		}
		break
	}
	return n.path, n.number, n.title()
}

// title returns the name of a directive, of a block at the top also its argument.
func (n *node) title() string {
	if n.parent.parent == nil && len(n.words) > 1 {
		return clean(cut(n.words[0] + " " + n.words[1]))
	}
	return clean(cut(n.name()))
}

// mentions reports whether an item of the translation is about an entry of a list.
func mentions(item, entry string) bool {
	host := func(s string) string { s, _, _ = strings.Cut(s, "/"); return s }
	return slices.ContainsFunc(strings.FieldsFunc(item, func(c rune) bool { return strings.ContainsRune(" ,[]{}\"", c) }), func(word string) bool {
		return host(word) == host(entry)
	})
}

// block returns the block that a line of the translation comes from, nil for the file as a
// whole.
func (k *running) block(line int) *node {
	for _, p := range k.parts {
		if line >= p.first && line <= p.last && p.node != nil {
			return p.node
		}
	}
	for i := min(line, len(k.lines)) - 1; i >= 0; i-- {
		if name, ok := strings.CutPrefix(k.lines[i], "  - name: "); ok && k.groups[name] != nil {
			return k.groups[name]
		}
		if strings.HasPrefix(k.lines[i], "global:") {
			if all := k.globals(); len(all) > 0 {
				return all[0]
			}
		}
		if k.lines[i] != "" && !strings.HasPrefix(k.lines[i], " ") {
			return nil
		}
	}
	return nil
}

// globals returns the blocks global_defs.
func (k *running) globals() []*node {
	return slices.DeleteFunc(slices.Clone(k.root.block), func(n *node) bool { return n.name() != "global_defs" })
}

// key returns the key that a line of the translation belongs to, and the line itself.
func (k *running) key(line int) (key, item string) {
	if line > len(k.lines) {
		return "", ""
	}
	for i := line - 1; i >= 0; i-- {
		s := k.lines[i]
		// The keys of a router, a check and a group are below a dash, those of global aren't.
		for _, begin := range []string{"  - ", "    ", "  "} {
			rest, ok := strings.CutPrefix(s, begin)
			if name, _, found := strings.Cut(rest, ":"); ok && found && plain().MatchString(name) {
				return name, k.lines[line-1]
			}
		}
	}
	return "", ""
}

// Describe implements config.Origin.
func (k *running) Describe(before config.Origin, name, what string, details []string) []string {
	was, ok := before.(*running)
	now := k.named(name)
	switch {
	case !ok, what == "removed":
		return details
	case what == "added":
		if len(now) == 0 {
			return details
		}
		return []string{fmt.Sprintf("%s:%d: %s", now[0].path, now[0].number, now[0].title())}
	}
	where := k.path
	if len(now) > 0 {
		where = fmt.Sprintf("%s:%d: %s", now[0].path, now[0].number, now[0].title())
	}
	all := append(compareAll(was.named(name), now), k.elsewhere(was, name, details)...)
	words := len(all) > 0
	said := slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, ": auth") })
	for _, d := range details {
		// The content of a key file changes without the file that names it.
		if !words || strings.HasPrefix(d, "authentication: ") && !said {
			all = append(all, where+": "+d)
		}
	}
	return all
}

// named returns the blocks of a control.Change.
func (k *running) named(name string) []*node {
	if name == "global" {
		return k.globals()
	}
	if group, ok := strings.CutPrefix(name, "group "); ok && k.groups[group] != nil {
		return []*node{k.groups[group]}
	}
	for _, p := range k.parts {
		if p.name == name && p.node != nil {
			return []*node{p.node}
		}
	}
	return nil
}

// elsewhere returns the changes outside the block of a router that affect it: the defaults in
// global_defs, the sync groups, and the weights of checks.
func (k *running) elsewhere(was *running, name string, details []string) (all []string) {
	if name == "global" || strings.Contains(name, " ") {
		return nil
	}
	for _, line := range compareAll(was.globals(), k.globals()) {
		if strings.Contains(line, ": vrrp_") {
			all = append(all, line)
		}
	}
	changed := func(key string) bool {
		return slices.ContainsFunc(details, func(d string) bool { return strings.HasPrefix(d, key+": ") })
	}
	if changed("group") || changed("track") {
		for group, n := range k.groups {
			all = append(all, compareAll(was.named("group "+group), []*node{n})...)
		}
	}
	if changed("track") {
		for _, p := range k.parts {
			if !strings.HasPrefix(p.name, "track ") {
				continue
			}
			for _, line := range compareAll(was.named(p.name), k.named(p.name)) {
				if strings.Contains(line, ": weight") {
					all = append(all, line)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// compareAll compares blocks one by one, as far as both lists have them.
func compareAll(before, after []*node) (all []string) {
	for i := range min(len(before), len(after)) {
		all = append(all, compare(before[i], after[i], "")...)
	}
	return all
}

// compare returns the differences of two blocks, one line for each directive. within is the
// prefix of their names.
func compare(before, after *node, within string) (all []string) {
	equal, byName := make(map[string][]*node), make(map[string][]*node)
	for _, n := range before.block {
		equal[n.exact()] = append(equal[n.exact()], n)
	}
	// Equal directives don't count.
	var changed []*node
	same := make(map[*node]bool)
	for _, n := range after.block {
		if old := equal[n.exact()]; len(old) > 0 {
			same[old[0]], equal[n.exact()] = true, old[1:]
			continue
		}
		changed = append(changed, n)
	}
	for _, n := range before.block {
		if !same[n] {
			byName[n.slot()] = append(byName[n.slot()], n)
		}
	}
	add := func(n *node, format string, args ...any) {
		all = append(all, fmt.Sprintf("%s:%d: %s", n.path, n.number, within+fmt.Sprintf(format, args...)))
	}
	for _, n := range changed {
		old := byName[n.slot()]
		if len(old) == 0 {
			n.each(func(c *node, name string) { add(c, "%s added", name) })
			continue
		}
		was := old[0]
		byName[n.slot()] = old[1:]
		switch {
		case n.hasBlock && was.hasBlock:
			all = append(all, compare(was, n, within+clean(cut(n.name()))+": ")...)
		case n.concealed():
			add(n, "%s changed", n.shown())
		default:
			add(n, "%s → %s", was.shown(), strings.TrimPrefix(n.shown(), n.name()+" "))
		}
	}
	for _, n := range before.block {
		if slices.Contains(byName[n.slot()], n) {
			n.each(func(_ *node, name string) { add(after, "%s removed", name) })
		}
	}
	return all
}

// each calls a function for a directive, or for each entry if it is a list.
func (n *node) each(f func(n *node, name string)) {
	if !lists[n.name()] || len(n.block) == 0 {
		f(n, n.shown())
		return
	}
	for _, c := range n.block {
		f(c, clean(cut(n.name()))+": "+c.shown())
	}
}

// exact returns the whole content of a directive, with its block.
func (n *node) exact() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", n.words)
	for _, c := range n.block {
		b.WriteString(c.exact())
	}
	return b.String()
}

// slot returns the key by which compare finds the old value of a directive: the content of a
// list's entry, or else the directive's name.
func (n *node) slot() string {
	if lists[n.parent.name()] {
		return n.exact()
	}
	return n.name()
}

// concealed reports whether a directive may have a secret, which must not be shown.
func (n *node) concealed() bool {
	for c := n; c.parent != nil; c = c.parent {
		if c.name() == "authentication" || c.name() == "auth_hmac" || c.name() == "auth_pass" {
			return true
		}
	}
	return false
}

// shown returns a directive as it is written, or only its name if it may have a secret.
func (n *node) shown() string {
	if n.concealed() {
		return clean(cut(n.name()))
	}
	return clean(cut(strings.Join(n.words, " ")))
}
