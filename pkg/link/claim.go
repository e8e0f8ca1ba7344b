// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
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

// Claim makes this process the only one of the network namespace that runs the
// Virtual Router on the interface, until it is closed or the process ends.
func Claim(ifindex int, f packet.Family, vrid uint8) (io.Closer, error) {
	what := claimPrefix | uint32(ifindex&claimIndexes)<<8 | uint32(vrid)
	if f == packet.IPv6 {
		what |= claimIPv6
	}
	for range claimTries {
		c, err := newClaim(what)
		if err == nil {
			err = c.hold()
		}
		if err == nil {
			return c, nil
		}
		if c != nil {
			_ = c.Close()
		}
		if errors.Is(err, ErrClaimed) {
			return nil, err
		}
		if !errors.Is(err, errAsked) {
			return nil, fmt.Errorf("claim VRID %d on interface %d: %w", vrid, ifindex, err)
		}
		time.Sleep(rand.N(claimPause))
	}
	return nil, ErrClaimed
}

// errAsked is returned where another process asks for the same at this moment.
var errAsked = errors.New("another process asks for it")

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

// hold makes a claim the only one. Who looks last, after the other has asked, sees
// the other: so there are never two that hold.
func (c *claim) hold() error {
	held, asked, err := c.others()
	switch {
	case err != nil:
		return err
	case held:
		return ErrClaimed
	case asked:
		return errAsked
	}
	return c.bind(c.what | claimHeld)
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

// others reports whether there are other claims to the same.
func (c *claim) others() (held, asked bool, err error) {
	// A socket that closes while the kernel makes the list may have it leave out
	// another one: so there are two.
	for range 2 {
		h, a, err := c.look()
		if err != nil {
			return false, false, err
		}
		held, asked = held || h, asked || a
	}
	return held, asked, nil
}

func (c *claim) look() (held, asked bool, err error) {
	list, err := os.ReadFile("/proc/thread-self/net/raw")
	if err != nil {
		return false, false, fmt.Errorf("list the raw sockets: %w", err)
	}
	own := fmt.Sprint(c.inode)
	asking, holding := inList(c.what), inList(c.what|claimHeld)
	// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[9] == own {
			continue
		}
		held = held || fields[1] == holding
		asked = asked || fields[1] == asking
	}
	return held, asked, nil
}

// inList is how the kernel lists a claim's address and protocol.
func inList(address uint32) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], address)
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(b[:]), claimProtocol)
}

// Close gives the claim up.
func (c *claim) Close() error { return unix.Close(c.fd) }
