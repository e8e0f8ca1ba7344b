// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFile makes a file with a secret of some octets.
func keyFile(t *testing.T, octets int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Repeat("k", octets)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
