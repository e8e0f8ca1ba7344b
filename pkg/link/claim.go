// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// ErrClaimed is returned for a Virtual Router that another process of this
// network namespace runs.
var ErrClaimed = errors.New("claimed by another process")

// Two that ask at the same moment see each other and both step back. Each asks
// again after a time of its own, so one of them is soon alone.
const (
	claimTries = 40
	claimPause = 20 * time.Millisecond
)

// claim is a raw socket. It belongs to the network namespace, whatever files its
// process sees; it ends with its process; only CAP_NET_RAW in that namespace makes
// one, so a user without rights can't hold a claim; and everybody can list those
// that there are. The socket is bound to an IPv4 multicast address that says what
// is claimed:
//
//	1110 | held | IPv6 | 18 bits of the interface's index | 8 bits of VRID
//
// which the kernel lets any raw socket do, whatever addresses the host has. Nothing
// is received by it: nobody joins the group, and no packet has the protocol 255.
// Two interfaces whose indexes differ by a multiple of 262144 are taken for one.
type claim struct {
	fd    int
	inode uint64
	what  uint32 // the address, without held
}

const (
	claimPrefix   = 0xe << 28
	claimHeld     = 1 << 27
	claimIPv6     = 1 << 26
	claimIndexes  = 1<<18 - 1
	claimProtocol = unix.IPPROTO_RAW
)

// Claim makes this process the only one of the network namespace that runs the Virtual
// Routers, each until it is closed or the process ends. The errors and what is to be closed
// are in the order of the keys.
func Claim(keys ...packet.Key) ([]io.Closer, []error) {
	held, errs := make([]io.Closer, len(keys)), make([]error, len(keys))
	var pending []int
	for n := range keys {
		pending = append(pending, n)
	}
	for try := 0; len(pending) > 0; try++ {
		if try == claimTries {
			for _, n := range pending {
				errs[n] = ErrClaimed
			}
			break
		}
		if try > 0 {
			time.Sleep(rand.N(claimPause))
		}
		pending = attempt(keys, pending, held, errs)
	}
	return held, errs
}

// attempt asks for those that are pending, and returns those that others ask for too.
func attempt(keys []packet.Key, pending []int, held []io.Closer, errs []error) (again []int) {
	asking := make(map[int]*claim)
	for _, n := range pending {
		c, err := newClaim(claimed(keys[n]))
		if err == nil {
			asking[n] = c
			continue
		}
		if c != nil {
			_ = c.Close()
		}
		errs[n] = err
	}
	others, err := others(asking)
	for _, n := range pending {
		c := asking[n]
		if c == nil {
			continue
		}
		switch {
		case err != nil:
			errs[n] = err
		case others[c.what|claimHeld]:
			errs[n] = ErrClaimed
		case others[c.what]:
			again = append(again, n)
		default:
			if errs[n] = c.bind(c.what | claimHeld); errs[n] == nil {
				held[n] = c
				continue
			}
		}
		_ = c.Close()
	}
	for _, n := range pending {
		if errs[n] != nil && !errors.Is(errs[n], ErrClaimed) {
			errs[n] = fmt.Errorf("claim VRID %d on interface %d: %w", keys[n].VRID, keys[n].Ifindex, errs[n])
		}
	}
	return again
}

// claimed is the address that stands for a Virtual Router, without held.
func claimed(k packet.Key) uint32 {
	what := claimPrefix | uint32(k.Ifindex&claimIndexes)<<8 | uint32(k.VRID)
	if k.Family == packet.IPv6 {
		what |= claimIPv6
	}
	return what
}

// newClaim asks for something: from now on others see that.
func newClaim(what uint32) (*claim, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, claimProtocol)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	c := &claim{fd: fd, what: what}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return c, fmt.Errorf("identify the socket: %w", err)
	}
	c.inode = st.Ino
	return c, c.bind(what)
}

// bind gives the socket an address, in place of the one that it has.
func (c *claim) bind(address uint32) error {
	a := &unix.SockaddrInet4{}
	binary.BigEndian.PutUint32(a.Addr[:], address)
	if err := unix.Bind(c.fd, a); err != nil {
		return fmt.Errorf("bind the socket: %w", err)
	}
	return nil
}

// others returns the claims, by their addresses, that are there beside those that ask. Who
// looks last, after the other has asked, sees the other: so there are never two that hold.
func others(asking map[int]*claim) (map[uint32]bool, error) {
	own := make(map[string]bool, len(asking))
	for _, c := range asking {
		own[fmt.Sprint(c.inode)] = true
	}
	all := make(map[uint32]bool)
	// A socket that closes while the kernel makes the list may have it leave out another
	// one: so there are two.
	for range 2 {
		list, err := os.ReadFile("/proc/thread-self/net/raw")
		if err != nil {
			return nil, fmt.Errorf("list the raw sockets: %w", err)
		}
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
		for line := range strings.Lines(string(list)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || own[fields[9]] {
				continue
			}
			address, protocol, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(address, 16, 32); err == nil && protocol == fmt.Sprintf("%04X", claimProtocol) {
				var b [4]byte
				binary.NativeEndian.PutUint32(b[:], uint32(n))
				all[binary.BigEndian.Uint32(b[:])] = true
			}
		}
	}
	return all, nil
}

// Close gives the claim up.
func (c *claim) Close() error { return unix.Close(c.fd) }
