// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// rule translates a directive: by apply, or by a finding alone.
type rule struct {
	apply func(t *translator, in *instance, n *node)
	kind  Kind // of the finding, if there is no apply
	text  string
}

// rules are the rules of one kind of block, by the directive's name.
type rules map[string]rule

// translator makes routers of a keepalived configuration.
type translator struct {
	collector
	Options
	instances []*instance
	global    instance          // defaults of all instances
	groups    map[string]*node  // multicast groups that aren't VRRP's, by vrrp_mcast_group4 or 6
	said      map[string]bool   // texts of findings that several directives have
	alerts    bool              // whether keepalived would send mail
	secure    bool              // enable_script_security
	balancer  bool              // whether there is a virtual server
	syncd     *node             // lvs_sync_daemon
	debounces map[string]delays // interface_up_down_delays by interface

	groupUses    map[*node][]tracked // of checks, by the sync group
	weighted     map[*node]bool      // sync groups with sync_group_tracking_weight
	checkOf      map[checkName]int   // the first check of a name
	trackNames   map[string]bool     // taken names
	trackNumbers map[string]int      // the last number tried behind a name

	keyFiles []KeyFile
}

func newTranslator(o Options) *translator {
	if o.KeyDir == "" {
		o.KeyDir = filepath.Dir(config.DefaultPath)
	}
	return &translator{
		Options: o,
		groups:  make(map[string]*node), said: make(map[string]bool), debounces: make(map[string]delays),
		groupUses: make(map[*node][]tracked), weighted: make(map[*node]bool), checkOf: make(map[checkName]int),
		trackNames: make(map[string]bool), trackNumbers: make(map[string]int),
	}
}

// Options are what a keepalived configuration depends on besides its files.
type Options struct {
	// ConfigID selects the lines that begin with @, as --config-id of keepalived
	// does. keepalived's default is the first part of the host's name.
	ConfigID string

	// Getenv reads an environment variable, for ${_ENV NAME}; nil: there is none.
	Getenv func(string) (value string, there bool)

	// Addresses are the addresses of this host, which are no peers: hosts that share a
	// file list themselves, too.
	Addresses []netip.Addr

	// KeyDir is the directory of the key files. The default is the one of
	// failoverd's configuration file.
	KeyDir string

	// LVS says that Result.LVS is used. Then its directives need no findings.
	LVS bool

	// StrictIncludes makes a file that an include names and that can't be read an error.
	// keepalived skips it, and with it the routers that a daemon runs.
	StrictIncludes bool

	// CheckProgram returns an error for a program that failoverd refuses because others
	// than root and its user may change it; nil: programs aren't checked. The user is
	// empty where the file names none.
	CheckProgram func(path, user string) error
}

// Here returns the options of this host.
func Here() Options {
	o := Options{Getenv: os.LookupEnv}
	if name, err := os.Hostname(); err == nil {
		o.ConfigID, _, _ = strings.Cut(name, ".")
	}
	all, _ := net.InterfaceAddrs() // without them a peer that is this host stays in the file
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			o.Addresses = append(o.Addresses, p.Addr().Unmap())
		}
	}
	return o
}

// Keepalived translates a keepalived configuration as keepalived would read it on
// this host. It reads path by open, and the files that it includes by open and glob.
// An error names the file, the line and the remedy. It is an ErrNothing for a file
// without a vrrp_instance, and an *OtherError for a file of FRR or VyOS.
func Keepalived(path string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error)) (*Result, error) {
	return KeepalivedWith(path, open, glob, Here())
}

// KeepalivedWith is Keepalived with options.
func KeepalivedWith(path string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error), o Options) (*Result, error) {
	content, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("read keepalived's configuration: %w", err)
	}
	if err := recognise(path, content); err != nil {
		return nil, err
	}
	t := newTranslator(o)
	root, err := t.read(path, content, open, glob)
	if err != nil {
		return nil, brief(err)
	}
	r, err := t.translate(path, root)
	return r, brief(err)
}

// maxBlocks is the highest number of blocks at the top of the files.
const maxBlocks = 10_000

// brief shortens an error that quotes too much of a file.
func brief(err error) error {
	const most = 500 // octets
	if err == nil || len(err.Error()) <= most {
		return err
	}
	return errors.New(strings.ToValidUTF8(err.Error()[:most], "") + "...")
}

// read reads the directives of a file and of those that it includes.
func (t *translator) read(path string, content []byte, open func(string) ([]byte, error), glob func(string) ([]string, error)) (*node, error) {
	p := &preprocessor{Options: t.Options, open: open, glob: glob, vars: make(map[string]string), named: make(map[string]bool), findings: &t.collector}
	if err := p.file(path, content); err != nil {
		return nil, err
	}
	p.checkConditions()
	return tree(p.lines)
}

// translate translates the directives of a file.
func (t *translator) translate(path string, root *node) (*Result, error) {
	if !slices.ContainsFunc(root.block, func(n *node) bool { _, known := topRules[n.name()]; return known }) {
		return nil, fmt.Errorf("%s:1: no directive of keepalived in it: is it another program's file?", path)
	}
	if blocks := len(root.block); blocks > maxBlocks {
		return nil, fmt.Errorf("%s:%d: more than %d blocks: import it in several files", root.block[maxBlocks].path, root.block[maxBlocks].number, maxBlocks)
	}
	if !slices.ContainsFunc(root.block, func(n *node) bool { return n.name() == "vrrp_instance" }) {
		return nil, fmt.Errorf("%s:1: %w: it has no vrrp_instance, so leave it to keepalived", path, ErrNothing)
	}
	t.alerts, t.secure = alerts(root), secure(root)
	t.balancer = slices.ContainsFunc(root.block, func(n *node) bool { return n.name() == "virtual_server" })
	t.apply(topRules, nil, root.block)
	var routers []*router
	for _, in := range t.instances {
		if err := t.finish(in); err != nil {
			return nil, err
		}
		routers = append(routers, in.router)
	}
	t.group()
	if err := t.track(); err != nil {
		return nil, err
	}
	for _, n := range root.block {
		t.sweep(n)
	}
	t.place()
	r, err := t.result(path, "keepalived's", routers)
	if err == nil {
		r.Keys, r.LVS = t.keyFiles, t.lvs(path, root)
	}
	return r, err
}

// alerts reports whether keepalived would send a mail about VRRP: it does for those
// that say smtp_alert, or if global_defs says it for all.
func alerts(n *node) bool {
	return slices.ContainsFunc(n.block, func(c *node) bool {
		switch c.name() {
		case "global_defs", "vrrp_instance", "vrrp_sync_group":
			return alerts(c)
		case "smtp_alert", "smtp_alert_vrrp":
			return !slices.Contains([]string{"off", "false", "no"}, c.words[min(1, len(c.words)-1)])
		}
		return false
	})
}

// secure reports whether keepalived refuses programs that others may change.
func secure(root *node) bool {
	return slices.ContainsFunc(root.block, func(n *node) bool {
		return n.name() == "global_defs" && slices.ContainsFunc(n.block, func(c *node) bool { return c.name() == "enable_script_security" })
	})
}

// apply applies rules to the directives of a block. The sweep finds those without a
// rule. A finding that several directives share is told once; for the others of them
// it is Unneeded.
func (t *translator) apply(known rules, in *instance, block []*node) {
	last := make(map[string]*node)
	for _, n := range block {
		if !n.told {
			last[n.name()] = n
		}
	}
	for _, n := range block {
		r, ok := known[n.name()]
		switch {
		case n.told || !ok:
		case r.apply == nil:
			t.findOnce(n, r.kind, r.text)
			n.tellAll()
		case !n.hasBlock && last[n.name()] != n:
			t.find(n, Doubtful, "it is here again further down, and keepalived takes the last")
			n.tellAll()
		default:
			n.tell()
			r.apply(t, in, n)
		}
	}
}

// sweep finds the directives that no rule knows and the words that no rule has read,
// so that none is dropped silently.
func (t *translator) sweep(n *node) {
	if !n.told {
		where := "at the top of the file"
		if n.parent.parent != nil {
			where = "in " + cut(n.parent.name())
		}
		t.find(n, Unknown, "not known %s: look whether it is a mistake", where)
		n.tellAll()
		return
	}
	if n.secret() {
		if slices.Contains(n.read, false) {
			t.find(n, Doubtful, "keepalived ignores the words behind it, which may be secret and aren't shown: it wants each directive on a line of its own")
		}
	} else {
		for i, read := range n.read {
			if !read {
				t.find(n, Unknown, "`%s` isn't understood and left out", cut(n.words[i]))
			}
		}
	}
	for _, c := range n.block {
		t.sweep(c)
	}
}

// findOnce adds a finding whose text other directives have too.
func (t *translator) findOnce(n *node, kind Kind, text string) {
	if t.said[text] {
		kind = Unneeded
	}
	t.said[text] = true
	t.find(n, kind, "%s", text)
}

// find adds a finding about a directive.
func (t *translator) find(n *node, kind Kind, format string, args ...any) {
	directive := n.name()
	switch {
	case n.secret() && !secretNames[n.name()]:
		directive = n.parent.name()
	case n.parent.parent == nil && n.hasBlock:
		directive = strings.Join(n.words[:min(2, len(n.words))], " ")
	case lists[n.parent.name()]:
		directive = n.parent.name() + " " + directive
	}
	t.add(n.order, Finding{n.path, n.number, cut(directive), kind, fmt.Sprintf(format, args...)}, n)
}

// place attaches the findings to the routers that they concern.
func (t *translator) place() {
	byName := t.byName()
	groups := make(map[*node][]*router)
	for _, f := range t.list {
		for n := f.at; n != nil; n = n.parent {
			if n.router != nil {
				f.routers = []*router{n.router}
			}
			if _, known := groups[n]; !known && len(n.members) > 0 {
				groups[n] = []*router{}
				for _, member := range n.members {
					if i, ok := byName[member]; ok {
						groups[n] = append(groups[n], t.instances[i].router)
					}
				}
			}
			if all := groups[n]; len(f.routers) == 0 {
				f.routers = all[:len(all):len(all)]
			} else {
				f.routers = append(f.routers, all...)
			}
		}
	}
}
