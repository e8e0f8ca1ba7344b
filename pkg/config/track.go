// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// Limits of a check.
const (
	DefaultTrackInterval = time.Second
	MaxWeight            = 254
	MainTable            = 254 // of routes
	maxTrackTime         = 24 * time.Hour
	minTrackTime         = 10 * time.Millisecond
)

// Track is a check that routers may depend on. Kind is the name of the key that says what
// is checked.
type Track struct {
	Name string
	Kind string
	// Weight is added to the priority of a router, -254 to 254. With 0 the router takes no
	// part while the check is down. Reverse exchanges up and down.
	Weight  int
	Reverse bool
	// Rise and Fall are the numbers of results in a row that make it up and down.
	Rise, Fall        int
	Interval, Timeout time.Duration
	InitFail          bool // down before the first result

	Script  []string // the program with its arguments
	User    string   // the user of the script, USER or USER:GROUP
	TCP     string   // HOST:PORT
	HTTP    string   // a URL
	Ping    []netip.Addr
	ARP     []netip.Addr
	Process []string // a name, or the first words of a command line
	PIDFile string
	File    string
	Link    string // the interface, also to ask on for Ping and ARP
	Address netip.Addr
	Route   netip.Prefix
	Router  string

	Host     string      // HTTP: the name of the host, empty for the URL's
	Statuses [][2]int    // HTTP: the good ones, from and to
	Verify   bool        // HTTP: check the certificate
	AtLeast  int         // Ping, ARP: the number of hosts that must answer
	Min, Max int         // Process: the number of processes; a Max of -1 is no limit
	Via      netip.Addr  // Route: the gateway, invalid for any
	Table    int         // Route
	State    string      // Router: Active, Backup or running
	shell    bool        // Script: line is for /bin/sh
	line     string      // Script: the text of the file
	at       trackPlaces // until forget
}

type trackPlaces struct {
	start *node
	keys  map[string]*node
}

// Use is a check that a router depends on.
type Use struct {
	Name    string
	Weight  int
	Reverse bool
}

// String is the value as it is written in the file.
func (u Use) String() string {
	if u.Weight == 0 && !u.Reverse {
		return scalar(u.Name)
	}
	var g group
	g.add("name", u.Name, nil)
	g.add("weight", u.Weight, 0)
	g.add("reverse", u.Reverse, false)
	return g.String()
}

// The values of Track.State.
const (
	WantActive  = "active"
	WantBackup  = "backup"
	WantRunning = "running" // either
)

var wantedStates = []string{WantActive, WantBackup, WantRunning}

// trackKind is a key that names what a check tests, with the keys that not all kinds
// can have. sample is a key that the kind needs besides, as in the reference.
type trackKind struct {
	name string
	only []string

	sample string
}

// asks reports whether checks of the kind ask hosts, on an interface if `interface` names one.
func asks(kind string) bool { return kind == "ping" || kind == "arp" }

var trackKinds = []trackKind{
	{name: "script", only: []string{"shell", "user"}},
	{name: "tcp"},
	{name: "http", only: []string{"host", "status", "tls_verify"}},
	{name: "ping", only: []string{"at_least"}},
	{name: "arp", only: []string{"at_least"}, sample: "interface: eth0"},
	{name: "process", only: []string{"min", "max"}},
	{name: "pidfile"},
	{name: "file"},
	{name: "interface"},
	{name: "address"},
	{name: "route", only: []string{"via", "table"}},
	{name: "router", only: []string{"state"}},
}

// kindsWith returns the kinds that can have a key, or none if all can.
func kindsWith(key string) (kinds []string) {
	for _, k := range trackKinds {
		if slices.Contains(k.only, key) {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

var trackKeys = []key[Track]{
	sampled("web", need(textKey("name", "The name of the check. The `track` lists of routers, the log and the status use it.", func(t *Track) *string { return &t.Name }), "add `name: web`")),
	sampled("/usr/local/bin/check-web --all", scriptKey()),
	sampled("127.0.0.1:5432", textKey("tcp", "Up if a TCP connection to HOST:PORT can be made.", func(t *Track) *string { return &t.TCP })),
	sampled("https://127.0.0.1:8443/health", textKey("http", "Up if a GET of this URL returns a good `status`. Redirections aren't followed.", func(t *Track) *string { return &t.HTTP })),
	sampled("[192.0.2.1, 2001:db8::1]", targetsKey("ping", "Up if this host answers an ICMP echo request: an address, or a list of up to 16, of which `at_least` must answer. Each check sends one request to each address. A link-local address needs an `interface`.", func(t *Track) *[]netip.Addr { return &t.Ping })),
	sampled("192.0.2.1", targetsKey("arp", "Up if this host on the link of the `interface` answers an ARP request, or a neighbour solicitation for IPv6: an address, or a list of up to 16, of which `at_least` must answer. A check repeats the request every 200ms until its `timeout`. It asks from an address of the interface that isn't a virtual one.", func(t *Track) *[]netip.Addr { return &t.ARP })),
	sampled("haproxy", wordsKey("process", "Up if enough processes of this name run. The name is that of /proc/PID/comm, or a list with the first words of the command line, like [/usr/sbin/nginx, -c, /etc/nginx/nginx.conf].", func(t *Track) *[]string { return &t.Process })),
	sampled("/run/server.pid", textKey("pidfile", "Up if the process whose number is in this file lives.", func(t *Track) *string { return &t.PIDFile })),
	sampled("/run/failoverd-load", textKey("file", "A file with a number, which is multiplied by the `weight`; without a weight, 0 is up. A missing or empty file is 0. A result below -253 takes the router out.", func(t *Track) *string { return &t.File })),
	sampled("eth1", textKey("interface", "Up if this network interface is up and has a carrier. With `ping` or `arp`, the interface to ask on: `arp` needs it, and `ping` follows the routes of the host without it.", func(t *Track) *string { return &t.Link })),
	sampled("192.0.2.2", addressKey("address", "Up if an interface of this host has this IP address.", func(t *Track) *netip.Addr { return &t.Address })),
	sampled("default", routeKey()),
	sampled("eth0-51", textKey("router", "Up if the router of this name is in the wanted `state`.", func(t *Track) *string { return &t.Router })),
	boundedKey("weight", "What the check adds to the priority of routers: a positive weight while the check is up, a negative one while it is down. The sum is kept within 1 to 254. An owner's priority (255) never changes. With 0 the routers take no part while the check is down.", -MaxWeight, MaxWeight, "0", func(t *Track) *int { return &t.Weight }),
	boolKey("reverse", "Exchange up and down.", "false", func(t *Track) *bool { return &t.Reverse }),
	boundedKey("rise", "How many good results in a row make the check up. The first result counts alone.", 1, 1000, "1", func(t *Track) *int { return &t.Rise }),
	boundedKey("fall", "How many bad results in a row make the check down.", 1, 1000, "1", func(t *Track) *int { return &t.Fall }),
	durationKey("interval", "The time between two checks, 10ms to 24h. A change that the kernel reports (interface, address, route, router, the end of a process, a written file) is checked at once.", "1s", func(t *Track) *time.Duration { return &t.Interval }),
	sampled("1s", durationKey("timeout", "The longest time that one check may take, 10ms to 24h. The default is the `interval`. After that a script is killed, with everything that it has started.", "", func(t *Track) *time.Duration { return &t.Timeout })),
	boolKey("init_fail", "Begin as down, until the check was good `rise` times. Otherwise routers wait for the first result.", "false", func(t *Track) *bool { return &t.InitFail }),
	boolKey("shell", "The script is a line for /bin/sh.", "false", func(t *Track) *bool { return &t.shell }),
	sampled("nobody", textKey("user", "The user of the script: USER or USER:GROUP. The default is the `script_user` of `global`.", func(t *Track) *string { return &t.User })),
	sampled("www.example.com", textKey("host", "The name of the host in the request and for TLS. The default is the one of the URL.", func(t *Track) *string { return &t.Host })),
	sampled("[200, 301-302]", statusKey()),
	boolKey("tls_verify", "Check the TLS certificate.", "true", func(t *Track) *bool { return &t.Verify }),
	boundedKey("at_least", "How many of the addresses must answer. With 1, a check of several gateways is down only if none answers.", 1, maxTargets, "1", func(t *Track) *int { return &t.AtLeast }),
	boundedKey("min", "The least number of processes.", 0, 1000000, "1", func(t *Track) *int { return &t.Min }),
	sampled("8", boundedKey("max", "The greatest number of processes. By default there is no limit.", 0, 1000000, "", func(t *Track) *int { return &t.Max })),
	sampled("192.0.2.1", addressKey("via", "The gateway of the route. By default any gateway is good.", func(t *Track) *netip.Addr { return &t.Via })),
	boundedKey("table", "The number of the routing table; 254 is the main one.", 1, 1<<31-1, "254", func(t *Track) *int { return &t.Table }),
	choiceKey("state", "The wanted state of the other router; `running` is `active` or `backup`.", wantedStates, WantActive, func(t *Track, v string) { t.State = v }),
}

func defaultTrack() Track {
	return Track{Rise: 1, Fall: 1, Interval: DefaultTrackInterval, Verify: true, AtLeast: 1, Min: 1, Max: -1, Table: MainTable, State: WantActive}
}

func (f *File) readTracks(r *reader, n *node) {
	for _, item := range r.entries(n, "tracks", "each check behind a dash:\n          tracks:\n            - name: web\n              tcp: 127.0.0.1:80") {
		t := defaultTrack()
		before := r.mistakes.count()
		p := newPlaces(item)
		mapping := read(r, item, "the track", &t, trackKeys, &p)
		t.at = trackPlaces{item, p.keys}
		if _, there := p.keys["name"]; !there && mapping {
			r.fail(item, trackKeys[0].example, "the track has no `name`")
		}
		if r.mistakes.count() == before {
			f.completeTrack(r, &t)
		}
		f.Tracks = append(f.Tracks, t)
	}
}

// completeTrack sets the defaults that depend on other keys, and adds the mistakes of the
// values.
func (f *File) completeTrack(r *reader, t *Track) {
	fail := func(key, hint, format string, args ...any) {
		n, ok := t.at.keys[key]
		if !ok {
			n = t.at.start
		}
		r.fail(n, hint, format, args...)
	}
	if !isName(t.Name) {
		fail("name", "", "%s can't be a name: it is up to 63 letters, digits, dots, dashes and underscores", quote(t.Name))
	}
	var names []string
	for _, k := range trackKinds {
		names = append(names, k.name)
		if _, there := t.at.keys[k.name]; there && (k.name != "interface" || !asks(t.Kind)) {
			if t.Kind != "" {
				fail(k.name, "split it into two tracks", "%s has %s already: a track checks one thing", quote(t.Name), quote(t.Kind))
				return
			}
			t.Kind = k.name
		}
	}
	if t.Kind == "" {
		fail("", "add one of "+strings.Join(names, ", "), "%s checks nothing", quote(t.Name))
		return
	}
	for _, k := range trackKeys {
		if _, there := t.at.keys[k.name]; !there {
			continue
		}
		if kinds := kindsWith(k.name); len(kinds) > 0 && !slices.Contains(kinds, t.Kind) {
			fail(k.name, "", "%s is for a track with %s: remove it", quote(k.name), quotedEither(kinds))
		}
	}
	if t.Timeout == 0 {
		t.Timeout = t.Interval
	}
	if t.Interval < minTrackTime || t.Interval > maxTrackTime {
		fail("interval", "", "interval %v is out of range: it is 10ms to 24h", t.Interval)
	} else if t.Timeout < minTrackTime || t.Timeout > maxTrackTime {
		fail("timeout", "", "timeout %v is out of range: it is 10ms to 24h", t.Timeout)
	}
	if text, hint := t.problem(f.Global); text != "" {
		fail(t.Kind, hint, "%s", text)
	}
}

// problem completes the value of the check's kind, and returns its problem with a hint.
func (t *Track) problem(g Global) (text, hint string) {
	switch t.Kind {
	case "script":
		if t.User == "" {
			t.User = g.ScriptUser
		}
		return t.parseScript()
	case "tcp":
		if text := checkTarget(t.TCP); text != "" {
			return text, "write it like 127.0.0.1:80 or [::1]:80"
		}
	case "http":
		u, err := url.Parse(t.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Sprintf("%s is not a web service's URL", quote(t.HTTP)), "write it like http://127.0.0.1:8080/health"
		}
	case "ping":
		return t.targetsProblem(t.Ping)
	case "arp":
		if t.Link == "" {
			return "`arp` needs the interface to ask on", "add `interface: eth0`"
		}
		return t.targetsProblem(t.ARP)
	case "process":
		if len(t.Process) == 0 || t.Process[0] == "" {
			return "`process` names no process", "write the name as in /proc/PID/comm, like nginx"
		}
		if len(t.Process) == 1 && len(t.Process[0]) > 15 && !strings.Contains(t.Process[0], "/") {
			return fmt.Sprintf("%s is longer than the 15 characters of a process's name", quote(t.Process[0])), "write its first 15 characters, or the words of its command line as a list"
		}
		if t.Max >= 0 && t.Max < t.Min {
			return fmt.Sprintf("min %d is greater than max %d", t.Min, t.Max), "for no process at all write min: 0 and max: 0"
		}
	case "pidfile", "file":
		if path := t.PIDFile + t.File; !filepath.IsAbs(path) {
			return fmt.Sprintf("%s is not an absolute path", quote(path)), "write it from the root, like /run/web.pid"
		}
	case "interface":
		return t.linkProblem(), ""
	case "route":
		if t.Via.IsValid() && t.Via.Is4() != t.Route.Addr().Is4() {
			return fmt.Sprintf("a route to %s can't have the gateway %s of the other family", t.Route, t.Via), ""
		}
	}
	return "", ""
}

// linkProblem returns the problem of the interface's name.
func (t *Track) linkProblem() string {
	if isInterfaceName(t.Link) {
		return ""
	}
	return badInterface(t.Link)
}

// targetsProblem returns the problem of a check that asks hosts, with a hint.
func (t *Track) targetsProblem(targets []netip.Addr) (text, hint string) {
	if _, there := t.at.keys["interface"]; there {
		if text := t.linkProblem(); text != "" {
			return text, ""
		}
	}
	for i, a := range targets {
		switch {
		case a.IsUnspecified() || a.IsMulticast():
			return fmt.Sprintf("%s is not the address of one host", a), ""
		case slices.Contains(targets[:i], a):
			return fmt.Sprintf("%s is here twice: remove one of them", a), ""
		case a.IsLinkLocalUnicast() && a.Is6() && t.Link == "":
			return fmt.Sprintf("%s is link-local, so the check needs the interface to ask on", a), "add `interface: eth0`"
		}
	}
	if t.AtLeast > len(targets) {
		return fmt.Sprintf("at_least %d is greater than the number of addresses, which is %d", t.AtLeast, len(targets)), ""
	}
	return "", ""
}

// parseScript splits the text of a script into the program and its arguments.
func (t *Track) parseScript() (text, hint string) {
	switch {
	case t.shell && t.line == "":
		return "with `shell` the script is one line of text", "write script: \"a command | another\""
	case t.shell:
		t.Script = []string{"/bin/sh", "-c", t.line}
		return "", ""
	case t.line != "":
		words, err := script.Split(t.line)
		if err != nil {
			return fmt.Sprintf("%s can't be run: %s", quote(t.line), err), "with `shell: true` it is a line for /bin/sh"
		}
		t.Script = words
	}
	if len(t.Script) == 0 {
		return "`script` names no program", "write it like /usr/local/bin/check --all"
	}
	if !filepath.IsAbs(t.Script[0]) {
		return fmt.Sprintf("%s is not an absolute path: programs aren't searched for", quote(t.Script[0])), "write it from the root, like /usr/bin/" + filepath.Base(t.Script[0])
	}
	return "", ""
}

func checkTarget(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Sprintf("%s is not HOST:PORT", quote(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("%s is not a port: it is 1 to 65535", quote(port))
	}
	return ""
}

// useTracks resolves the checks that routers and groups depend on, and adds the mistakes
// there.
func (f *File) useTracks(r *reader) {
	routerNames, routers := f.names()
	known := newTrackNames(f.Tracks)
	for i, t := range f.Tracks {
		if j := known.first[t.Name]; j != i && t.Name != "" {
			r.fail(t.at.start, "give each a name of its own", "the track %s is called %s too", r.line(f.Tracks[j].at.start, t.at.start), quote(t.Name))
		}
		if _, there := routers[t.Router]; t.Kind == "router" && !there {
			r.fail(t.at.keys["router"], r.nearby(t.Router, routerNames), "no router is called %s", quote(t.Router))
		}
	}
	for i := range f.Routers {
		router := &f.Routers[i]
		f.resolve(r, router.Track, f.places[i].items["track"], known, router.Priority == OwnerPriority)
	}
	groups := make(map[string]*Group)
	for i := range f.Groups {
		g := &f.Groups[i]
		f.resolve(r, g.Track, g.uses, known, false)
		first(groups, g.Name, g)
	}
	for i := range f.Routers {
		if g, in := groups[f.Routers[i].Group]; in && f.Routers[i].Group != "" {
			f.Routers[i].join(g.Track)
		}
	}
	for _, c := range f.circles(routers, known) {
		f.note(r, c.router, Problem{Key: "track", Text: fmt.Sprintf("%s depends on its own state, through %s: remove one of them", quote(f.Routers[c.router].Name), strings.Join(c.through, " and "))})
	}
}

// trackNames are the names of the checks, with the index of the first check of each.
type trackNames struct {
	all   []string
	first map[string]int
}

func newTrackNames(tracks []Track) (n trackNames) {
	n.first = make(map[string]int)
	for i, t := range tracks {
		n.all = append(n.all, t.Name)
		first(n.first, t.Name, i)
	}
	return n
}

// resolve completes a list of checks that a router or a group depends on. nodes are the
// nodes of its entries.
func (f *File) resolve(r *reader, uses []Use, nodes []*node, known trackNames, owner bool) {
	seen := make(map[string]bool)
	for i := range uses {
		u, at := &uses[i], nodes[i]
		j, there := known.first[u.Name]
		if !there {
			hint := r.nearby(u.Name, known.all)
			if hint == "" && len(known.all) == 0 {
				hint = "describe it in `tracks:`, at the left margin of the file"
			} else if hint == "" {
				hint = "there are " + strings.Join(known.all[:min(len(known.all), 20)], ", ")
			}
			r.fail(at, hint, "no track is called %s", quote(u.Name))
			continue
		}
		if seen[u.Name] {
			r.fail(at, "", "%s is here twice: remove one of them", quote(u.Name))
		}
		seen[u.Name] = true
		if !hasKey(at, "weight") {
			u.Weight = f.Tracks[j].Weight
		}
		if !hasKey(at, "reverse") {
			u.Reverse = f.Tracks[j].Reverse
		}
		if u.Weight != 0 && owner {
			r.fail(at, "with weight 0 the router takes no part while it is down", "an owner's priority (255) doesn't change: %s can't have weight %d", quote(u.Name), u.Weight)
		}
	}
}

// join adds the checks of its group to a router that hasn't got them itself.
func (r *Router) join(uses []Use) {
	own := make(map[string]bool)
	for _, u := range r.Track {
		own[u.Name] = true
	}
	for _, u := range uses {
		if !own[u.Name] {
			r.Track = append(r.Track, u)
		}
	}
}

// hasKey reports whether a value is a mapping with a key.
func hasKey(n *node, name string) bool {
	if n.form != mapping {
		return false
	}
	for key := n.child; key != nil; key = key.next.next {
		if key.text == name {
			return true
		}
	}
	return false
}

// circle is a router that depends on its own state, and the checks that lead there.
type circle struct {
	router  int
	through []string
}

// maxOfCircle is the greatest number of routers of one circle that get a mistake.
const maxOfCircle = 12

// circles returns each router that depends on its own state once.
func (f *File) circles(routers map[string]int, known trackNames) (all []circle) {
	const unseen, open, done = 0, 1, 2
	state := make([]int, len(f.Routers))
	// way is the path to the current router, with the index of the next use of each.
	type step struct{ router, use int }
	for begin := range f.Routers {
		way := []step{{begin, 0}}
		for len(way) > 0 {
			at := &way[len(way)-1]
			state[at.router] = max(state[at.router], open)
			uses := f.Routers[at.router].Track
			if at.use == len(uses) || state[at.router] == done {
				state[at.router] = done
				way = way[:len(way)-1]
				continue
			}
			next, ok := f.dependsOn(uses[at.use], routers, known)
			at.use++
			switch {
			case !ok || state[next] == done:
			case state[next] == unseen:
				way = append(way, step{next, 0})
			default:
				from := slices.IndexFunc(way, func(s step) bool { return s.router == next })
				var through []string
				for _, s := range way[from:] {
					through = append(through, quote(f.Routers[s.router].Track[s.use-1].Name))
				}
				for i, s := range way[from:min(from+maxOfCircle, len(way))] {
					c := circle{s.router, append(slices.Clone(through[i:]), through[:i]...)}
					if len(c.through) > maxOfCircle {
						c.through = append(c.through[:maxOfCircle], fmt.Sprintf("%d more", len(c.through)-maxOfCircle))
					}
					all = append(all, c)
				}
				for _, s := range way {
					state[s.router] = done
				}
			}
		}
	}
	return all
}

// dependsOn returns the router whose state a check looks at.
func (f *File) dependsOn(u Use, routers map[string]int, known trackNames) (router int, ok bool) {
	i, ok := known.first[u.Name]
	if !ok || f.Tracks[i].Kind != "router" {
		return 0, false
	}
	router, ok = routers[f.Tracks[i].Router]
	return router, ok
}

// TrackMistakes returns an error with the places of problems of checks that the host
// shows, by their names. It is nil if there are none.
func (f *File) TrackMistakes(problems map[string]Problem) error {
	if len(problems) == 0 {
		return nil
	}
	r, whole, err := f.again()
	if err != nil {
		return err
	}
	for _, t := range whole.Tracks {
		if p, wrong := problems[t.Name]; wrong {
			n, ok := t.at.keys[p.Key]
			if !ok {
				n = t.at.start
			}
			r.fail(n, "", "%s", p.Text)
		}
	}
	return r.mistakes.sorted()
}

// Same reports whether two checks do the same. Their weights may differ.
func (t Track) Same(o Track) bool {
	return slices.Equal(TrackDifference(t, o), nil)
}

// statuses returns the good statuses as they are written in the file.
func (t *Track) statuses() (all []string) {
	for _, s := range t.Statuses {
		text := strconv.Itoa(s[0])
		if s[1] != s[0] {
			text += "-" + strconv.Itoa(s[1])
		}
		all = append(all, text)
	}
	return all
}

// most returns the greatest number of processes, empty for no limit.
func (t *Track) most() any {
	if t.Max < 0 {
		return ""
	}
	return t.Max
}

// TrackDifference returns a line for each key that differs between two checks. It leaves
// out weight and reverse, which Difference tells with each router.
func TrackDifference(a, b Track) []string {
	var all differences
	all.add("script", a.Script, b.Script)
	all.add("user", a.User, b.User)
	all.add("tcp", a.TCP, b.TCP)
	all.add("http", a.HTTP, b.HTTP)
	all.add("host", a.Host, b.Host)
	all.add("status", a.statuses(), b.statuses())
	all.add("tls_verify", a.Verify, b.Verify)
	all.add("ping", a.Ping, b.Ping)
	all.add("arp", a.ARP, b.ARP)
	all.add("at_least", a.AtLeast, b.AtLeast)
	all.add("process", a.Process, b.Process)
	all.add("min", a.Min, b.Min)
	all.add("max", a.most(), b.most())
	all.add("pidfile", a.PIDFile, b.PIDFile)
	all.add("file", a.File, b.File)
	all.add("interface", a.Link, b.Link)
	all.add("address", a.Address, b.Address)
	all.add("route", a.Route, b.Route)
	all.add("via", a.Via, b.Via)
	all.add("table", a.Table, b.Table)
	all.add("router", a.Router, b.Router)
	all.add("state", a.State, b.State)
	all.add("rise", a.Rise, b.Rise)
	all.add("fall", a.Fall, b.Fall)
	all.add("interval", a.Interval, b.Interval)
	all.add("timeout", a.Timeout, b.Timeout)
	all.add("init_fail", a.InitFail, b.InitFail)
	return all
}
