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

// Limits of a track.
const (
	DefaultTrackInterval = time.Second
	MaxWeight            = 254
	MainTable            = 254 // of routes
	maxTrackTime         = 24 * time.Hour
	minTrackTime         = 10 * time.Millisecond
)

// Track is a check that routers may depend on. Kind says which one of the fields
// below it is about, by the name of its key.
type Track struct {
	Name string
	Kind string
	// Weight is what a router's priority is changed by, -254 to 254; 0: it takes
	// no part while the check is down. Reverse takes up for down.
	Weight  int
	Reverse bool
	// Rise and Fall are how many looks in a row make it up and down.
	Rise, Fall        int
	Interval, Timeout time.Duration
	InitFail          bool // down before the first look

	Script  []string // the program with its arguments
	User    string   // whom to run it as, USER or USER:GROUP
	TCP     string   // HOST:PORT
	HTTP    string   // a URL
	Process []string // a name, or the first words of a command line
	PIDFile string
	File    string
	Link    string // the interface
	Address netip.Addr
	Route   netip.Prefix
	Router  string

	Host     string      // HTTP: instead of the URL's
	Statuses [][2]int    // HTTP: good ones, from and to
	Verify   bool        // HTTP: the certificate
	Min, Max int         // Process: how many have to be there; Max -1: any number
	Via      netip.Addr  // Route: the gateway, if it matters
	Table    int         // Route
	State    string      // Router: Active, Backup or running
	shell    bool        // Script: it is a line for /bin/sh
	line     string      // Script: as it is written
	at       trackPlaces // in the file
}

type trackPlaces struct {
	start *node
	keys  map[string]*node
}

// Use is a track that a router depends on.
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

// States that a router check can want.
const (
	WantActive  = "active"
	WantBackup  = "backup"
	WantRunning = "running" // either
)

var wantedStates = []string{WantActive, WantBackup, WantRunning}

// trackKind is a key of which a track has one, with the keys that only it can have
// beside it.
type trackKind struct {
	name string
	only []string
}

var trackKinds = []trackKind{
	{"script", []string{"shell", "user"}},
	{"tcp", nil},
	{"http", []string{"host", "status", "tls_verify"}},
	{"process", []string{"min", "max"}},
	{"pidfile", nil},
	{"file", nil},
	{"interface", nil},
	{"address", nil},
	{"route", []string{"via", "table"}},
	{"router", []string{"state"}},
}

var trackKeys = []key[Track]{
	sampled("web", need(textKey("name", "The name of the check. The `track` lists of routers, the log and the status use it.", func(t *Track) *string { return &t.Name }), "add `name: web`")),
	sampled("/usr/local/bin/check-web --all", scriptKey()),
	sampled("127.0.0.1:5432", textKey("tcp", "Up if a TCP connection to HOST:PORT can be made.", func(t *Track) *string { return &t.TCP })),
	sampled("https://127.0.0.1:8443/health", textKey("http", "Up if a GET of this URL returns a good `status`. Redirections aren't followed.", func(t *Track) *string { return &t.HTTP })),
	sampled("haproxy", wordsKey("process", "Up if enough processes of this name run. The name is that of /proc/PID/comm, or a list with the first words of the command line, like [/usr/sbin/nginx, -c, /etc/nginx/nginx.conf].", func(t *Track) *[]string { return &t.Process })),
	sampled("/run/server.pid", textKey("pidfile", "Up if the process whose number is in this file lives.", func(t *Track) *string { return &t.PIDFile })),
	sampled("/run/failoverd-load", textKey("file", "A file with a number, which is multiplied by the `weight`; without a weight, 0 is up. A missing or empty file is 0. A result below -253 takes the router out.", func(t *Track) *string { return &t.File })),
	sampled("eth1", textKey("interface", "Up if this network interface is up and has a carrier.", func(t *Track) *string { return &t.Link })),
	sampled("192.0.2.2", addressKey("address", "Up if an interface of this host has this IP address.", func(t *Track) *netip.Addr { return &t.Address })),
	sampled("default", routeKey()),
	sampled("eth0-51", textKey("router", "Up if the router of this name is in the wanted `state`.", func(t *Track) *string { return &t.Router })),
	boundedKey("weight", "What the check adds to the priority of routers: a positive weight while the check is up, a negative one while it is down. The sum is kept within 1 to 254. An owner's priority (255) never changes. With 0 the routers take no part while the check is down.", -MaxWeight, MaxWeight, "0", func(t *Track) *int { return &t.Weight }),
	boolKey("reverse", "Exchange up and down.", "false", func(t *Track) *bool { return &t.Reverse }),
	boundedKey("rise", "How many good results in a row make the check up. The first result counts alone.", 1, 1000, "1", func(t *Track) *int { return &t.Rise }),
	boundedKey("fall", "How many bad results in a row make the check down.", 1, 1000, "1", func(t *Track) *int { return &t.Fall }),
	durationKey("interval", "The time between two looks, 10ms to 24h. What the kernel reports by itself (interface, address, route, router, the end of a process, a written file) is looked at at once.", "1s", func(t *Track) *time.Duration { return &t.Interval }),
	sampled("1s", durationKey("timeout", "How long one look may take, 10ms to 24h. The default is the `interval`. A script is killed then, with everything that it has started.", "", func(t *Track) *time.Duration { return &t.Timeout })),
	boolKey("init_fail", "Begin as down, until the check was good `rise` times. Otherwise routers wait for the first result.", "false", func(t *Track) *bool { return &t.InitFail }),
	boolKey("shell", "The script is a line for /bin/sh.", "false", func(t *Track) *bool { return &t.shell }),
	sampled("nobody", textKey("user", "The user of the script: USER or USER:GROUP. The default is the `script_user` of `global`.", func(t *Track) *string { return &t.User })),
	sampled("www.example.com", textKey("host", "The name of the host in the request and for TLS. The default is the one of the URL.", func(t *Track) *string { return &t.Host })),
	sampled("[200, 301-302]", statusKey()),
	boolKey("tls_verify", "Check the TLS certificate.", "true", func(t *Track) *bool { return &t.Verify }),
	boundedKey("min", "The least number of processes.", 0, 1000000, "1", func(t *Track) *int { return &t.Min }),
	sampled("8", boundedKey("max", "The greatest number of processes. By default there is no limit.", 0, 1000000, "", func(t *Track) *int { return &t.Max })),
	sampled("192.0.2.1", addressKey("via", "The gateway of the route. By default any gateway is good.", func(t *Track) *netip.Addr { return &t.Via })),
	boundedKey("table", "The number of the routing table; 254 is the main one.", 1, 1<<31-1, "254", func(t *Track) *int { return &t.Table }),
	choiceKey("state", "The wanted state of the other router; `running` is `active` or `backup`.", wantedStates, WantActive, func(t *Track, v string) { t.State = v }),
}

func defaultTrack() Track {
	return Track{Rise: 1, Fall: 1, Interval: DefaultTrackInterval, Verify: true, Min: 1, Max: -1, Table: MainTable, State: WantActive}
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

// completeTrack fills in what depends on other keys, and notes what is wrong with
// the values.
func (f *File) completeTrack(r *reader, t *Track) {
	fail := func(key, hint, format string, args ...any) {
		n, ok := t.at.keys[key]
		if !ok {
			n = t.at.start
		}
		r.fail(n, hint, format, args...)
	}
	if !nameShape.MatchString(t.Name) {
		fail("name", "", "%s can't be a name: it is up to 63 letters, digits, dots, dashes and underscores", quote(t.Name))
	}
	var names []string
	for _, k := range trackKinds {
		names = append(names, k.name)
		if _, there := t.at.keys[k.name]; there {
			if t.Kind != "" {
				fail(k.name, "make two tracks of it", "%s looks at %s already: a track looks at one thing", quote(t.Name), quote(t.Kind))
				return
			}
			t.Kind = k.name
		}
	}
	if t.Kind == "" {
		fail("", "add one of "+strings.Join(names, ", "), "%s looks at nothing", quote(t.Name))
		return
	}
	for _, k := range trackKinds {
		for _, key := range k.only {
			if _, there := t.at.keys[key]; there && k.name != t.Kind {
				fail(key, "", "%s is for a track with %s: remove it", quote(key), quote(k.name))
			}
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

// problem completes what a track is about, and says what is wrong with it.
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
	case "process":
		if len(t.Process) == 0 || t.Process[0] == "" {
			return "`process` names no process", "write the name as in /proc/PID/comm, like nginx"
		}
		if len(t.Process) == 1 && len(t.Process[0]) > 15 && !strings.Contains(t.Process[0], "/") {
			return fmt.Sprintf("%s is longer than the 15 characters of a process's name", quote(t.Process[0])), "write its first 15 characters, or the words of its command line as a list"
		}
		if t.Max >= 0 && t.Max < t.Min {
			return fmt.Sprintf("at least %d and at most %d processes are never there", t.Min, t.Max), "for none at all write min: 0 and max: 0"
		}
	case "pidfile", "file":
		if path := t.PIDFile + t.File; !filepath.IsAbs(path) {
			return fmt.Sprintf("%s is not an absolute path", quote(path)), "write it from the root, like /run/web.pid"
		}
	case "interface":
		if !interfaceShape.MatchString(t.Link) {
			return fmt.Sprintf("%s can't be an interface's name: it has up to 15 characters, without spaces and slashes", quote(t.Link)), ""
		}
	case "route":
		if t.Via.IsValid() && t.Via.Is4() != t.Route.Addr().Is4() {
			return fmt.Sprintf("a route to %s can't lead over %s", t.Route, t.Via), ""
		}
	}
	return "", ""
}

// parseScript makes a program with arguments of what is written.
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

// useTracks gives the routers what they depend on, and notes what is wrong with
// that.
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

// trackNames are the names of the tracks, and the first track of each.
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

// resolve completes a list of what routers depend on.
func (f *File) resolve(r *reader, uses []Use, nodes []*node, known trackNames, owner bool) {
	seen := make(map[string]bool)
	for i := range uses {
		u, at := &uses[i], nodes[i]
		j, there := known.first[u.Name]
		if !there {
			hint := r.nearby(u.Name, known.all)
			if hint == "" && len(known.all) == 0 {
				hint = "name it in `tracks:`, at the left margin of the file"
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

// join has a router depend on what its group does, unless it does already.
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

// circle is a router that depends on its own state, and through which tracks.
type circle struct {
	router  int
	through []string
}

// maxOfCircle is how many routers of a circle are told of.
const maxOfCircle = 12

// circles finds each router once that depends on its own state, together with
// those that it depends on.
func (f *File) circles(routers map[string]int, known trackNames) (all []circle) {
	const unseen, open, done = 0, 1, 2
	state := make([]int, len(f.Routers))
	// The way to the router that is looked at: each with the use of the next.
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

// dependsOn returns the router whose state a track looks at.
func (f *File) dependsOn(u Use, routers map[string]int, known trackNames) (router int, ok bool) {
	i, ok := known.first[u.Name]
	if !ok || f.Tracks[i].Kind != "router" {
		return 0, false
	}
	router, ok = routers[f.Tracks[i].Router]
	return router, ok
}

// TrackMistakes makes an error of what the host finds wrong with tracks, by their
// names; nil if there is nothing.
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

// Same reports whether two tracks look at the same in the same way; what routers
// make of it may differ.
func (t Track) Same(o Track) bool {
	return slices.Equal(TrackDifference(t, o), nil)
}

// statuses are the good ones as they are written in the file.
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

// most is how many processes may be there, empty for any number.
func (t *Track) most() any {
	if t.Max < 0 {
		return ""
	}
	return t.Max
}

// TrackDifference says which keys differ between two tracks, and how, but for the
// weight and reverse, which are their routers' matter.
func TrackDifference(a, b Track) []string {
	var all differences
	all.add("script", a.Script, b.Script)
	all.add("user", a.User, b.User)
	all.add("tcp", a.TCP, b.TCP)
	all.add("http", a.HTTP, b.HTTP)
	all.add("host", a.Host, b.Host)
	all.add("status", a.statuses(), b.statuses())
	all.add("tls_verify", a.Verify, b.Verify)
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
