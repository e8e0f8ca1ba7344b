// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The set-ups are such that keepalived itself takes them. It needs the
// interfaces, so it gets a network namespace of its own, which ends with it. When
// there are scripts it ends a test by a SIGTERM to itself, whatever it found:
// without that the exit code says what.
func TestKeepalivedTakesThem(t *testing.T) {
	const setUp = `set -e
ip link add eth0 type veth peer name peer0
ip link add eth1 type veth peer name peer1
for i in eth0 eth1 peer0 peer1; do ip link set $i up; done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 10.1.0.2/16 dev eth1
trap '' TERM
exec keepalived --config-test="$1" --use-file="$2"`
	take := func(t *testing.T, path string) error {
		t.Helper()
		log := filepath.Join(t.TempDir(), "log")
		out, err := exec.Command("unshare", "--net", "sh", "-c", setUp, "sh", log, path).CombinedOutput()
		if err != nil {
			said, readErr := os.ReadFile(log)
			return fmt.Errorf("%w: %s%s", errors.Join(err, readErr), out, said)
		}
		return nil
	}
	for _, path := range sources(t, "testdata/keepalived/*.conf", 6) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if err := take(t, path); err != nil {
				t.Error(err)
			}
		})
	}
	var exit *exec.ExitError
	if err := take(t, "testdata/syntax/values.conf"); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("it takes a file with mistakes: %v", err)
	}
}
