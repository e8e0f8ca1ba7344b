// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The bill has every module of the program, with its sum and its licence, and the notices have
// the text of the licence.
func TestBill(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/failoverd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := options{
		out: filepath.Join(dir, "bill"), notices: filepath.Join(dir, "notices"),
		version: "1.2.3", programs: []string{program, program}, time: time.Unix(1e9, 0).UTC(),
	}
	if err := run(o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.out)
	if err != nil {
		t.Fatal(err)
	}
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if b.Metadata.Component.Version != "1.2.3" || b.Metadata.Timestamp != "2001-09-09T01:46:40Z" {
		t.Errorf("metadata %+v", b.Metadata)
	}
	count := make(map[string]int)
	for _, c := range b.Components {
		count[c.Name]++
		if len(c.Licenses) != 1 || c.Version == "" || c.Name != standard && len(c.Hashes) != 1 {
			t.Errorf("%+v", c)
		}
	}
	if count["github.com/sirupsen/logrus"] != 1 || count[standard] != 1 {
		t.Errorf("the numbers of components are %v", count)
	}
	text, err = os.ReadFile(o.notices)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"github.com/sirupsen/logrus v", "Copyright (c) 2014 Simon Eskildsen", "The standard library of Go 1"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the notices lack %q", want)
		}
	}
}

// A module whose licence is unknown is an error, because its bill would have none.
func TestUnknownLicence(t *testing.T) {
	_, err := cyclone("1", time.Unix(0, 0), []module{{path: "example.org/m", version: "v1.0.0", texts: []string{"all rights reserved"}}})
	if err == nil || !strings.Contains(err.Error(), "example.org/m") {
		t.Errorf("got %v", err)
	}
}

func TestIdentify(t *testing.T) {
	for text, want := range map[string]string{
		"  Apache License\n      Version 2.0, January 2004":                            "Apache-2.0",
		"Permission is hereby granted, free\nof charge, to any person":                 "MIT",
		"Redistributions in binary form must reproduce the above\nNeither the name of": "BSD-3-Clause",
		"Redistributions in binary form must reproduce the above":                      "BSD-2-Clause",
		"all rights reserved": "",
		"Permission is hereby granted, free of charge\nApache License\nVersion 2.0":                                              "Apache-2.0 MIT",
		"Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted": "ISC",
	} {
		if got := strings.Join(identify(text), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
