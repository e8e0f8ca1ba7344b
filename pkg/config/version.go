// SPDX-License-Identifier: Apache-2.0

package config

import "runtime/debug"

// release is a package's version: who makes one has the linker set it.
var release string

// Version is that of the package, the module version, or the commit that the binary
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
