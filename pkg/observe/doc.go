// SPDX-License-Identifier: Apache-2.0

// Package observe turns what the event loop, the datapath and the network report into counters,
// events, problems and log lines, within limits. It makes no protocol decision.
package observe
