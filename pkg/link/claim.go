// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// ErrClaimed is returned for a Virtual Router that another process in this network
// namespace runs.
var ErrClaimed = errors.New("claimed by another process")

// Two processes that ask for the same Virtual Router at the same moment see each other, and
// both withdraw. Each tries again after a random pause, so one of them succeeds soon.
const (
	claimTries = 40
	claimPause = 20 * time.Millisecond
)

// claim is a raw socket that claims a Virtual Router. A raw socket suits this because
// it belongs to the network namespace, even if processes see different file systems. It
// ends with its process. Opening one takes CAP_NET_RAW in the namespace, so an
// unprivileged user can't hold a claim. And every process can list all of them. The
// socket is bound to an IPv4 multicast address that encodes the Virtual Router:
//
//	1110 | held | IPv6 | 18 bits of the interface's index | 8 bits of VRID
//
// The kernel lets a raw socket bind to any multicast address. The socket receives nothing,
// because it joins no group and no packet has the protocol 255. Two interfaces whose
// indexes differ by a multiple of 262144 can't be told apart.
type claim struct {
	fd      int
	inode   uint64
	address uint32 // without the bit held
}

const (
	claimPrefix   = 0xe << 28
	claimHeld     = 1 << 27
	claimIPv6     = 1 << 26
	claimIndexes  = 1<<18 - 1
	claimProtocol = unix.IPPROTO_RAW
)

// Claim claims Virtual Routers for this process: no other process in the network namespace
// can claim them. A claim lasts until its Closer is closed or the process ends. The results
// are in the order of the keys: for each a Closer or an error.
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
		pending = tryClaims(keys, pending, held, errs)
	}
	return held, errs
}

// tryClaims asks for the pending keys. It returns those that another process is asking for
// too, to be tried again.
func tryClaims(keys []packet.Key, pending []int, held []io.Closer, errs []error) (again []int) {
	asking := make(map[int]*claim, len(pending))
	for _, n := range pending {
		c, err := newClaim(claimAddress(keys[n]))
		if err == nil {
			asking[n] = c
			continue
		}
		if c != nil {
			_ = c.Close()
		}
		errs[n] = err
	}
	taken, err := otherClaims(asking)
	for _, n := range pending {
		c := asking[n]
		if c == nil {
			continue
		}
		switch {
		case err != nil:
			errs[n] = err
		case taken[c.address|claimHeld]:
			errs[n] = ErrClaimed
		case taken[c.address]:
			again = append(again, n)
		default:
			if errs[n] = c.bind(c.address | claimHeld); errs[n] == nil {
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

// claimAddress returns the address that encodes a Virtual Router, without the bit held.
func claimAddress(k packet.Key) uint32 {
	what := claimPrefix | uint32(k.Ifindex&claimIndexes)<<8 | uint32(k.VRID)
	if k.Family == packet.IPv6 {
		what |= claimIPv6
	}
	return what
}

// newClaim asks for a Virtual Router. Other processes see the request from now on.
func newClaim(address uint32) (*claim, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, claimProtocol)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	c := &claim{fd: fd, address: address}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return c, fmt.Errorf("identify the socket: %w", err)
	}
	c.inode = st.Ino
	return c, c.bind(address)
}

// bind binds the socket to an address, which replaces the one it has.
func (c *claim) bind(address uint32) error {
	a := &unix.SockaddrInet4{}
	binary.BigEndian.PutUint32(a.Addr[:], address)
	if err := unix.Bind(c.fd, a); err != nil {
		return fmt.Errorf("bind the socket: %w", err)
	}
	return nil
}

// otherClaims returns the addresses of all claims except those that are asking. Each process
// first asks and then lists, so of two at least the later one sees the other: two processes
// can never hold the same claim.
func otherClaims(asking map[int]*claim) (map[uint32]bool, error) {
	own := make(map[uint64]bool, len(asking))
	for _, c := range asking {
		own[c.inode] = true
	}
	all := make(map[uint32]bool)
	// If a socket is closed while the kernel writes the list, the list may lack another
	// socket. So it is read twice.
	for range 2 {
		if err := readClaims(own, all); err != nil {
			return nil, fmt.Errorf("list the raw sockets: %w", err)
		}
	}
	return all, nil
}

// readClaims adds the addresses of all claims except the own ones, which are given by the inodes of
// their sockets.
func readClaims(own map[uint64]bool, all map[uint32]bool) error {
	list, err := os.Open("/proc/thread-self/net/raw")
	if err != nil {
		return err
	}
	defer func() { _ = list.Close() }() // it was only read
	// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
	const localAddress, inode = 1, 9
	protocol := fmt.Appendf(nil, ":%04X", claimProtocol)
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		var address, id uint64
		n := 0
		for field := range bytes.FieldsSeq(lines.Bytes()) {
			switch n {
			case localAddress:
				if digits, is := bytes.CutSuffix(field, protocol); is {
					address, _ = strconv.ParseUint(string(digits), 16, 32) // 0 isn't a claim
				}
			case inode:
				id, _ = strconv.ParseUint(string(field), 10, 64)
			}
			n++
		}
		if address == 0 || n <= inode || own[id] {
			continue // the head of the list, another program's socket, or an own one
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(address))
		all[binary.BigEndian.Uint32(b[:])] = true
	}
	return lines.Err()
}

// Close gives the claim up.
func (c *claim) Close() error { return unix.Close(c.fd) }
