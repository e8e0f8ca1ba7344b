// SPDX-License-Identifier: Apache-2.0

// Package process is what failoverd knows of its own process: how the kernel ranks its
// threads, its memory and the garbage in it, its file descriptors, its privileges and its
// clock.
package process
