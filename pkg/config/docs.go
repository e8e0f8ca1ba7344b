// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// Doc is the documentation of a key.
type Doc struct {
	Name     string
	Text     string // words of the file are in backquotes
	Values   string // the words, or the range of a number
	Default  string // as in the file, empty for none
	Required bool
	Keys     []Doc // of a group, or of a list's items

	sample string
	list   bool // a list of groups
}

// Docs returns the documentation of all keys, in the order of the reference.
func Docs() []Doc {
	return []Doc{
		includeDoc(),
		{Name: "global", Text: "What holds for the whole daemon.", Keys: docs(globalKeys)},
		{Name: "tracks", list: true, Text: "Checks that routers may depend on. Each checks one thing: it has exactly one of " + trackKindNames() + ".", Keys: trackDocs()},
		{Name: "routers", list: true, Required: true, Text: "The routers. One with addresses of both families is two virtual routers on the wire.", Keys: docs(routerKeys)},
		{Name: "groups", list: true, Text: "Groups of routers that are Active or Backup together. A group becomes Active when all of its routers may. A router that yields takes the others with it, and a fault of one router is a fault of all. Give all of them the same priority.", Keys: docs(groupKeys)},
	}
}

// table is a table of keys.
type table interface {
	schema(doc string) object
	docs() []Doc
}

type keyTable[T any] []key[T]

func (t keyTable[T]) schema(doc string) object { return properties(doc, t) }

func (t keyTable[T]) docs() []Doc { return docs(t) }

func below[T any](keys []key[T]) table { return keyTable[T](keys) }

func docs[T any](keys []key[T]) []Doc {
	all := make([]Doc, 0, len(keys))
	for _, k := range keys {
		d := Doc{Name: k.name, Text: k.doc, Default: k.fallback, Required: k.required, sample: k.sample}
		switch k.kind {
		case kindNumber:
			d.Values = fmt.Sprintf("%d to %d", k.min, k.max)
		case kindChoice, kindChoices:
			d.Values = strings.Join(k.words, ", ")
		case kindCommand:
			if d.sample == "" {
				d.Default = "[]"
			}
		}
		if k.below != nil {
			d.Keys = k.below.docs()
		}
		all = append(all, d)
	}
	return all
}

func trackKindNames() string {
	var names []string
	for _, k := range trackKinds {
		names = append(names, k.name)
	}
	return either(names)
}

// trackDocs returns the keys that every check can have, then each kind of check with the
// keys that only it can have.
func trackDocs() []Doc {
	rest := docs(trackKeys)
	take := func(name string) Doc {
		i := slices.IndexFunc(rest, func(d Doc) bool { return d.Name == name })
		d := rest[i]
		rest = slices.Delete(rest, i, i+1)
		return d
	}
	var kinds []Doc
	for _, k := range trackKinds {
		kinds = append(kinds, take(k.name))
		for _, name := range k.only {
			with := kindsWith(name)
			if with[0] != k.name {
				continue // documented with the first kind
			}
			d := take(name)
			d.Text += " Only with " + quotedEither(with) + "."
			kinds = append(kinds, d)
		}
	}
	return slices.Concat(rest, kinds)
}

// referenceWidth is the width of the reference's comments.
const referenceWidth = 90

// makeReference returns a file with every key, with its default or a sample.
func makeReference() []byte {
	var w strings.Builder
	comment(&w, "", "Every key of "+DefaultPath+" with its default. A required key, and one without a default, has a sample. failoverctl check checks a file, which may be JSON too. Durations have a unit: 10ms, 1s, 1m30s.")
	for _, top := range Docs() {
		w.WriteString("\n")
		if len(top.Keys) == 0 {
			top.write(&w, "", "")
			continue
		}
		comment(&w, "", top.about())
		w.WriteString(top.Name + ":\n")
		if !top.list {
			for i, d := range top.Keys {
				if i > 0 {
					w.WriteString("\n")
				}
				d.write(&w, "  ", "  ")
			}
			continue
		}
		begin := "  - "
		for i, d := range top.Keys {
			if i > 0 {
				w.WriteString("\n")
			}
			// There is a check of each kind.
			if kind := slices.IndexFunc(trackKinds, func(k trackKind) bool { return k.name == d.Name }); top.Name == "tracks" && kind > 0 {
				fmt.Fprintf(&w, "  - name: %s-check\n", d.Name)
				if sample := trackKinds[kind].sample; sample != "" {
					w.WriteString("    " + sample + "\n")
				}
			}
			d.write(&w, "    ", begin)
			begin = "    "
		}
	}
	return []byte(w.String())
}

// about returns the documentation of a key as the text of a comment.
func (d Doc) about() string {
	text := strings.ReplaceAll(d.Text, "`", "")
	if d.Values != "" {
		text += " Values: " + d.Values + "."
	}
	if d.Required {
		text += " Required."
	}
	return text
}

// write writes a key below its comment. begin is the indentation of its line, which may
// end with the dash of a list.
func (d Doc) write(w *strings.Builder, indent, begin string) {
	comment(w, indent, d.about())
	for _, k := range d.Keys {
		k.explain(w, indent+"#   ")
	}
	value := d.Default
	switch {
	case value == "" && d.sample != "":
		value = d.sample
	case value == "":
		value = `""`
	case d.sample != "":
		fmt.Fprintf(w, "%s# For example %s: %s\n", indent, d.Name, d.sample)
	}
	fmt.Fprintf(w, "%s%s: %s\n", begin, d.Name, value)
}

// explain writes a comment about a key that the reference has only in a comment.
func (d Doc) explain(w *strings.Builder, indent string) {
	text := d.Name + ": " + d.about()
	if d.Default != "" {
		text += " Default: " + d.Default + "."
	}
	wrapped(w, indent, indent+"  ", text)
	for _, k := range d.Keys {
		k.explain(w, indent+"  ")
	}
}

func comment(w *strings.Builder, indent, text string) { wrapped(w, indent+"# ", indent+"# ", text) }

// wrapped writes a text in lines. The first one begins with first, the others with next.
func wrapped(w *strings.Builder, first, next, text string) {
	line := first
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > referenceWidth {
			w.WriteString(line + "\n")
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	w.WriteString(line + "\n")
}
