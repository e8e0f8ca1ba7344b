// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The files of other programs are recognised, with their lines about VRRP and no
// password.
func TestOthers(t *testing.T) {
	var all strings.Builder
	for _, path := range sources(t, "testdata/others/[cf]*[a-z]", 4) {
		if filepath.Ext(path) == ".txt" {
			continue
		}
		open, glob := in(filepath.Dir(path))
		_, err := KeepalivedWith(filepath.Base(path), open, glob, alpha)
		var other *OtherError
		if !errors.As(err, &other) {
			t.Errorf("%s isn't recognised: %v", path, err)
			continue
		}
		checkError(t, err)
		fmt.Fprintf(&all, "%s\n%s\n\n", err, strings.Join(other.Lines, "\n"))
	}
	if strings.Contains(all.String(), "not2tell") {
		t.Errorf("a password is shown: %s", all.String())
	}
	golden(t, "testdata/others/others.txt", all.String())
}
