// SPDX-License-Identifier: Apache-2.0

package process

import _ "unsafe" // for go:linkname

// Yield is runtime.Gosched, but the goroutine stays on its thread: it is put where this
// one looks first, and no other thread is woken to look for work. The runtime lets
// packages use it and keeps it as it is (go.dev/issue/67401).
//
//go:linkname Yield runtime.goyield
func Yield()
