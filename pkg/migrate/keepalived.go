// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// rule says what becomes of a directive.
type rule struct {
	apply func(t *translator, in *instance, n *node) // translates it; nil: there is only the finding
	kind  Kind                                       // of the finding
	text  string
	whole bool // the finding is for everything in the block too
}

// rules are those of one kind of block, by the directive's name.
type rules map[string]rule

// translator makes routers of a keepalived configuration.
type translator struct {
	collector
	instances []*instance
	global    instance         // defaults of all instances
	groups    map[string]*node // multicast groups that aren't VRRP's, by vrrp_mcast_group4 or 6

	groupUses map[*node][]tracked // of checks, by the sync group
	weighted  map[*node]bool      // sync groups with sync_group_tracking_weight
	checkOf   map[checkName]int   // the first check of a name
	// trackNames are those that are taken, and trackNumbers what was tried last
	// after one.
	trackNames   map[string]bool
	trackNumbers map[string]int

	keyDir   string // where the result's key files are
	keyFiles []KeyFile
}

func newTranslator() *translator {
	return &translator{
		groups: make(map[string]*node), groupUses: make(map[*node][]tracked), weighted: make(map[*node]bool), checkOf: make(map[checkName]int), trackNames: make(map[string]bool), trackNumbers: make(map[string]int), keyDir: defaultKeyDir,
	}
}

// Keepalived translates a keepalived configuration. It reads path by open, and
// the files that it includes by open and glob. An error names the file, the
// line and the remedy.
func Keepalived(path string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error)) (*Result, error) {
	return KeepalivedWithKeys(path, open, glob, defaultKeyDir)
}

// KeepalivedWithKeys is Keepalived with another directory for the key files.
func KeepalivedWithKeys(path string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error), keyDir string) (*Result, error) {
	content, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("read keepalived's configuration: %w", err)
	}
	t := newTranslator()
	t.keyDir = keyDir
	root, err := t.read(path, content, open, glob)
	if err != nil {
		return nil, brief(err)
	}
	r, err := t.translate(path, root)
	return r, brief(err)
}

// maxBlocks is how many blocks there can be at the top of the files.
const maxBlocks = 10_000

// brief has an error quote no more than people read.
func brief(err error) error {
	const most = 500 // octets
	if err == nil || len(err.Error()) <= most {
		return err
	}
	return errors.New(strings.ToValidUTF8(err.Error()[:most], "") + "...")
}

// read reads the directives of a file and of those that it includes.
func (t *translator) read(path string, content []byte, open func(string) ([]byte, error), glob func(string) ([]string, error)) (*node, error) {
	p := &preprocessor{open: open, glob: glob, vars: make(map[string]string), findings: &t.collector}
	if err := p.file(path, content); err != nil {
		return nil, err
	}
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
		r.Keys = t.keyFiles
	}
	return r, err
}

// apply applies rules to the directives of a block. What has no rule is left
// for the sweep.
func (t *translator) apply(known rules, in *instance, block []*node) {
	t.choose(known, block)
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
			t.find(n, r.kind, "%s", r.text)
			n.tell()
			n.args()
			if r.whole {
				n.tellAll()
			}
		case !n.hasBlock && last[n.name()] != n:
			t.find(n, Unneeded, "it is here again further down, and keepalived takes the last")
			n.tellAll()
		default:
			n.tell()
			r.apply(t, in, n)
		}
	}
}

// choose decides on the directives of a block that are for some hosts only.
// Which host this is isn't known: the first is taken, unless there is one for
// all hosts. Where there is only a finding anyway, that is enough.
func (t *translator) choose(known rules, block []*node) {
	taken := make(map[string]bool)
	for _, n := range block {
		if n.only == "" {
			taken[key(n)] = true
		}
	}
	for _, n := range block {
		if r, ok := known[n.name()]; n.only == "" || ok && r.apply == nil {
			continue
		}
		what := n.name()
		if what != "auth_pass" { // a secret
			what = cut(strings.Join(n.words, " "))
		}
		if taken[key(n)] {
			t.find(n, Changed, "in keepalived %s have `%s`; here another line is taken: correct the result where that is wrong", hosts(n.only), what)
			n.tellAll()
			continue
		}
		taken[key(n)] = true
		t.find(n, Changed, "in keepalived %s have `%s`; here it is taken for this host: correct the result where that is wrong", hosts(n.only), what)
	}
}

// key is what a directive's block has one of: its name, and of an entry of a
// list, or of a block, all of it.
func key(n *node) string {
	if n.hasBlock || n.parent != nil && lists[n.parent.name()] {
		return strings.Join(n.words, " ")
	}
	return n.name()
}

// sweep finds what nobody told: directives that aren't known, and words that
// weren't read. So none is dropped silently.
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
	for i, read := range n.read {
		if !read {
			t.find(n, Unknown, "`%s` isn't understood and left out", cut(n.words[i]))
		}
	}
	for _, c := range n.block {
		t.sweep(c)
	}
}

// find notes a finding at a directive.
func (t *translator) find(n *node, kind Kind, format string, args ...any) {
	directive := n.name()
	switch {
	case n.parent.parent == nil && n.hasBlock:
		directive = strings.Join(n.words[:min(2, len(n.words))], " ")
	case lists[n.parent.name()]:
		directive = n.parent.name() + " " + directive
	}
	t.add(n.order, Finding{n.path, n.number, cut(directive), kind, fmt.Sprintf(format, args...)}, n)
}

// place gives the findings to the routers that they concern.
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
