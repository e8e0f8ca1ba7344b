// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The condition of the unit lets the service start if the file has any content, even wrong
// content. Otherwise it says what to do.
func TestUnitCondition(t *testing.T) {
	unit, err := os.ReadFile("../package/failoverd.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^ExecCondition=/bin/sh -c '([^']+)'$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("the unit has no ExecCondition with a shell")
	}
	packaged, err := os.ReadFile("../package/failoverd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		starts  bool
	}{
		"the package's file": {string(packaged), false},
		"empty":              {"", false},
		"a router":           {string(packaged) + "routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]\n", true},
		"a mistake":          {"routers\n", true},
	} {
		path := filepath.Join(t.TempDir(), "failoverd.yaml")
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		script := strings.ReplaceAll(string(found[1]), "/etc/failoverd/failoverd.yaml", path)
		out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
		if (err == nil) != c.starts {
			t.Errorf("%s: %v", name, err)
		}
		if says := strings.Contains(string(out), "nothing is configured yet: describe a router in "+path); says == c.starts {
			t.Errorf("%s: the output is %q", name, out)
		}
	}
}
