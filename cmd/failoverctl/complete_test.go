// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The completions that a shell gets.
func TestComplete(t *testing.T) {
	socket := serve(t, fake{})
	for _, c := range []struct {
		args string // the word before the | is completed
		want string
	}{
		{"status |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"status web |", "a-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"stats w|", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"events |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"watch |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"failover |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"failover web |", ":4"},
		{"maintenance |", "on\noff\n:4"},
		{"maintenance on |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"maintenance off web |", ":4"},
		{"priority |", "web\tVRID 51 on eth0\na-router-with-a-very-long-name\tVRID 7 on eth7\n:4"},
		{"priority web |", "configured\n:4"},
		{"events --kind |", "transition\nproblem\ntrack\nhook\norder\nreload\nfailure\nfinding\nrestored\nrouting\n:4"},
		{"status -o |", "table\nwide\njson\n:4"},
		{"events --output |", "table\njson\n:4"},
		{"stats -o |", "table\njson\n:4"},
		{"import --from |", "keepalived\nfailover\n:4"},
		{"import |", "conf\njson\n:8"},
		{"check |", "yaml\nyml\njson\nconf\n:8"},
		{"check a.yaml |", ":4"},
	} {
		args, _ := strings.CutSuffix(c.args, "|")
		words := strings.Split(args, " ")
		code, out, _ := call(t, append([]string{"__complete", words[0], "--socket", socket}, words[1:]...)...)
		if got := strings.TrimSpace(out); code != 0 || got != c.want {
			t.Errorf("%s: exit code %d\n%s\nwant\n%s", c.args, code, got, c.want)
		}
	}
	code, out, _ := call(t, "__complete", "status", "--socket", "/nowhere", "")
	if code != 0 || strings.TrimSpace(out) != ":4" {
		t.Errorf("without a daemon: exit code %d, %s", code, out)
	}
}

// --iface completes the interfaces of the host.
func TestCompleteInterfaces(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			want = append(want, i.Name)
		}
	}
	code, out, _ := call(t, "__complete", "doctor", "--iface", "")
	if got := strings.Fields(out); code != 0 || !slices.Equal(got, append(want, ":4")) {
		t.Errorf("exit code %d, %q, want %q", code, got, want)
	}
}

// The scripts have no syntax error.
func TestCompletionScript(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, errs := call(t, "completion", shell)
		if code != 0 || errs != "" || !strings.Contains(out, "failoverctl") {
			t.Fatalf("%s: exit code %d: %s", shell, code, errs)
		}
		if shell == "bash" {
			c := exec.Command("bash", "-n")
			c.Stdin = strings.NewReader(out)
			if said, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		}
	}
}
