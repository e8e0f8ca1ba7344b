// SPDX-License-Identifier: Apache-2.0

package config

import "runtime/debug"

// release is the version of a package. The linker sets it when a package is built.
var release string

// Version returns the version of the package, of the module, or the commit that the binary
// was built from.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "(development)"
}
