// SPDX-License-Identifier: Apache-2.0

// Package process manages the daemon's own process: the scheduling of its threads, its
// memory and garbage collection, its file descriptors, its privileges and its clock.
package process
