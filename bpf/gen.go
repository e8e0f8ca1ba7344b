// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel program of failoverd, compiled, and the types it
// shares with user space.
package bpf

// The include directories behind the compiler's own are where Debian keeps
// asm/types.h on the two architectures that packages are made for.
//
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel,bpfeb -type failover_reason -type failover_tolerance -type failover_counters -type failover_key -type failover_auth -type failover_virtual_router -type failover_secret_key -type failover_secret -type failover_sender -type failover_proof -type failover_peer_key -type failover_peer_limits -type failover_link -type failover_interface -type failover_liveness -type failover_discard -type failover_record Vrrp vrrp.bpf.c -- -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel,bpfeb -type failover_address_key -type failover_slot -type failover_vmacs -type failover_lease_state Vmac vmac.bpf.c -- -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
