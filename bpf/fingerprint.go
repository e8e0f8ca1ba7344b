// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint returns a name of the compiled programs. Another build has the same one only if its
// programs and maps are the same.
func Fingerprint() string {
	h := sha256.New()
	h.Write(_VrrpBytes)
	h.Write(_VmacBytes)
	return hex.EncodeToString(h.Sum(nil)[:8])
}
