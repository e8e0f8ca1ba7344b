// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"strings"
	"testing"
)

// Wrong indentation is told with the line, and the columns that it could begin in.
func TestIndentation(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"too little": {
			"routers:\n  - interface: eth0\n    vrid: 51\n   addresses: [192.0.2.10/24]\n",
			"x:4:4: not YAML: the line is indented like nothing above it: it begins in column 4, and the lines that it can belong to in column 1 or 5\n",
		},
		"too much": {
			"routers:\n  - interface: eth0\n    vrid: 51\n      priority: 100\n",
			"x:4:7: not YAML: no line can be indented below a value: it begins in column 7, and the lines that it can belong to in column 1 or 5\n",
		},
		"behind the key of a dash": {
			"routers:\n- interface: eth0\n    vrid: 51\n",
			"x:3:5: not YAML: no line can be indented below a value: it begins in column 5, and the lines that it can belong to in column 1 or 3\n",
		},
		"at the dash": {
			"routers:\n  - interface: eth0\n  vrid: 51\n",
			"x:3:3: not YAML: the line is indented like nothing above it: it begins in column 3, and the lines that it can belong to in column 1 or 5\n",
		},
		"a dash too far in": {
			"routers:\n  - interface: eth0\n    addresses:\n    - 192.0.2.10/24\n     - 192.0.2.11/24\n",
			"x:5:6: not YAML: no line can be indented below a value: it begins in column 6, and the lines that it can belong to in column 3 or 5\n",
		},
		"a dash too little": {
			"# comment\n\nrouters:\n    - interface: eth0\n      vrid: 51\n  - interface: eth1\n",
			"x:6:3: not YAML: the line is indented like nothing above it: it begins in column 3, and the lines that it can belong to in column 5\n",
		},
		"a file in Windows' form": {
			"global:\r\n  log_level: info\r\n routers: []\r\n",
			"x:3:2: not YAML: the line is indented like nothing above it: it begins in column 2, and the lines that it can belong to in column 1 or 3\n",
		},
	} {
		_, err := Parse("x", []byte(c.content))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Of a binary file nothing is shown, and a slip of one octet has its place.
func TestBinary(t *testing.T) {
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"a program": string(own[:1<<20]), "noise": strings.Repeat("\x8f\x02\xfft", 1000)} {
		_, err := Parse("x", []byte(content))
		if err == nil || err.Error() != "x:1:1: it is a binary file, not text: name the configuration file" {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	if _, err := Parse("x", []byte("routers:\n  - interface: e\x01th0\n")); err == nil || !strings.HasPrefix(err.Error(), "x:2:17: the control character 0x01") {
		t.Error(err)
	}
}
