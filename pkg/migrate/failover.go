// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

// LooksLikeFailover reports whether a file's content is a configuration of the
// Rust failover: JSON, an object or a list of them with one of its keys.
func LooksLikeFailover(content []byte) bool {
	d := json.NewDecoder(bytes.NewReader(unmarked(content)))
	ours := false
	look := func() bool {
		its, others := false, false
		for d.More() {
			key, err := d.Token()
			var value json.RawMessage
			if err != nil || d.Decode(&value) != nil {
				return false
			}
			its = its || key == "interface_name" || key == "ip_addresses" || key == "vrid"
			others = others || key == "routers"
		}
		ours = ours || its && !others
		_, err := d.Token()
		return err == nil
	}
	switch t, err := d.Token(); {
	case err != nil:
		return false
	case t == json.Delim('{'):
		if !look() {
			return false
		}
	case t == json.Delim('['):
		for d.More() {
			if t, err := d.Token(); err != nil || t != json.Delim('{') || !look() {
				return false
			}
		}
		if _, err := d.Token(); err != nil {
			return false
		}
	}
	_, err := d.Token()
	return ours && errors.Is(err, io.EOF)
}

// unmarked returns a content without a byte order mark.
func unmarked(content []byte) []byte { return bytes.TrimPrefix(content, []byte("\ufeff")) }

// Limits of the Rust failover's file. A larger file is something else.
const (
	maxFields    = 100 // of an object
	maxAllFields = 200_000
)

// field is one key of an object of the Rust failover's file.
type field struct {
	name  string
	value json.RawMessage
	line  int
	order int
}

// object is one router of the Rust failover's file.
type object struct {
	fields []field
	line   int
	order  int
}

// Failover translates the JSON of the Rust failover. An error names the line.
func Failover(path string, content []byte) (*Result, error) {
	objects, err := readObjects(path, content)
	if err != nil {
		return nil, err
	}
	var c collector
	var routers []*router
	for _, o := range objects {
		routers = append(routers, c.failoverRouter(path, o))
	}
	return c.result(path, "the Rust failover's", routers)
}

// readObjects reads the objects with the lines of their keys.
func readObjects(path string, content []byte) (all []object, err error) {
	content = unmarked(content)
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	// The offset of the decoder is before the separator of the next token.
	counted, lines := 0, 1
	line := func() int {
		at := int(d.InputOffset())
		for at < len(content) && strings.IndexByte(" \t\r\n,:", content[at]) >= 0 {
			at++
		}
		lines += bytes.Count(content[counted:max(at, counted)], []byte("\n"))
		counted = max(at, counted)
		return lines
	}
	at := 1
	fail := func(err error, remedy string) ([]object, error) {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = bytes.Count(content[:min(int(syntax.Offset), len(content))], []byte("\n")) + 1
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			at, err = line(), errors.New("it ends too early")
		}
		return nil, fmt.Errorf("%s:%d: not a configuration of the Rust failover: %w: %s", path, at, err, remedy)
	}
	const (
		syntaxRemedy = "correct the JSON"
		shapeRemedy  = "it is an object, or a list of them"
	)
	order := 0
	one := func(start int) (object, error) {
		order++
		o := object{line: start, order: order}
		for d.More() {
			order++
			if len(o.fields) == maxFields || order > maxAllFields {
				return o, fmt.Errorf("more than %d keys in one object, or %d in all", maxFields, maxAllFields)
			}
			f := field{line: line(), order: order}
			key, err := d.Token()
			if err != nil {
				return o, err
			}
			f.name = fmt.Sprint(key)
			if err := d.Decode(&f.value); err != nil {
				return o, err
			}
			o.fields = append(o.fields, f)
		}
		_, err := d.Token()
		return o, err
	}
	at = line()
	t, err := d.Token()
	if err != nil {
		return fail(err, syntaxRemedy)
	}
	switch t {
	case json.Delim('{'):
		o, err := one(at)
		if err != nil {
			return fail(err, syntaxRemedy)
		}
		all = append(all, o)
	case json.Delim('['):
		for d.More() {
			at = line()
			t, err := d.Token()
			if err != nil {
				return fail(err, syntaxRemedy)
			}
			if len(all) == maxRouters {
				return fail(fmt.Errorf("more than %d routers", maxRouters), "import them in several files")
			}
			if t != json.Delim('{') {
				return fail(fmt.Errorf("%s in the list", kindOf(t)), shapeRemedy)
			}
			o, err := one(at)
			if err != nil {
				return fail(err, syntaxRemedy)
			}
			all = append(all, o)
		}
		if _, err := d.Token(); err != nil {
			return fail(err, syntaxRemedy)
		}
	default:
		return fail(errors.New(kindOf(t)), shapeRemedy)
	}
	end := line()
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		at = end
		return fail(errors.New("something behind its end"), syntaxRemedy)
	}
	if len(all) == 0 {
		return fail(errors.New("no router in the list"), "there is nothing to import")
	}
	return all, nil
}

// failoverRouter translates an object into a router.
func (c *collector) failoverRouter(path string, o object) *router {
	r := &router{place: Finding{Path: path, Line: o.line, Directive: "router"}, order: o.order}
	find := func(f field, kind Kind, format string, args ...any) {
		c.add(f.order, Finding{path, f.line, cut(f.name), kind, fmt.Sprintf(format, args...)}, nil, r)
	}
	last := make(map[string]field)
	for _, f := range o.fields {
		if before, twice := last[f.name]; twice {
			find(before, Unknown, "it is here again on line %d, which counts", f.line)
		}
		last[f.name] = f
	}
	number := func(key string, fallback int) int {
		f, ok := last[key]
		delete(last, key)
		if !ok {
			return fallback
		}
		n, err := strconv.Atoi(string(f.value))
		if err != nil || n < 0 || n > 255 {
			find(f, Changed, "%s isn't a number from 0 to 255: it is %d here, the default", shown(f.value), fallback)
			return fallback
		}
		return n
	}
	value := func(key string, into any, what string) {
		f, ok := last[key]
		delete(last, key)
		if ok && (string(f.value) == "null" || json.Unmarshal(f.value, into) != nil) {
			find(f, Changed, "%s isn't %s: left out", shown(f.value), what)
		}
	}
	missing := func(key string) {
		f := r.place
		f.Kind, f.Text = Unknown, fmt.Sprintf("it has no usable %s: add one. The router is commented out", key)
		c.add(r.order, f, nil, r)
		r.blocked = "it has no " + key
	}

	if f, ok := last["name"]; ok {
		value("name", &r.name, "a text")
		if r.name == "" {
			find(f, Unneeded, "without a name the router is called INTERFACE-VRID")
		}
	} else {
		f := r.place
		f.Directive, f.Kind, f.Text = "name", Unneeded, "the Rust failover names it at random at each start; here it is called INTERFACE-VRID"
		c.add(r.order, f, nil, r)
	}
	var iface string
	if value("interface_name", &iface, "a text"); iface == "" {
		missing("interface_name")
	}
	r.set("interface", text(iface))
	vrid := number("vrid", 0)
	if vrid == 0 {
		missing("vrid")
	}
	r.set("vrid", strconv.Itoa(vrid))
	if v := number("version", config.DefaultVersion); v != config.DefaultVersion {
		r.set("version", strconv.Itoa(v))
	}
	if v := number("priority", config.DefaultPriority); v != config.DefaultPriority {
		r.set("priority", strconv.Itoa(v))
	}
	if v := time.Duration(number("advert_interval", 1)) * time.Second; v != config.DefaultInterval {
		r.set("interval", duration(v))
	}
	c.failoverAddresses(r, last, find)
	preempt := true
	if value("preempt_mode", &preempt, "true or false"); !preempt {
		r.set("preempt", "false")
	}
	r.set("virtual_mac", "auto", c.once(
		"The addresses are at the virtual MAC, on the interface itself. The Rust failover makes",
		"a macvlan for them, as `virtual_mac: macvlan` does.")...)
	for _, f := range o.fields {
		if _, unread := last[f.name]; unread {
			find(f, Unknown, "the Rust failover has no such key and ignores it")
			delete(last, f.name)
		}
	}
	return r
}

func (c *collector) failoverAddresses(r *router, last map[string]field, find func(field, Kind, string, ...any)) {
	const name = "ip_addresses"
	f, ok := last[name]
	delete(last, name)
	r.set(addressesKey, "")
	var list []json.RawMessage
	if ok && json.Unmarshal(f.value, &list) != nil {
		find(f, Changed, "%s isn't a list of addresses: left out", shown(f.value))
	}
	kept := 0
	for _, raw := range list {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		if _, err := config.ParseAddress(s); err != nil {
			find(f, Changed, "%s; it is left out", err)
			r.address(clean(s), true)
			continue
		}
		r.address(s, false)
		kept++
	}
	if kept == 0 {
		g := r.place
		g.Kind, g.Text = Unknown, "it has no usable address: add one. The router is commented out"
		c.add(r.order, g, nil, r)
		r.blocked = "it has no address"
	}
}

// shown returns a value as a finding shows it.
func shown(raw json.RawMessage) string {
	return "`" + cut(strings.Join(strings.Fields(string(raw)), " ")) + "`"
}

// kindOf names the kind of a token. Its content may be long, so no error shows it.
func kindOf(t json.Token) string {
	switch t.(type) {
	case string:
		return "a text"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case nil:
		return "null"
	}
	return "a list"
}
