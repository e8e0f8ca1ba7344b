// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed" // the reference
	"encoding/json"
	"strconv"
)

// Reference is a file with every key, its default and its documentation.
//
//go:embed reference.yaml
var Reference []byte

// Schema returns the JSON Schema of the file, for editors and other programs. It has no
// rules that depend on several keys.
func Schema() []byte {
	schema := object{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "failoverd.yaml",
		"type":                 "object",
		"additionalProperties": false,
		"properties": object{
			"include": object{
				"description": includeDoc().Text,
				"type":        "array",
				"items":       object{"type": "string"},
				"default":     []string{},
			},
			"global": properties("What holds for the whole daemon.", globalKeys),
			"groups": object{
				"description": "Groups of routers that are Active or Backup together.",
				"type":        "array",
				"items":       properties("One group.", groupKeys),
			},
			"routers": object{
				"description": "The routers. One with addresses of both families is two virtual routers on the wire.",
				"type":        "array",
				"minItems":    1,
				"items":       properties("One router.", routerKeys),
			},
			"tracks": object{
				"description": "Checks that routers may depend on.",
				"type":        "array",
				"items":       properties("One check.", trackKeys),
			},
		},
	}
	b, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // maps of strings, numbers and lists
	}
	return append(b, '\n')
}

// Words returns the words that a key of a router or of global can have, nil if its value
// isn't one of some words.
func Words(name string) []string {
	for _, k := range routerKeys {
		if k.name == name {
			return k.words
		}
	}
	for _, k := range globalKeys {
		if k.name == name {
			return k.words
		}
	}
	return nil
}

type object map[string]any

func properties[T any](doc string, keys []key[T]) object {
	all, required := object{}, []string{}
	for _, k := range keys {
		all[k.name] = k.schema()
		if k.required {
			required = append(required, k.name)
		}
	}
	o := object{"description": doc, "type": "object", "additionalProperties": false, "properties": all}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func (k key[T]) schema() object {
	o := object{"description": k.doc}
	switch k.kind {
	case kindText:
		o["type"] = []string{"string", "number"}
	case kindNumber:
		o["type"], o["minimum"], o["maximum"] = "integer", k.min, k.max
	case kindBool:
		o["type"] = "boolean"
	case kindDuration:
		o["type"], o["pattern"] = "string", `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	case kindChoice:
		o["enum"] = k.values()
	case kindChoices:
		o["type"], o["items"] = "array", object{"enum": k.words}
	case kindCommand:
		o["type"], o["items"], o["minItems"] = []string{"string", "array"}, object{"type": []string{"string", "number"}}, 1
	case kindNames:
		o["type"], o["items"], o["minItems"] = "array", object{"type": []string{"string", "number"}}, 1
	case kindUses:
		o["type"], o["items"] = "array", object{"oneOf": []object{{"type": []string{"string", "number"}}, k.below.schema("With a weight of its own.")}}
	case kindGroup:
		o["anyOf"] = []object{k.below.schema(k.doc), {"const": k.fallback}}
	case kindHosts:
		host := object{"type": "string"}
		o["anyOf"] = []object{host, {"type": "array", "items": host, "minItems": 1, "maxItems": 2}}
	case kindTargets:
		host := object{"type": "string"}
		o["anyOf"] = []object{host, {"type": "array", "items": host, "minItems": 1, "maxItems": k.max}}
	case kindPeers:
		o["type"], o["items"], o["minItems"] = "array", object{"anyOf": []object{{"type": "string"}, k.below.schema("A peer.")}}, 1
	case kindExtras:
		o["type"], o["items"] = "array", object{"anyOf": []object{{"type": "string"}, k.below.schema("An extra address.")}}
	case kindSecrets:
		o["type"], o["items"], o["minItems"] = "array", k.below.schema("A key."), 1
	case kindGroups:
		o["type"], o["items"] = "array", k.below.schema(k.doc)
	case kindAddresses:
		o["type"], o["items"] = "array", object{"anyOf": []object{{"type": "string"}, k.below.schema("An address on an interface.")}}
	}
	switch k.kind {
	case kindNumber:
		if n, err := strconv.Atoi(k.fallback); err == nil {
			o["default"] = n
		}
	case kindBool:
		o["default"] = k.fallback == "true"
	case kindChoices, kindUses, kindExtras, kindGroups:
		o["default"] = []string{}
	default:
		if k.fallback != "" {
			o["default"] = k.fallback
		}
	}
	return o
}

// values returns the words as YAML reads them: true and false are booleans.
func (k key[T]) values() []any {
	all := make([]any, 0, len(k.words))
	for _, w := range k.words {
		switch w {
		case "true", "false":
			all = append(all, w == "true")
		default:
			all = append(all, w)
		}
	}
	return all
}
