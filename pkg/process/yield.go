// SPDX-License-Identifier: Apache-2.0

package process

import _ "unsafe" // for go:linkname

// Yield is like runtime.Gosched, but the goroutine stays on its thread: it goes to the
// local run queue, and the runtime wakes no other thread. The runtime keeps goyield stable
// for linkname (go.dev/issue/67401).
//
//go:linkname Yield runtime.goyield
func Yield()
