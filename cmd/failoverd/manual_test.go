// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/daemon"
	"github.com/failoverd/failoverd/pkg/manual"
	"github.com/failoverd/failoverd/pkg/metrics"
	"github.com/failoverd/failoverd/pkg/packet"
)

var update = flag.Bool("update", false, "rewrite the generated regions of the manual pages")

const pages = "../../pkg/manual/"

// The generated regions of the pages match the code.
func TestManual(t *testing.T) {
	root := command(io.Discard, io.Discard)
	for page, regions := range map[string]map[string]string{
		"failoverd.8.md": {
			"options":  manual.Flags(root.Flags()),
			"commands": manual.Commands(root),
			"exits":    manual.Exits(exits),
			"counters": counters(),
		},
		"failoverd.yaml.5.md": {"keys": manual.Keys(config.Docs())},
		"failoverd-api.7.md": {
			"documents":  documents(t),
			"metrics":    metricsOf(t, false),
			"keepalived": metricsOf(t, true),
		},
	} {
		if err := manual.Sync(pages+page, *update, regions); err != nil {
			t.Error(err)
		}
	}
	root.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Usage == "" {
			t.Errorf("the help does not explain --%s", f.Name)
		}
	})
}

// failoverd.8.md explains each pinned map once.
func TestMapsDocumented(t *testing.T) {
	b, err := os.ReadFile(pages + "failoverd.8.md")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.LoadVrrp()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Maps {
		switch name { // these have no pin
		case bpf.VrrpMapFailoverWork, bpf.VrrpMapFailoverHash, bpf.VrrpMapFailoverStream, bpf.VrrpMapFailoverKeys, ".bss", ".rodata":
			continue
		}
		if n := strings.Count(string(b), "\n- `"+name+"`:"); n != 1 {
			t.Errorf("failoverd.8.md explains the map %s %d times", name, n)
		}
	}
}

// counters lists the counters of packets, of the daemon and of each router.
func counters() string {
	var all []manual.Term
	known := make(map[string]bool)
	add := func(name, text string) {
		if !known[name] {
			known[name] = true
			all = append(all, manual.Term{Name: name, Meaning: text})
		}
	}
	for n := range packet.ReasonCount {
		r := packet.Reason(n)
		if r == packet.ErrNotVRRP {
			continue // never counted
		}
		text := r.Error()
		if fate := r.Fate(); fate != "" {
			text += ". " + strings.ToUpper(fate[:1]) + fate[1:]
		}
		add(r.String(), text)
	}
	ofRouter, own := daemon.Counters()
	for _, c := range slices.Concat(own, ofRouter) {
		add(c.Name, c.Help)
	}
	return manual.Terms(all)
}

// everything is a source of metrics in which each field has a value.
type everything struct{}

func (everything) Status() (s control.Status, err error) {
	fill(reflect.ValueOf(&s).Elem())
	first := s.Routers[0]
	s.Routers = nil
	for i, state := range []string{"Initialize", "Backup", "Active"} {
		r := first
		r.State, r.VRID, r.Since = state, i+1, s.Now.Add(-time.Second)
		s.Routers = append(s.Routers, r)
	}
	s.Tracks[0].State = "up"
	return s, nil
}

func (everything) Stats() (s control.Stats, err error) {
	fill(reflect.ValueOf(&s).Elem())
	s.Routers[0].Counters, s.Global = daemon.Counters()
	for n := range packet.ReasonCount {
		if r := packet.Reason(n); r != packet.ErrNotVRRP {
			s.Global = append(s.Global, control.Counter{Name: r.String(), Help: r.Error()})
		}
	}
	// The metrics of keepalived look the router up by these.
	s.Routers[0].Interface, s.Routers[0].Family, s.Routers[0].VRID = "x", "x", 1
	return s, nil
}

// fill gives all fields of a value one that isn't zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1e9, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	}
}

var (
	metricHelp   = regexp.MustCompile(`^# HELP (\S+) (.*)$`)
	metricLabels = regexp.MustCompile(`(\w+)="`)
)

// metricsOf lists the metrics that failoverd serves under its own names, or under those of
// keepalived.
func metricsOf(t *testing.T, keepalived bool) string {
	w := httptest.NewRecorder()
	metrics.Handler(everything{}, keepalived).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	prefix := "failoverd_"
	if keepalived {
		prefix = "keepalived_"
	}
	var all []manual.Term
	help := make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		if m := metricHelp.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			help[m[1]] = m[2]
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		text, first := help[name]
		if !first || !strings.HasPrefix(name, prefix) {
			continue
		}
		delete(help, name)
		var labels []string
		for _, m := range metricLabels.FindAllStringSubmatch(line, -1) {
			labels = append(labels, "`"+m[1]+"`")
		}
		if len(labels) > 0 {
			text += "; labels " + strings.Join(labels, ", ")
		}
		all = append(all, manual.Term{Name: name, Meaning: text})
	}
	return manual.Terms(all)
}

// documents lists the fields of the JSON documents with the comments of their types.
func documents(t *testing.T) string {
	f, err := parser.ParseFile(token.NewFileSet(), "../../pkg/control/types.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]*ast.TypeSpec)
	about := make(map[string]string)
	var names []string
	add := func(f *ast.File) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			s := g.Specs[0].(*ast.TypeSpec)
			if _, is := s.Type.(*ast.StructType); is && s.Name.IsExported() {
				names = append(names, s.Name.Name)
				types[s.Name.Name], about[s.Name.Name] = s, g.Doc.Text()
			}
		}
	}
	add(f)
	if f, err = parser.ParseFile(token.NewFileSet(), "../../pkg/control/problem.go", nil, parser.ParseComments); err != nil {
		t.Fatal(err)
	}
	add(f)
	var w strings.Builder
	for _, name := range names {
		w.WriteString("### " + name + "\n\n" + strings.Join(strings.Fields(about[name]), " ") + "\n\n")
		w.WriteString(fields(t, name, types[name].Type.(*ast.StructType)) + "\n")
	}
	return w.String()
}

// fields lists the fields of a document.
func fields(t *testing.T, name string, s *ast.StructType) string {
	var all []manual.Term
	for _, f := range s.Fields.List {
		field, omitted, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		term := manual.Term{Name: field, Kind: typeName(f.Type)}
		if omitted != "" {
			term.Kind += ", may be absent"
		}
		if term.Meaning = strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " "); term.Meaning == "" {
			t.Errorf("%s in the type %s has no comment, which would explain it in the manual", field, name)
			continue
		}
		all = append(all, term)
	}
	return manual.Terms(all)
}

// typeName returns the JSON name of a type.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "text"
		case "bool":
			return "true or false"
		case "int", "int64", "uint64", "float64":
			return "number"
		}
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ArrayType:
		return "list of " + typeName(e.Elt)
	case *ast.MapType:
		return "object of " + typeName(e.Value)
	}
	return "time"
}
