// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

// trackKind is a kind of check in keepalived. Names are unique within a kind.
type trackKind string

const (
	kindScript    trackKind = "script"
	kindProcess   trackKind = "process"
	kindFile      trackKind = "file"
	kindInterface trackKind = "interface"
)

// probe is a check of keepalived and its translation, a track.
type probe struct {
	node    *node
	kind    trackKind
	source  string // its name in keepalived
	name    string // its name here
	weight  int    // in keepalived
	reverse bool
	keys    []pair

	first, last int    // its lines in the result
	refused     string // why it is commented out
}

// tracked is a check in a list of an instance or a group.
type tracked struct {
	node    *node
	kind    trackKind
	source  string
	weight  *int // nil: the check's
	reverse bool
}

// weigh translates a weight. keepalived's reverse changes the sign of the weight;
// failoverd's exchanges up and down. The number in a file has a sign.
func weigh(kind trackKind, weight int, reverse bool) (int, bool) {
	switch {
	case weight == 0:
		return 0, reverse
	case reverse && kind == kindFile:
		return -weight, false
	case reverse:
		return -weight, true
	}
	return weight, false
}

// clamp keeps a weight within failoverd's limits.
func (t *translator) clamp(n *node, weight int) int {
	if kept := min(max(weight, -config.MaxWeight), config.MaxWeight); kept != weight {
		t.find(n, Changed, "the weight is %d, failoverd's maximum", kept)
		return kept
	}
	return weight
}

// weight reads `N [reverse|noreverse]` from a word on.
func (t *translator) weight(n *node, from int) (weight int, reverse, ok bool) {
	weight, err := strconv.Atoi(n.arg(from))
	if err != nil {
		t.find(n, Unknown, "`%s` isn't a weight", cut(n.arg(from)))
		return 0, false, false
	}
	switch n.arg(from + 1) {
	case "reverse":
		reverse = true
	case "", "noreverse", "no_reverse":
	default:
		t.find(n, Unknown, "`%s` is neither reverse nor noreverse", cut(n.arg(from+1)))
	}
	return t.clamp(n, weight), reverse, true
}

// set sets a key. The last of two directives for one key wins.
func (k *probe) set(key, value string) {
	k.keys = slices.DeleteFunc(k.keys, func(p pair) bool { return p.key == key })
	k.keys = append(k.keys, pair{key: key, value: value})
}

// beginCheck reads a block that describes a check.
func beginCheck(kind trackKind, weight int, known func(*probe) rules) func(*translator, *instance, *node) {
	return func(t *translator, _ *instance, n *node) {
		k := &probe{node: n, kind: kind, source: n.arg(1), weight: weight}
		t.apply(known(k), nil, n.block)
		if slices.ContainsFunc(k.keys, func(p pair) bool { return p.key == "tcp" }) {
			k.keys = slices.DeleteFunc(k.keys, func(p pair) bool { return p.key == "user" })
		}
		t.checks = append(t.checks, k)
	}
}

func (k *probe) weightRule() rule {
	return rule{apply: func(t *translator, _ *instance, n *node) {
		if weight, reverse, ok := t.weight(n, 1); ok {
			k.weight, k.reverse = weight, reverse
		}
	}}
}

func (k *probe) numberRule(key string, most int) rule {
	return rule{apply: func(t *translator, _ *instance, n *node) {
		if v, ok := t.number(n, 0, most); ok {
			k.set(key, strconv.Itoa(v))
		}
	}}
}

func (k *probe) timeRule(key string) rule {
	return rule{apply: func(t *translator, _ *instance, n *node) {
		if d, ok := t.seconds(n); ok && d > 0 {
			k.set(key, duration(d))
		}
	}}
}

func scriptRules(k *probe) rules {
	return rules{
		"script":   {apply: k.script},
		"interval": k.timeRule("interval"),
		"timeout":  k.timeRule("timeout"),
		"weight":   k.weightRule(),
		"rise":     k.numberRule("rise", 1000),
		"fall":     k.numberRule("fall", 1000),
		"user": {apply: func(_ *translator, _ *instance, n *node) {
			k.set("user", text(strings.Join(n.args(), ":")))
		}},
		"init_fail": {apply: func(*translator, *instance, *node) { k.set("init_fail", "true") }},
	}
}

// openable is a script that opens a file. keepalived gives this one to a shell.
var openable = pattern(`^<\s*(/\S+)$`)

func (k *probe) script(t *translator, _ *instance, n *node) {
	args := n.args()
	if m := openable().FindStringSubmatch(strings.TrimSpace(strings.Join(args, " "))); m != nil {
		if to, socket := strings.CutPrefix(m[1], "/dev/tcp/"); socket && strings.Count(to, "/") == 1 {
			host, port, _ := strings.Cut(to, "/")
			k.set("tcp", text(net.JoinHostPort(host, port)))
			t.find(n, Unneeded, "it becomes a check of the TCP port")
			return
		}
		k.set("script", text("<"+m[1]))
		k.set("shell", "true")
		return
	}
	var user string
	for _, c := range k.node.block {
		if c.name() == "user" {
			user = strings.Join(c.words[1:], ":")
		}
	}
	if command, ok := t.command(n, args, user); ok {
		k.set("script", command)
	}
}

// shellWords are arguments that mean something to a shell alone.
var shellWords = []string{"|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", ">/dev/null", "&>/dev/null", "2>/dev/null", "1>/dev/null"}

// command splits a command into words as keepalived does: there is no shell.
func (t *translator) command(n *node, args []string, user string) (string, bool) {
	if len(args) == 1 {
		words, err := split(args[0])
		if err != nil {
			t.find(n, Unknown, "%s", err)
			return "", false
		}
		args = nil
		for _, w := range words {
			args = append(args, w.word)
		}
	}
	if i := slices.IndexFunc(args, func(s string) bool { return slices.Contains(shellWords, s) }); i >= 0 {
		t.find(n, Doubtful, "there is no shell, as in keepalived: `%s` is an argument of the program. If a shell is meant, use `shell: true` and give the whole line", args[i])
	}
	switch {
	case len(args) == 0:
	case !strings.HasPrefix(args[0], "/"):
		t.find(n, Unneeded, "failoverd takes a path, so /usr/bin/env searches for the program")
		args = append([]string{"/usr/bin/env"}, args...)
	case t.CheckProgram != nil:
		t.examine(n, args[0], user)
	}
	return list(args), true
}

// examine finds a program that keepalived runs and failoverd refuses.
func (t *translator) examine(n *node, path, user string) {
	for _, p := range t.globals {
		if p.key == "script_user" && user == "" {
			user = p.value
		}
	}
	err := t.CheckProgram(path, user)
	switch {
	case err == nil:
	case t.secure:
		t.find(n, Doubtful, "keepalived doesn't run it because of enable_script_security, and neither does failoverd: %.300s", err)
	default:
		t.find(n, Changed, "failoverd refuses to run it: %.300s. keepalived runs it, and logs a SECURITY VIOLATION. Correct the permissions, or set `allow_insecure_scripts: true` below `global:`", err)
	}
}

func list(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = text(w)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func processRules(k *probe) rules {
	delayed := func(keys ...string) rule {
		return rule{apply: func(t *translator, _ *instance, n *node) {
			d, ok := t.seconds(n)
			if !ok || d == 0 {
				return
			}
			looks := int((d + time.Second - 1) / time.Second)
			for _, key := range keys {
				k.set(key, strconv.Itoa(looks+1))
			}
			if d == time.Duration(looks)*time.Second {
				t.find(n, Unneeded, "failoverd looks each second, and the state has to last for %s, too", duration(d))
			} else {
				t.find(n, Changed, "failoverd looks each second, so the state has to last for %d s, not %s", looks, duration(d))
			}
		}}
	}
	return rules{
		"process":     {apply: k.process},
		"param_match": changed("the first words of the command line have to be the same, more may follow"),
		"weight":      k.weightRule(),
		"quorum":      k.numberRule("min", 1e6),
		"quorum_max": {apply: func(t *translator, _ *instance, n *node) {
			most, ok := t.number(n, 0, 1e6)
			if !ok {
				return
			}
			k.set("max", strconv.Itoa(most))
			if most == 0 {
				k.set("min", "0")
			}
		}},
		"fork_delay":      delayed("rise"),
		"terminate_delay": delayed("fall"),
		"delay":           delayed("rise", "fall"),
		"full_command":    {apply: func(*translator, *instance, *node) {}}, // process has looked for it
	}
}

func (k *probe) process(t *translator, _ *instance, n *node) {
	args := n.args()
	if len(args) == 0 {
		return
	}
	full := slices.ContainsFunc(k.node.block, func(c *node) bool { return c.name() == "full_command" })
	switch {
	case full && len(args) == 1 && strings.Contains(args[0], " "):
		args = strings.Fields(args[0])
		fallthrough
	case full:
		k.set("process", list(args))
		return
	case len(args) > 1:
		t.find(n, Changed, "failoverd compares the name alone, or with full_command the whole command line: the arguments are left out")
	}
	name := args[0][strings.LastIndexByte(args[0], '/')+1:]
	k.set("process", text(name[:min(len(name), 15)])) // what /proc/PID/comm has
}

func fileRules(k *probe) rules {
	return rules{
		"file":   {apply: func(_ *translator, _ *instance, n *node) { k.set("file", text(n.arg(1))) }},
		"weight": k.weightRule(),
		"init_file": {apply: func(t *translator, _ *instance, n *node) {
			value, overwrite := n.arg(1), n.arg(2) == "overwrite" || n.arg(1) == "overwrite"
			if overwrite || value != "" && value != "0" {
				t.find(n, Changed, "failoverd doesn't write the file, and a missing one counts as 0: let the program that changes the file write it at its start")
			} else {
				t.find(n, Unneeded, "a missing file counts as 0")
			}
		}},
	}
}

// groupWeights notes that the checks of a group's members keep their weights.
func groupWeights(t *translator, _ *instance, n *node) { t.weighted[n.parent] = true }

// uses reads the list of checks of an instance, or of a group. The checks of a group
// are those of all its members.
func uses(kind trackKind) func(*translator, *instance, *node) {
	return func(t *translator, in *instance, n *node) {
		for _, c := range n.block {
			c.tell()
			u := tracked{node: c, kind: kind, source: c.name()}
			if c.arg(1) == "weight" {
				if weight, reverse, ok := t.weight(c, 2); ok {
					u.weight, u.reverse = &weight, reverse
				}
			}
			if in != nil {
				in.uses = append(in.uses, u)
			} else {
				t.groupUses[n.parent] = append(t.groupUses[n.parent], u)
			}
		}
	}
}

// delays are the times that an interface has to be down or up before keepalived believes it.
type delays struct {
	node     *node
	down, up time.Duration
}

// interfaceDelays reads interface_up_down_delays.
func interfaceDelays(t *translator, _ *instance, n *node) {
	for _, c := range n.block {
		c.tell()
		var d [2]time.Duration
		for i := range d {
			word := c.arg(i + 1)
			if word == "" && i == 1 {
				d[1] = d[0] // keepalived's default
				continue
			}
			v, err := strconv.ParseFloat(word, 64)
			if err != nil || !(v >= 0 && v <= 255) {
				t.find(c, Unknown, "`%s` isn't a number of seconds from 0 to 255", cut(word))
				v = 0
			}
			d[i] = time.Duration(math.Round(v*1e6)) * time.Microsecond
		}
		t.debounces[c.name()] = delays{c, d[0], d[1]}
	}
}

// debounce makes a check change its state only after a result has lasted for a time. For a time
// of less than a second the interval is shorter.
func (k *probe) debounce(d delays) {
	interval := config.DefaultTrackInterval
	for _, t := range []time.Duration{d.down, d.up} {
		if t > 0 {
			interval = min(interval, max(t, 10*time.Millisecond))
		}
	}
	if interval != config.DefaultTrackInterval {
		k.set("interval", duration(interval))
	}
	count := func(key string, t time.Duration) {
		if t > 0 {
			k.set(key, strconv.Itoa(int((t+interval-1)/interval)+1))
		}
	}
	count("fall", d.down)
	count("rise", d.up)
}

// maxUses is the highest number of checks that all routers together have.
const maxUses = 100_000

// track adds the checks to the routers.
func (t *translator) track() error {
	for i, k := range t.checks {
		k.name = t.trackName(k.source)
		if _, known := t.checkOf[checkName{k.kind, k.source}]; !known {
			t.checkOf[checkName{k.kind, k.source}] = i
		}
	}
	groups := make(map[string][]*syncedGroup)
	for _, g := range t.synced {
		for _, name := range g.members {
			if list := groups[name]; len(list) == 0 || list[len(list)-1] != g {
				groups[name] = append(groups[name], g)
			}
		}
	}
	uses := 0
	for _, in := range t.instances {
		seen := make(map[*probe]bool)
		weightless := slices.ContainsFunc(groups[in.name], func(g *syncedGroup) bool { return !t.weighted[g.node] })
		if d := t.debounces[in.iface]; d.down+d.up > 0 && !in.withoutCarrier {
			// A check can wait, which a router doesn't with its own carrier.
			in.withoutCarrier = true
			in.uses = append(in.uses, tracked{node: d.node, kind: kindInterface, source: in.iface})
		}
		if in.withoutCarrier {
			in.router.set("without_carrier", "true")
		}
		for _, u := range in.uses {
			t.depend(in, u, seen, weightless)
		}
		for _, g := range groups[in.name] {
			if uses += len(t.groupUses[g.node]); uses > maxUses {
				return fmt.Errorf("%s:%d: more than %d checks with those of groups", g.node.path, g.node.number, maxUses)
			}
			for _, u := range t.groupUses[g.node] {
				t.depend(in, u, seen, false) // a group's own checks keep their weights
			}
		}
	}
	return nil
}

// checkName is a check's name in keepalived.
type checkName struct {
	kind   trackKind
	source string
}

// depend adds a check to a router, unless it was seen already. weightless says that
// the router is in a group without sync_group_tracking_weight, and has the check itself.
func (t *translator) depend(in *instance, u tracked, seen map[*probe]bool, weightless bool) {
	i, known := t.checkOf[checkName{u.kind, u.source}]
	if !known {
		i = -1
	}
	if i < 0 && u.kind == kindInterface {
		if u.source == in.iface && u.node != t.debounces[in.iface].node {
			t.find(u.node, Unneeded, "a router takes no part while its own interface is down")
			return
		}
		k := &probe{node: u.node, kind: u.kind, source: u.source, name: t.trackName(u.source)}
		k.set("interface", text(u.source))
		k.debounce(t.debounces[u.source])
		t.checks = append(t.checks, k)
		i = len(t.checks) - 1
		t.checkOf[checkName{u.kind, u.source}] = i
	}
	if i < 0 {
		t.find(u.node, Doubtful, "there is no such %s, and keepalived leaves it out, too", u.kind)
		return
	}
	k := t.checks[i]
	if seen[k] {
		return // the group has it, too
	}
	d := dependency{check: k}
	weight, reverse := k.weight, k.reverse
	if u.weight != nil {
		weight, reverse = *u.weight, u.reverse
	}
	if weight != 0 && in.priority == config.OwnerPriority {
		t.find(u.node, Doubtful, "an owner's priority (255) doesn't change: the weight is 0, as in keepalived")
		weight = 0
	}
	if weight != 0 && weightless {
		switch {
		case k.kind == kindProcess: // keepalived keeps the weight of this kind
		case k.kind == kindInterface, k.kind == kindFile && weight == 1:
			t.find(u.node, Doubtful, "without sync_group_tracking_weight keepalived takes 0 for the weight in a sync group")
			weight = 0
		default:
			t.find(u.node, Doubtful, "without sync_group_tracking_weight keepalived ignores a check with a weight in a sync group, unless it is the group's own: it is left out")
			return
		}
	}
	seen[k] = true
	d.weight, d.reverse = weigh(k.kind, weight, reverse)
	in.router.track = append(in.router.track, d)
}

// trackName makes a name valid and unique.
func (t *translator) trackName(source string) string {
	name := strings.TrimLeft(nameless().ReplaceAllString(source, "-"), "._-")
	if name == "" {
		name = "check"
	}
	return unique(name[:min(len(name), 60)], t.trackNames, t.trackNumbers)
}

// dependency is a check that a router depends on, with its weight here.
type dependency struct {
	check   *probe
	weight  int
	reverse bool
}

// tracks returns the value of the key track.
func (r *router) tracks() string {
	var all []string
	for _, d := range r.track {
		if d.check.refused != "" {
			continue
		}
		entry := text(d.check.name)
		weight, reverse := weigh(d.check.kind, d.check.weight, d.check.reverse)
		if d.weight != weight || d.reverse != reverse {
			entry = fmt.Sprintf("{name: %s, weight: %d", entry, d.weight)
			if d.reverse != reverse {
				entry += fmt.Sprintf(", reverse: %t", d.reverse)
			}
			entry += "}"
		}
		all = append(all, entry)
	}
	if len(all) == 0 {
		return ""
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// writeTracks writes the checks.
func (c *collector) writeTracks(b *bytes.Buffer) {
	if len(c.checks) == 0 {
		return
	}
	heading := "tracks:"
	if !slices.ContainsFunc(c.checks, func(k *probe) bool { return k.refused == "" }) {
		heading = "# tracks:"
	}
	b.WriteString("\n" + heading + "\n")
	counted, lines := 0, 0
	count := func() int {
		lines += bytes.Count(b.Bytes()[counted:], []byte("\n"))
		counted = b.Len()
		return lines
	}
	for _, k := range c.checks {
		k.first = count() + 1
		prefix := "  "
		if k.refused != "" {
			comment(b, "  ", "Commented out: "+k.refused+".")
			prefix = "  # "
		}
		fmt.Fprintf(b, "%s- name: %s\n", prefix, text(k.name))
		for _, p := range k.keys {
			fmt.Fprintf(b, "%s  %s: %s\n", prefix, p.key, p.value)
		}
		weight, reverse := weigh(k.kind, k.weight, k.reverse)
		if weight != 0 {
			fmt.Fprintf(b, "%s  weight: %d\n", prefix, weight)
		}
		if reverse {
			fmt.Fprintf(b, "%s  reverse: true\n", prefix)
		}
		k.last = count()
	}
}

// refuseChecks comments out the checks that package config refuses, and reports
// whether it found one.
func (c *collector) refuseChecks(mistakes []config.Mistake) (refused bool) {
	for _, m := range mistakes {
		for _, k := range c.checks {
			if k.refused == "" && m.Line >= k.first && m.Line <= k.last {
				k.refused, refused = "failoverd refuses it", true
				c.add(k.node.order, Finding{k.node.path, k.node.number, cut(k.node.name() + " " + k.source), Changed, "commented out, because failoverd refuses it: " + m.Text}, k.node)
			}
		}
	}
	return refused
}
