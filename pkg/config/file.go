// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
)

// DefaultPath is the path of the file if none is given.
const DefaultPath = "/etc/failoverd/failoverd.yaml"

// File is a configuration: what a file and the files that it includes say.
type File struct {
	Path    string
	Global  Global
	Routers []Router
	Groups  []Group
	Tracks  []Track

	// Origin is the file of another program that the configuration was translated from,
	// nil for none.
	Origin Origin
	// Secrets are the secrets of Origin by Key.File. There are no such files.
	Secrets map[string]auth.Secret

	parts   []part
	routers []int    // the indexes that its routers have in the parts; nil if it has all
	places  []places // of the routers, while the parts are read
}

// Global has the settings of the whole daemon.
type Global struct {
	XDPMode   string // of routers without one
	Unchanged string // of routers without one
	LogFormat string // auto, terminal, text, json or journal
	LogLevel  string // error, warning, info or debug
	// Metrics is the TCP address of the metrics for Prometheus, HOST:PORT, or off.
	Metrics       string
	MetricsCompat string // the program whose names the metrics have too: keepalived or off
	// StartupDelay is the time after its start in which the daemon takes no part.
	StartupDelay time.Duration
	// DelayAfterBoot is the time after the host's boot in which the daemon takes no part.
	DelayAfterBoot time.Duration
	// Realtime says which threads of the daemon are real-time.
	Realtime Realtime

	Notify        Command       // for all routers
	NotifyTimeout time.Duration // of routers without one, 100ms to 1h
	NotifyFIFO    string        // a path; empty for none
	// NotifyPriorityChanges says whether the FIFO gets a router's changes of priority too.
	NotifyPriorityChanges bool
	ScriptUser            string // the user of programs, USER or USER:GROUP; empty for the daemon's
	// AllowInsecureScripts also runs programs that others may write to.
	AllowInsecureScripts bool
}

// Realtime says which threads of the daemon run before all programs that aren't
// real-time.
type Realtime string

// The values of Realtime.
const (
	RealtimeAuto Realtime = "auto"  // the event loop's, where it is permitted
	RealtimeAll  Realtime = "true"  // all
	RealtimeNone Realtime = "false" // none
)

// places are the nodes of a router and its keys.
type places struct {
	start  *node
	keys   map[string]*node
	items  map[string][]*node // of lists
	unread map[string]bool    // keys that are missing or have mistakes
}

func newPlaces(start *node) places {
	return places{start: start, keys: make(map[string]*node), items: make(map[string][]*node), unread: make(map[string]bool)}
}

// byteOrderMark may begin a text in UTF-8, and is ignored (YAML 1.2, 5.2).
const byteOrderMark = "\ufeff"

// Parse parses the content of a file, and reads the files that it includes. The error is
// of type *Mistakes and lists everything that can be found without the host, or it is
// ErrNothing. The limits of a file bound the time and the memory for any content.
func Parse(path string, content []byte) (*File, error) { return ParseTranslated(path, content, nil) }

// ParseTranslated is Parse for a content that was translated from another program's file
// at path.
func ParseTranslated(path string, content []byte, origin Origin) (*File, error) {
	r := newReader(path, strings.TrimPrefix(string(content), byteOrderMark))
	r.mistakes.origin = origin
	f, err := parse(r, origin == nil)
	if err == nil {
		f.forget()
	}
	return f, err
}

// forget drops the syntax tree, which has tens of megabytes for thousands of routers.
func (f *File) forget() {
	f.places = nil
	for i := range f.Groups {
		f.Groups[i].start, f.Groups[i].members, f.Groups[i].uses = nil, nil, nil
	}
	for i := range f.Tracks {
		f.Tracks[i].at = trackPlaces{}
	}
}

// ErrNothing is the error for a file that has only comments.
var ErrNothing = errors.New("nothing is configured yet")

// top are the values of the keys at the left margin, in the order of the files.
type top struct{ global, routers, groups, tracks []*node }

// parse reads the parts of a reader. With include it reads first the files that the main
// file includes.
func parse(r *reader, include bool) (*File, error) {
	main := &r.mistakes.parts[0]
	f := &File{Path: main.path, Global: defaultGlobal(), Origin: r.mistakes.origin}
	body := r.parse(main)
	if body == nil {
		if r.mistakes.count() == 0 {
			return nil, fmt.Errorf("%s: %w: describe a router below `routers:`; failoverctl reference prints every key", main.path, ErrNothing)
		}
		return nil, r.mistakes.sorted()
	}
	var all top
	ok := all.add(r, body, func(n *node) {
		if include {
			r.include(n)
		}
	})
	for i := 1; i < len(r.mistakes.parts); i++ {
		if body := r.parse(&r.mistakes.parts[i]); body != nil {
			ok = all.add(r, body, nil) && ok
		}
	}
	f.parts = r.mistakes.parts
	f.readGlobals(r, all.global)
	for _, n := range all.routers {
		f.readRouters(r, n)
	}
	if ok && len(all.routers) == 0 && r.mistakes.count() == 0 {
		r.fail(body, "", "no `routers:` in the file: it needs at least one router")
	}
	if len(all.routers) > 0 && len(f.Routers) == 0 && r.mistakes.count() == 0 {
		r.fail(all.routers[0], "begin one with `- interface: eth0`", "no router in the list")
	}
	f.complete()
	for _, n := range all.groups {
		f.readGroups(r, n)
	}
	f.connect(r)
	for _, n := range all.tracks {
		f.readTracks(r, n)
	}
	f.useTracks(r)
	f.validate(r)
	if err := r.mistakes.sorted(); err != nil {
		return nil, err
	}
	return f, nil
}

// add adds the keys of one file. It calls include with the value of that key; an included
// file has none. It reports whether the file is a mapping.
func (all *top) add(r *reader, body *node, include func(*node)) bool {
	entries, ok := r.mapping(body, "the file")
	for _, e := range entries {
		switch e.name {
		case "include":
			if include == nil {
				r.fail(e.key, "name the file in "+r.mistakes.parts[0].path, "an included file can't include another")
				continue
			}
			include(e.value)
		case "global":
			all.global = append(all.global, e.value)
		case "routers":
			all.routers = append(all.routers, e.value)
		case "groups":
			all.groups = append(all.groups, e.value)
		case "tracks":
			all.tracks = append(all.tracks, e.value)
		default:
			if slices.ContainsFunc(routerKeys, func(k key[Router]) bool { return k.name == e.name }) {
				r.fail(e.key, "put it below `routers:`, behind a dash", "%s belongs to a router", quote(e.name))
				continue
			}
			r.unknown(e, "", []string{"include", "global", "routers", "groups", "tracks"})
		}
	}
	return ok
}

// readGlobals reads the keys of global in all files. A key can be in one file only.
func (f *File) readGlobals(r *reader, all []*node) {
	seen := make(map[string]*node)
	for _, n := range all {
		if len(all) > 1 && r.is(n, mapping) {
			entries, _ := r.mapping(n, "global")
			for _, e := range entries {
				if before := seen[e.name]; before != nil {
					r.fail(e.key, "", "%s of `global` is here twice: it is %s already; remove one of them", quote(e.name), r.line(before, e.key))
				}
				seen[e.name] = e.key
			}
		}
		read(r, n, "global", &f.Global, globalKeys, nil)
	}
}

// maxEntries is the greatest number of routers, groups or checks. A host can't keep up
// with more.
const maxEntries = 10_000

// entries returns the values of a list at the left margin. The limit counts the lists of
// that name in all files.
func (r *reader) entries(n *node, name, example string) []*node {
	all, before := r.list(n, name, example), r.entered[name]
	if before+len(all) > maxEntries {
		r.fail(all[maxEntries-before], "", "%s has %d entries: there can be %d", quote(name), before+len(all), maxEntries)
		return nil
	}
	if r.entered == nil {
		r.entered = make(map[string]int)
	}
	r.entered[name] += len(all)
	return all
}

func (f *File) readRouters(r *reader, n *node) {
	items := r.entries(n, "routers", "each router behind a dash:\n          routers:\n            - interface: eth0\n              vrid: 51")
	f.Routers, f.places = slices.Grow(f.Routers, len(items)), slices.Grow(f.places, len(items))
	for _, item := range items {
		f.Routers = append(f.Routers, defaultRouter())
		p := newPlaces(item)
		mapping := read(r, item, "the router", &f.Routers[len(f.Routers)-1], routerKeys, &p)
		for _, k := range routerKeys {
			if _, there := p.keys[k.name]; k.required && !there {
				p.unread[k.name] = true
				if mapping {
					r.fail(item, k.example, "the router has no %s", quote(k.name))
				}
			}
		}
		f.places = append(f.places, p)
	}
}

// read reads the keys of a mapping into a value, and their nodes into p unless that is
// nil. It reports whether n is a mapping.
func read[T any](r *reader, n *node, what string, into *T, keys []key[T], p *places) bool {
	entries, ok := r.mapping(n, what)
	for _, e := range entries {
		i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == e.name })
		if i < 0 {
			var names []string
			for _, k := range keys {
				names = append(names, k.name)
			}
			r.unknown(e, what, names)
			continue
		}
		if p != nil {
			p.keys[e.name] = e.value
		}
		before := r.mistakes.count()
		items := keys[i].read(r, e.value, into)
		if p != nil {
			if items != nil {
				p.items[e.name] = items
			}
			if r.mistakes.count() > before {
				p.unread[e.name] = true
			}
		}
	}
	return ok
}

// others are the names that keepalived, the Rust failover and habit have for keys.
var others = map[string]string{
	"advert_int": "interval", "advert_interval": "interval", "advertisement_interval": "interval",
	"virtual_router_id": "vrid", "id": "vrid",
	"virtual_ipaddress": "addresses", "ip_addresses": "addresses", "vip": "addresses", "vips": "addresses", "address": "addresses", "ip": "addresses",
	"interface_name": "interface", "iface": "interface", "dev": "interface",
	"preempt_mode": "preempt", "nopreempt": "preempt", "no_preempt": "preempt",
	"use_vmac": "virtual_mac", "vmac": "virtual_mac", "accept_mode": "accept",
	"auth": "authentication", "auth_hmac": "authentication", "auth_type": "type", "auth_pass": "key_file", "key": "keys", "active_key": "send", "time_window": "window",
	"unicast_peer": "unicast", "unicast_src_ip": "unicast", "peers": "unicast", "unicast_ttl": "unicast",
	"vrrp_version": "version", "prio": "priority", "garp_master_delay": "announce_again",
	"notify_master": "notify_active",
}

func (r *reader) unknown(e entry, what string, names []string) {
	if r.mistakes.full() {
		r.mistakes.More++
		return
	}
	if what != "" {
		what = " of " + what
	}
	hint := meant(e.name, names)
	if other, ok := others[strings.ReplaceAll(e.name, "-", "_")]; ok && slices.Contains(names, other) {
		hint = "it is called " + quote(other) + " here"
	}
	if same := strings.ReplaceAll(e.name, "-", "_"); same != e.name && slices.Contains(names, same) {
		hint = "write it with underscores: " + quote(same)
	}
	if hint == "" {
		hint = "the keys are " + strings.Join(names, ", ")
	}
	r.fail(e.key, hint, "unknown key %s%s", quote(e.name), what)
	// An administrator may have written a secret there, which must not get into the log.
	if what == " of "+quote("authentication") || what == " of the key" {
		r.secret()
	}
}

// complete sets the defaults that depend on other keys.
func (f *File) complete() {
	for i := range f.Groups {
		if h := &f.Groups[i].Hooks; h.Timeout == 0 {
			h.Timeout = f.Global.NotifyTimeout
		}
	}
	for i := range f.Routers {
		r := &f.Routers[i]
		if r.Name == "" {
			r.Name = fmt.Sprintf("%s-%d", r.Interface, r.VRID)
		}
		if r.XDPMode == "" {
			r.XDPMode = f.Global.XDPMode
		}
		if r.Unchanged == "" {
			r.Unchanged = f.Global.Unchanged
		}
		if r.Hooks.Timeout == 0 {
			r.Hooks.Timeout = f.Global.NotifyTimeout
		}
		r.completeRouting()
		r.completeLabels()
		maps.DeleteFunc(r.Interfaces, func(_ netip.Addr, name string) bool { return name == r.Interface })
		if len(r.Interfaces) == 0 {
			r.Interfaces = nil
		}
		for n := range r.Extra {
			r.Extra[n].Interface = cmp.Or(r.Extra[n].Interface, r.Interface)
		}
	}
}

// validate adds the mistakes of each router, and those of routers that can't be together.
// It passes over values that could not be read.
func (f *File) validate(r *reader) {
	before := newIndex()
	for i, router := range f.Routers {
		at := f.places[i]
		if _, named := at.keys["name"]; named && !at.unread["name"] && !isName(router.Name) {
			f.note(r, i, Problem{Key: "name", Text: fmt.Sprintf("%s can't be a name: it is up to 63 letters, digits, dots, dashes and underscores", quote(router.Name))})
		}
		if !at.unread["interface"] && !isInterfaceName(router.Interface) {
			f.note(r, i, Problem{Key: "interface", Text: badInterface(router.Interface)})
		}
		for _, p := range router.Problems() {
			// Most limits are the version's.
			if !at.unread[p.Key] && !at.unread["version"] {
				f.note(r, i, p)
			}
		}
		if f.incomplete(i) {
			continue
		}
		f.compare(r, i, before)
		before.add(i, &router)
	}
}

// incomplete reports whether a key of a router could not be read.
func (f *File) incomplete(router int) bool {
	for _, unread := range f.places[router].unread {
		if unread {
			return true
		}
	}
	return false
}

// compare adds the mistakes of a router that conflicts with an earlier one.
func (f *File) compare(r *reader, i int, before *index) {
	a := &f.Routers[i]
	where := func(j int) string { return "the router " + r.line(f.places[j].start, f.places[i].start) }
	if j, taken := before.names[a.Name]; taken {
		key := "name"
		if _, named := f.places[i].keys[key]; !named {
			key = "vrid"
		}
		if key == "name" || a.Interface != f.Routers[j].Interface {
			f.note(r, i, Problem{Key: key, Text: fmt.Sprintf("%s has the name %s too: give each router a name of its own", where(j), quote(a.Name))})
		}
	}
	for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
		if j, taken := before.vrids[vridSpot{a.Interface, a.VRID, family}]; taken && a.Has(family) {
			f.note(r, i, Problem{Key: "vrid", Text: fmt.Sprintf("%s has VRID %d on %s for %s too: give each a VRID of its own, or put the addresses into one router", where(j), a.VRID, a.Interface, family)})
			break
		}
	}
	if j, known := before.modes[a.Interface]; known && f.Routers[j].XDPMode != a.XDPMode {
		f.note(r, i, Problem{Key: "xdp_mode", Text: fmt.Sprintf("%s receives on %s by %s, this one by %s: an interface has one way to receive, give it to both", where(j), a.Interface, f.Routers[j].XDPMode, a.XDPMode)})
	}
	for _, mine := range a.places() {
		if j, taken := before.has(mine); taken {
			f.note(r, i, Problem{Key: mine.key, Item: mine.item, Text: fmt.Sprintf("%s has the address %s too: an address belongs to one router", where(int(j)), mine.Address.Addr())})
		}
	}
}

// note adds a problem of a router as a mistake at its place.
func (f *File) note(r *reader, router int, p Problem) {
	r.fail(f.place(router, p), "", "%s", p.Text)
	if p.Secret {
		r.secret()
	}
}

func (f *File) place(router int, p Problem) *node {
	at := f.places[router]
	if items := at.items[p.Key]; p.Item < len(items) {
		return items[p.Item]
	}
	if n, ok := at.keys[p.Key]; ok {
		return n
	}
	return at.start
}

// again parses the parts once more, because forget has dropped the nodes. The reader
// collects mistakes for the same parts.
func (f *File) again() (*reader, *File, error) {
	r := &reader{mistakes: Mistakes{parts: f.parts, origin: f.Origin}}
	whole, err := parse(r, false)
	return r, whole, err
}

// Mistakes returns an error with the places of problems that the host shows. They are by
// the index of their router. The error is nil if there are none.
func (f *File) Mistakes(problems map[int][]Problem) error {
	if len(problems) == 0 {
		return nil
	}
	r, whole, err := f.again()
	if err != nil {
		return err
	}
	for router, list := range problems {
		if f.routers != nil {
			router = f.routers[router]
		}
		for _, p := range list {
			whole.note(r, router, p)
		}
	}
	return r.mistakes.sorted()
}

// Only returns the configuration with only the routers on some interfaces.
func (f *File) Only(interfaces []string) (*File, error) {
	limited := *f
	limited.Routers, limited.routers = nil, nil
	for _, name := range interfaces {
		found := false
		for i, r := range f.Routers {
			if r.Interface == name {
				found = true
				limited.Routers = append(limited.Routers, r)
				limited.routers = append(limited.routers, i)
			}
		}
		if !found {
			return nil, fmt.Errorf("%s has no router on interface %s: it has routers on %s", f.Path, name, strings.Join(f.Interfaces(), ", "))
		}
	}
	return &limited, nil
}

// Interfaces returns the interfaces of the routers.
func (f *File) Interfaces() []string {
	var all []string
	known := make(map[string]bool)
	for _, r := range f.Routers {
		if !known[r.Interface] {
			known[r.Interface] = true
			all = append(all, r.Interface)
		}
	}
	return all
}

// Load reads the file at path and the files that it includes.
func Load(path string) (*File, error) {
	content, err := ReadFile(path)
	var mistakes *Mistakes
	switch {
	case errors.As(err, &mistakes):
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no configuration file %s: write one (failoverctl reference shows every key), or name another", path)
	case err != nil:
		return nil, fmt.Errorf("could not read the configuration: %w", err)
	}
	return Parse(path, content)
}

func defaultGlobal() Global {
	return Global{XDPMode: xdpModes[0], Unchanged: unchanged[0], LogFormat: logFormats[0], LogLevel: "info", Metrics: Off, MetricsCompat: compats[0], Realtime: RealtimeAuto, NotifyTimeout: DefaultNotifyTimeout}
}

func defaultRouter() Router {
	return Router{
		Version: DefaultVersion, Priority: DefaultPriority, Interval: DefaultInterval,
		Preempt: true, Accept: true, VirtualMAC: VirtualMACAuto, Repeat: DefaultRepeat,
		Announcements: DefaultAnnouncements, DownAfter: DefaultDownAfter, FamiliesTogether: true,
	}
}

// isName reports whether a router, a group or a check can have the name.
func isName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 63
}

// isInterfaceName reports whether an interface can have the name.
func isInterfaceName(s string) bool {
	n := utf8.RuneCountInString(s)
	return 1 <= n && n <= 15 && !strings.ContainsAny(s, "/ \t\n\f\r")
}

// kind is the form of a key's value.
type kind int

const (
	kindText kind = iota
	kindNumber
	kindBool
	kindDuration
	kindChoice
	kindChoices   // a list of words
	kindAddresses // a list
	kindCommand   // a line, or a list of words
	kindNames     // a list of names
	kindUses      // a list of checks
	kindGroup     // a group of keys, or a word
	kindHosts     // an address, or a list of up to two
	kindTargets   // an address, or a list of up to max
	kindExtras    // a list of addresses and groups of keys
	kindPeers     // a list of addresses and groups of keys
	kindSecrets   // a list of keys with their files
	kindGroups    // a list of groups of keys
)

// key is one key of the file.
type key[T any] struct {
	name     string
	kind     kind
	doc      string // whole sentences; words of the file are in backquotes
	words    []string
	min, max int
	fallback string // the default, as written in the file
	required bool
	example  string // what the error for a missing key suggests
	sample   string // a value for the reference; with a default an example of another value
	below    table  // the keys of a group, or of a list's items
	read     func(*reader, *node, *T) (items []*node)
}

var (
	xdpModes   = []string{"auto", "native", "generic", "tc", "off"}
	unchanged  = []string{"pass", Drop}
	logFormats = []string{"auto", "terminal", "text", "json", "journal"}
	logLevels  = []string{"error", "warning", "info", "debug"}
	compats    = []string{Off, "keepalived"}
	checksums  = []string{"auto", "rfc9568", "rfc5798"}
	macModes   = []string{string(VirtualMACAuto), string(VirtualMACBPF), string(VirtualMACMacvlan), string(VirtualMACOff)}
	ipv6Lists  = []string{"rfc9568", "as-written"}
	tolerances = []string{"trailing-octets", "first-address", "address-list"}
)

func textKey[T any](name, doc string, field func(*T) *string) key[T] {
	return key[T]{name: name, kind: kindText, doc: doc, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.text(n, name); ok {
			*field(t) = v
		}
		return nil
	}}
}

func choiceKey[T any](name, doc string, words []string, fallback string, set func(*T, string)) key[T] {
	return key[T]{name: name, kind: kindChoice, doc: doc, words: words, fallback: fallback, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.choice(n, name, words); ok {
			set(t, v)
		}
		return nil
	}}
}

func numberKey[T any](name, doc string, least, most int, fallback string, field func(*T) *int) key[T] {
	return key[T]{name: name, kind: kindNumber, doc: doc, min: least, max: most, fallback: fallback, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.number(n, name); ok {
			*field(t) = v
		}
		return nil
	}}
}

func boolKey[T any](name, doc string, fallback string, field func(*T) *bool) key[T] {
	return key[T]{name: name, kind: kindBool, doc: doc, fallback: fallback, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.boolean(n, name); ok {
			*field(t) = v
		}
		return nil
	}}
}

func durationKey[T any](name, doc string, fallback string, field func(*T) *time.Duration) key[T] {
	return key[T]{name: name, kind: kindDuration, doc: doc, fallback: fallback, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.duration(n, name); ok {
			*field(t) = v
		}
		return nil
	}}
}

func need[T any](k key[T], example string) key[T] {
	k.required, k.example = true, example
	return k
}

// sampled sets the sample of a key.
func sampled[T any](sample string, k key[T]) key[T] {
	k.sample = sample
	return k
}

func realtimeKey() key[Global] {
	words := []string{string(RealtimeAuto), string(RealtimeAll), string(RealtimeNone)}
	k := choiceKey("realtime", "Which threads of the daemon run before all programs that aren't real-time, so that a busy host causes no false takeover. `auto`: the thread of the event loop by SCHED_FIFO, if that is permitted; the other threads stay ordinary, with a niceness of -20. `true`: the event loop by SCHED_FIFO and all other threads by SCHED_RR. `false`: none. With `auto` and `true` the daemon's memory is locked. Hooks and checks are never real-time. A daemon that runs for 2 s without a pause loses the rank. If the rank isn't permitted, the log and `failoverctl doctor` name what to grant.",
		words, words[0], func(g *Global, v string) { g.Realtime = Realtime(v) })
	word := k.read
	k.read = func(r *reader, n *node, g *Global) []*node {
		if v := r.value(n); v != nil && v.scalarKind() == isBool { // also True and FALSE
			g.Realtime = Realtime(strings.ToLower(v.text))
			return nil
		}
		return word(r, n, g)
	}
	return k
}

var globalKeys = slices.Concat([]key[Global]{
	choiceKey("xdp_mode", "Where failoverd receives advertisements: `native` is XDP in the network driver, `generic` is XDP behind the driver, `tc` is a TC program, `off` is an AF_PACKET socket. `auto` takes XDP in the driver of a hardware NIC that can do it, and TC everywhere else. That costs the other traffic of the interface least.",
		xdpModes, "auto", func(g *Global, v string) { g.XDPMode = v }),
	choiceKey("unchanged", "What happens to an advertisement that is no news to a Backup, after the kernel has counted it. `pass` hands it to the network stack, so tcpdump and other programs see it. `drop` ends it in the driver and costs less. Don't use `drop` if another VRRP router runs behind the same interface, for example in a container with a macvlan.",
		unchanged, "pass", func(g *Global, v string) { g.Unchanged = v }),
	choiceKey("log_format", "The format of the log on standard error: `terminal` is lines for people, `text` is key=value, `json` is JSON, `journal` is records of systemd's journal, with fields. `auto` takes what standard error is: a terminal, the journal, or anything else (`text`).", logFormats, "auto", func(g *Global, v string) { g.LogFormat = v }),
	choiceKey("log_level", "The lowest level that is logged.", logLevels, "info", func(g *Global, v string) { g.LogLevel = v }),
	metricsKey(),
	choiceKey("metrics_compat", "Adds metrics under the names of another program. `keepalived` adds those of keepalived's Prometheus exporter, for dashboards that exist already.", compats, compats[0], func(g *Global, v string) { g.MetricsCompat = v }),
	waitKey("startup_delay", "How long after its start the daemon takes no part, up to 1000s. It is for links that are up but pass nothing at first, like bonds and ports with spanning tree.", func(g *Global) *time.Duration { return &g.StartupDelay }),
	waitKey("delay_after_boot", "How long after the boot of the host the daemon takes no part, up to 1000s. When failoverd starts later than that, it doesn't wait. If `startup_delay` ends later, that counts.", func(g *Global) *time.Duration { return &g.DelayAfterBoot }),
	realtimeKey(),
}, globalHookKeys)

var routerKeys = slices.Concat([]key[Router]{
	sampled("eth0-51", textKey("name", "The router's name in logs, commands and the status. The default is INTERFACE-VRID.", func(r *Router) *string { return &r.Name })),
	sampled("eth0", need(textKey("interface", "The network interface. If it doesn't exist yet, or has no address of its own yet, the router waits for it.", func(r *Router) *string { return &r.Interface }), "add `interface: eth0`")),
	sampled("51", need(numberKey("vrid", "The VRID. It is the same on all hosts that share the addresses.", 1, 255, "", func(r *Router) *int { return &r.VRID }), "add `vrid: 51`, the same on all hosts that share the addresses")),
	sampled("[192.0.2.10/24, 2001:db8::10/64]", need(addressesKey(), "add `addresses: [192.0.2.10/24]`")),
	extraKey(),
	numberKey("priority", "The Priority. The host with the highest priority has the addresses. 255 is for the owner: the host that has the addresses as its own, always.", 1, 255, "100", func(r *Router) *int { return &r.Priority }),
	durationKey("interval", "Advertisement_Interval, the time between two advertisements: 10ms to 40.95s in steps of 10ms in version 3, whole seconds up to 255s in version 2. It is the same on all hosts. A takeover after a crash takes three intervals and up to one more; a higher priority takes less.", "1s", func(r *Router) *time.Duration { return &r.Interval }),
	durationKey("max_interval", "The longest interval that a Backup learns from an Active (Active_Adver_Interval), at least `interval`. `0s` accepts any interval up to 40.95s, as RFC 9568 says. Then one advertisement, forged or of a host with a wrong interval, can keep this host from taking over for more than two minutes. With a limit it is three times the limit and up to one more. Set it to at least the longest interval of all hosts of the VRID, because a host with a longer one would lose the addresses while it lives. Version 2 never learns an interval.", "0s", func(r *Router) *time.Duration { return &r.MaxInterval }),
	numberKey("version", "The VRRP version: 3 (RFC 9568, IPv4 and IPv6) or 2 (RFC 3768, IPv4 only).", 2, 3, "3", func(r *Router) *int { return &r.Version }),
	boolKey("add_addresses", "With priority 255, add the virtual addresses while the router is Active, as with other priorities. Without it, an owner's addresses are on the interface already, and failoverd doesn't change them. keepalived adds the addresses of an instance with priority 255, so a keepalived.conf is read with `true`.", "false", func(r *Router) *bool { return &r.AddAddresses }),
	boolKey("preempt", "Preempt_Mode: take the addresses from an Active of lower priority. An owner always does.", "true", func(r *Router) *bool { return &r.Preempt }),
	durationKey("preempt_delay", "How long a Backup tolerates an Active of lower priority before it preempts, up to 1000s. It is for a host that can't serve at once after its start. An Active that falls silent is replaced without this delay.", "0s", func(r *Router) *time.Duration { return &r.PreemptDelay }),
	numberKey("down_after", "How many advertisements may be missed before a Backup takes over: the factor of Active_Down_Interval, 3 in the RFC. It is the same on all hosts.", 2, 100, "3", func(r *Router) *int { return &r.DownAfter }),
	boolKey("without_carrier", "Take part while the interface has no carrier, and stay Active if it loses it (keepalived's `dont_track_primary`). It is for two hosts on one cable: when one of them is off, the other one keeps the addresses. On a switch leave it off, because a host that lost its cable would keep the addresses, too. An interface that is set down ends the router's part in any case.", "false", func(r *Router) *bool { return &r.WithoutCarrier }),
	boolKey("families_together", "Keep the IPv4 and the IPv6 addresses on the same host. A router with addresses of both families is two virtual routers on the wire. With `true` they change their state together, and what keeps one of them from taking part keeps both.", "true", func(r *Router) *bool { return &r.FamiliesTogether }),
	boolKey("accept", "Accept_Mode: accept packets to the virtual addresses. With `false` the addresses are a gateway and nothing else: only ARP and neighbour discovery to them are accepted. An owner always accepts.", "true", func(r *Router) *bool { return &r.Accept }),
	choiceKey("virtual_mac", "How the addresses are at the virtual MAC 00:00:5e:00:01:VRID (IPv6: 02), which moves with them. `bpf`: by TC programs. `macvlan`: on a macvlan device that failoverd makes and removes. `off`: at the interface's own MAC. `auto` is `bpf`, or `macvlan` if TC programs can't be attached; with `unicast`, and on a macvlan, macvtap or ipvlan, it is `off`.", macModes, "auto", func(r *Router, v string) { r.VirtualMAC = VirtualMAC(v) }),
	durationKey("announce_again", "How long after a takeover the addresses are announced once more, by gratuitous ARP and unsolicited neighbour advertisements, up to 1h. `0s` turns it off.", "5s", func(r *Router) *time.Duration { return &r.Repeat }),
	numberKey("announce_count", "How many times in a row the addresses are announced, 100 ms apart, because one packet may get lost.", 1, 100, "5", func(r *Router) *int { return &r.Announcements }),
	durationKey("announce_refresh", "The time between repeated announcements while the router is Active, 1s to 24h. `0s` turns them off.", "0s", func(r *Router) *time.Duration { return &r.Refresh }),
	choiceKey("checksum", "The form of the checksum in version 3 over IPv4. `rfc9568` has no pseudo-header; `rfc5798` has one, as keepalived and FRR send it. `auto` accepts both forms and sends both, until the router has heard that the others use RFC 5798's: then it sends only that.", checksums, "auto", func(r *Router, v string) { r.Checksum, _ = ParseChecksum(v) }),
	boolKey("dual", "Speak version 2 beside version 3 over IPv4 (RFC 9568 §8.4), while the hosts of the VRID move from one version to the other.", "false", func(r *Router) *bool { return &r.Dual }),
	choiceKey("ipv6_list", "The order of the IPv6 addresses in an advertisement. With `rfc9568` a link-local address comes first: failoverd moves one to the front, or adds fe80::12:VRID. With `as-written` failoverd advertises `addresses` unchanged, and also accepts a list without a link-local address at its front. Use it if a router of the VRID sends such a list, as keepalived may. All hosts of the VRID need the same value.", ipv6Lists, ipv6Lists[0], func(r *Router, v string) { r.AsWritten = v == ipv6Lists[1] }),
	toleranceKey(),
	trackKey("the router depends", func(r *Router) *[]Use { return &r.Track }),
	unicastKey(),
	authenticationKey(),
	routesKey(),
	rulesKey(),
	sampled(xdpModes[0], choiceKey("xdp_mode", "Where failoverd receives on this interface. The default is the `xdp_mode` of `global`.", xdpModes, "", func(r *Router, v string) { r.XDPMode = v })),
	sampled(unchanged[0], choiceKey("unchanged", "What happens to unchanged advertisements of this router. The default is the `unchanged` of `global`.", unchanged, "", func(r *Router, v string) { r.Unchanged = v })),
}, hookKeys)

// maxDelay is the longest delay before a router takes part or preempts.
const maxDelay = 1000 * time.Second

// waitKey is the key of a time in which the daemon takes no part.
func waitKey(name, doc string, at func(*Global) *time.Duration) key[Global] {
	k := durationKey(name, doc, "0s", at)
	read := k.read
	k.read = func(r *reader, n *node, g *Global) []*node {
		items := read(r, n, g)
		if d := *at(g); d < 0 || d > maxDelay {
			r.fail(n, "", "%s can't be %v: it is up to 1000s", quote(name), d)
		}
		return items
	}
	return k
}

func addressesKey() key[Router] {
	const name = "addresses"
	return key[Router]{name: name, kind: kindAddresses, below: below(virtualKeys), doc: "The virtual addresses (IPvX_Addresses) with their prefix lengths, IPv4, IPv6 or both. Without a length it is /32 or /128. The first IPv6 address has to be link-local (RFC 9568 §5.2.9); if there is none, failoverd adds fe80::12:VRID, unless `ipv6_list` says otherwise. An entry is an address, or a group of `address`, `interface` and `label`. `[]` is a router without addresses, for hooks that move an address in a cloud, or for `extra_addresses` only. It advertises an empty list, which it accepts from the other hosts too, over IPv4 unless all its peers are IPv6. That is against RFC 9568 §5.2.5, which demands at least one address, but keepalived does the same. All hosts of the VRID need `[]`: a router with addresses refuses an empty list (counter `addr_count_errors`), and both would be Active.", read: func(r *reader, n *node, t *Router) []*node {
		list := r.list(n, name, "addresses: [192.0.2.10/24]")
		t.Addresses = slices.Grow(t.Addresses, len(list))
		items := make([]*node, 0, len(list))
		for _, item := range list {
			p, ok := r.placed(item, "the address", virtualKeys)
			if !ok {
				continue
			}
			t.Addresses, items = append(t.Addresses, p.Address), append(items, r.value(item))
			t.label(p)
			if p.Interface != "" {
				if t.Interfaces == nil {
					t.Interfaces = make(map[netip.Addr]string)
				}
				t.Interfaces[p.Address.Addr()] = p.Interface
			}
		}
		return items
	}}
}

func toleranceKey() key[Router] {
	const name = "tolerate"
	return key[Router]{name: name, kind: kindChoices, words: tolerances, fallback: "[]", doc: "What to accept although the RFCs refuse it. `trailing-octets`: octets after the message are ignored. `first-address`: an IPv6 list may begin with an address that isn't link-local, as keepalived and FRR send it. `address-list`: in version 2, another list of addresses, as FRR may send it.", read: func(r *reader, n *node, t *Router) []*node {
		var names []string
		for _, item := range r.list(n, name, "tolerate: [address-list]") {
			if s, ok := r.choice(item, name, tolerances); ok {
				names = append(names, s)
			}
		}
		t.Tolerate, _ = ParseTolerance(names)
		return nil
	}}
}
