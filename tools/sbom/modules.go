// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// standard is the module path of Go's standard library in the bill of materials.
const standard = "std"

// module is a module that is linked into a program.
type module struct {
	path, version string
	sum           string   // as go.sum has it; empty for the standard library
	texts         []string // its licence and notice files
}

// linked returns the modules of all programs, sorted by path.
func linked(programs []string) ([]module, error) {
	var all []module
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		all = append(all, module{path: standard, version: strings.TrimPrefix(info.GoVersion, "go")})
		for _, d := range info.Deps {
			if d.Replace != nil {
				return nil, fmt.Errorf("%s: %s is replaced by %s, whose sum and licence sbom can't find; remove the replace directive from go.mod", program, d.Path, d.Replace.Path)
			}
			all = append(all, module{path: d.Path, version: d.Version, sum: d.Sum})
		}
	}
	slices.SortFunc(all, func(a, b module) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.version, b.version))
	})
	return slices.CompactFunc(all, func(a, b module) bool { return a.path == b.path && a.version == b.version }), nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)(\.(txt|md))?$`)

// licences returns the texts of a module's licence files.
func licences(dir string) ([]string, error) {
	if dir == "" {
		return nil, errors.New("the module isn't in the module cache; run go mod download")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no licence file", dir)
	}
	return texts, nil
}

// identify returns the SPDX identifiers of the licences in a text. It looks for a phrase of each
// licence that no other one has.
func identify(text string) (ids []string) {
	text = strings.Join(strings.Fields(text), " ")
	for _, known := range []struct{ id, phrase, without string }{
		{"Apache-2.0", "Apache License Version 2.0", ""},
		{"MIT", "Permission is hereby granted, free of charge", ""},
		{"BSD-3-Clause", "Neither the name of", "Apache License"},
		{"BSD-2-Clause", "Redistributions in binary form must reproduce", "Neither the name of"},
		{"ISC", "Permission to use, copy, modify, and/or distribute this software", ""},
	} {
		if strings.Contains(text, known.phrase) && (known.without == "" || !strings.Contains(text, known.without)) {
			ids = append(ids, known.id)
		}
	}
	return ids
}

// notices returns the licences of all modules as one text.
func notices(modules []module) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "failoverd contains the modules below. The licence of each follows its name.")
	for _, m := range modules {
		name := m.path
		if name == standard {
			name = "The standard library of Go"
		}
		fmt.Fprintf(&b, "\n%s\n%s %s\n\n", strings.Repeat("=", 80), name, m.version)
		for _, text := range m.texts {
			fmt.Fprintln(&b, strings.TrimSpace(text))
		}
	}
	return b.Bytes()
}

// The types below are a part of CycloneDX 1.5.

type bill struct {
	Format       string       `json:"bomFormat"`
	Specified    string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Reference string    `json:"bom-ref"`
	Type      string    `json:"type"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	Hashes    []hashed  `json:"hashes,omitempty"`
	Licenses  []license `json:"licenses,omitempty"`
	URL       string    `json:"purl"`
}

type hashed struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type license struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type dependency struct {
	Reference string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// cyclone returns the bill of materials. It has no serial number, because that would differ each
// time: the same programs give the same bill.
func cyclone(version string, at time.Time, modules []module) ([]byte, error) {
	product := newComponent("application", "github.com/failoverd/failoverd", version, []string{"Apache-2.0"})
	b := bill{
		Format: "CycloneDX", Specified: "1.5", Version: 1,
		Metadata: metadata{Timestamp: at.Format(time.RFC3339), Component: product},
	}
	needs := dependency{Reference: product.Reference}
	for _, m := range modules {
		var ids []string
		for _, text := range m.texts {
			ids = append(ids, identify(text)...)
		}
		if ids == nil {
			return nil, fmt.Errorf("the licence of %s is none that sbom knows; add it to identify", m.path)
		}
		slices.Sort(ids)
		c := newComponent("library", m.path, m.version, slices.Compact(ids))
		if m.sum != "" {
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.sum, "h1:"))
			if err != nil {
				return nil, fmt.Errorf("the sum of %s: %w", m.path, err)
			}
			// The hash h1 of go.sum, a SHA-256 of the SHA-256 sums of the module's files.
			c.Hashes = []hashed{{"SHA-256", hex.EncodeToString(sum)}}
		}
		b.Components = append(b.Components, c)
		needs.DependsOn = append(needs.DependsOn, c.Reference)
	}
	b.Dependencies = []dependency{needs}
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

func newComponent(kind, name, version string, licences []string) component {
	url := "pkg:golang/" + name + "@" + version
	c := component{Reference: url, Type: kind, Name: name, Version: version, URL: url}
	for _, id := range licences {
		var l license
		l.License.ID = id
		c.Licenses = append(c.Licenses, l)
	}
	return c
}
