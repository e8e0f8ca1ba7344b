// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// configTest is a script that lets keepalived test files, and prints its exit code for
// each. keepalived needs the interfaces, so it gets a network namespace, which ends with
// the script. Where there are scripts it ends a test by a SIGTERM to itself, whatever it
// found: without that the exit code tells.
const configTest = `set -e
ip link add eth0 type veth peer name peer0
ip link add eth1 type veth peer name peer1
for i in eth0 eth1 peer0 peer1; do ip link set $i up; done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 10.1.0.2/16 dev eth1
trap '' TERM
binary=$1 dir=$2 n=0
shift 2
for path; do
	code=0
	"$binary" --config-test="$dir/$n" --use-file="$path" >"$dir/$n.out" 2>&1 || code=$?
	echo $code
	n=$((n + 1))
done`

// accepts returns the exit codes of keepalived's test of files, and its messages.
func accepts(t *testing.T, binary string, paths ...string) (codes, said []string) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("unshare", append([]string{"--net", "sh", "-c", configTest, "sh", binary, dir}, paths...)...).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	codes = strings.Fields(string(out))
	if len(codes) != len(paths) {
		t.Fatalf("%d exit codes for %d files", len(codes), len(paths))
	}
	for n := range paths {
		log, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint(n))) // there is none without a message
		out, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.out", n)))
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, string(out)+string(log))
	}
	return codes, said
}

// keepalived itself takes the files. Debian's keepalived doesn't know the directives in
// directives-2.4: KEEPALIVED names a newer binary, which reads them.
func TestKeepalivedTakesThem(t *testing.T) {
	take := func(binary string, paths []string) {
		codes, said := accepts(t, binary, paths...)
		for n, path := range paths {
			if codes[n] != "0" {
				t.Errorf("%s ends with %s: %s", path, codes[n], said[n])
			}
		}
	}
	take("keepalived", slices.Concat(sources(t, "testdata/keepalived/*.conf", 6), sources(t, "testdata/directives/*.conf", 36)))
	if newer := os.Getenv("KEEPALIVED"); newer != "" {
		take(newer, sources(t, "testdata/directives-2.4/*.conf", 9))
	}
	if codes, said := accepts(t, "keepalived", "testdata/syntax/values.conf"); codes[0] != "5" {
		t.Errorf("it takes a file with mistakes: %s: %s", codes[0], said[0])
	}
	_, said := accepts(t, "keepalived", "testdata/syntax/group-weights.conf")
	for _, want := range []string{"tracked script own with", "tracked script shared with", "weight from tracked file one ", "tracked file ten ", "eth1 tracked interface weight"} {
		if !strings.Contains(said[0], "(inner) ignoring "+want) {
			t.Errorf("it doesn't ignore the %s: %s", want, said[0])
		}
	}
}

// keepalived takes the files that it gets for its load balancer. So does the one of KEEPALIVED,
// if it was built with a load balancer.
func TestKeepalivedTakesLVS(t *testing.T) {
	binaries := []string{"keepalived"}
	if newer := os.Getenv("KEEPALIVED"); newer != "" {
		help, err := exec.Command(newer, "--help").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(help), "--check ") {
			binaries = append(binaries, newer)
		}
	}
	names, all := balanced(t, true)
	var paths []string
	for i, r := range all {
		path := filepath.Join(t.TempDir(), filepath.Base(names[i])+".conf")
		if err := os.WriteFile(path, r.LVS, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, binary := range binaries {
		codes, said := accepts(t, binary, paths...)
		for n, path := range paths {
			if codes[n] != "0" {
				t.Errorf("%s: %s ends with %s: %s", binary, path, codes[n], said[n])
			}
		}
	}
}
