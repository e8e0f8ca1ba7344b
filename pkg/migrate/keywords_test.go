// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// contexts are the blocks that have rules; "" is what is outside of blocks.
var contexts = map[string]rules{
	"": topRules, "global_defs": globalRules, "vrrp_sync_group": syncRules, "vrrp_instance": instanceRules,
	"vrrp_script": scriptRules(&probe{}), "vrrp_track_process": processRules(&probe{}), "vrrp_track_file": fileRules(&probe{}),
}

func keywords(t *testing.T) (*translator, *node) {
	t.Helper()
	const path = "testdata/keywords.conf"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open, glob := in(".")
	tr := newTranslator(Options{ConfigID: "here"})
	root, err := tr.read(path, content, open, glob)
	if err != nil {
		t.Fatal(err)
	}
	return tr, root
}

func outcome(t *testing.T, tr *translator, root *node) string {
	t.Helper()
	r, err := tr.translate("x", root)
	if err != nil {
		return err.Error()
	}
	check(t, r)
	return string(r.YAML) + written(r.Findings)
}

// Every directive is known, and each makes a difference: to the configuration,
// to the findings or to both. So none is dropped silently.
func TestKeywords(t *testing.T) {
	tr, root := keywords(t)
	whole := outcome(t, tr, root)
	for _, f := range tr.list {
		if f.Kind == Unknown && f.Directive != "include" {
			t.Errorf("not known: %s", f)
		}
	}
	seen := make(map[string][]string)
	var visit func(at []int, n *node)
	visit = func(at []int, n *node) {
		for i, c := range n.block {
			here := append(slices.Clone(at), i)
			seen[n.name()] = append(seen[n.name()], c.name())
			if contexts[c.name()] != nil {
				visit(here, c)
			}
			if contexts[n.name()][c.name()].apply == nil && contexts[n.name()][c.name()].text == "" {
				t.Errorf("line %d: no rule for %s in %q", c.number, c.name(), n.name())
			}
			without, rest := keywords(t)
			parent := rest
			for _, j := range at {
				parent = parent.block[j]
			}
			parent.block = slices.Delete(parent.block, i, i+1)
			if outcome(t, without, rest) == whole {
				t.Errorf("line %d: %s in %q makes no difference", c.number, c.name(), n.name())
			}
		}
	}
	visit(nil, root)
	for context, known := range contexts {
		for name := range known {
			if !slices.Contains(seen[context], name) {
				t.Errorf("testdata/keywords.conf has no %s in %q", name, context)
			}
		}
	}
}

// import knows each keyword of keepalived 2.4.3: it translates it, or says why not.
func TestKeywordsOfTheParser(t *testing.T) {
	content, err := os.ReadFile("testdata/keepalived-2.4.3.keywords")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for keyword := range strings.Lines(string(content)) {
		if strings.HasPrefix(keyword, "#") {
			continue
		}
		count++
		block, directive, _ := strings.Cut(strings.TrimSpace(keyword), " ")
		const instance = "vrrp_instance web {\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {\n  192.0.2.10/24\n }\n"
		var text string
		switch block {
		case "-":
			text = directive + "\n" + instance + "}\n"
		case "vrrp_instance":
			text = instance + directive + "\n}\n"
		case "authentication", "auth_hmac":
			text = instance + block + " {\n" + directive + "\n}\n}\n"
		case "global_defs", "garp_group":
			text = block + " {\n" + directive + "\n}\n" + instance + "}\n"
		default:
			text = block + " a {\n" + directive + "\n}\n" + instance + "}\n"
		}
		r, err := Keepalived("x", func(string) ([]byte, error) { return []byte(text), nil }, nil)
		if err != nil {
			t.Errorf("%s: %v", keyword, err)
			continue
		}
		check(t, r)
		for _, f := range r.Findings {
			if f.Kind == Unknown {
				t.Errorf("%s: %s", keyword, f)
			}
		}
	}
	if count < 280 {
		t.Errorf("%d keywords", count)
	}
}

// What nobody knows is found wherever it is, with all its words.
func TestNothingIsDropped(t *testing.T) {
	const text = `nonsense
global_defs {
    nonsense
    vrrp_version 3 nonsense
}
vrrp_sync_group a nonsense {
    nonsense
}
vrrp_instance a nonsense {
    nonsense {
        nonsense
    }
    interface eth0 nonsense
    virtual_router_id 1 nonsense
    priority 100 nonsense
    advert_int 1 nonsense
    accept nonsense
    preempt nonsense
    strict_mode off nonsense
    virtual_ipaddress nonsense {
        192.0.2.1/24 nonsense
        192.0.2.2/24 dev
    }
}
`
	r, err := Keepalived("x", func(string) ([]byte, error) { return []byte(text), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	check(t, r)
	for i, line := range strings.Split(text, "\n") {
		found := slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Line == i+1 && (f.Kind == Unknown || f.Kind == Later) })
		inner := strings.HasPrefix(line, "        nonsense")
		if strings.Contains(line, "nonsense") && !found && !inner {
			t.Errorf("line %d is dropped: %s", i+1, line)
		}
	}
}
