// SPDX-License-Identifier: Apache-2.0

// Package observe turns what the event loop, the datapath and the network show into
// counters, events, problems and lines of the log, within limits. It decides nothing that
// a router does.
package observe
