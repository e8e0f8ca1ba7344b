// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// OwnerPriority is the priority of the address owner: the router that has the
// virtual addresses as its own (RFC 9568 §5.2.4).
const OwnerPriority = 255

// The limits and the default of Config.DownAfter. The least is 2 because with 1
// the lease of an Active would end just when it sends the next advertisement.
const (
	MinDownAfter     = 2
	MaxDownAfter     = 100
	defaultDownAfter = 3
)

// ChecksumPolicy selects the form of the checksum in version 3 over IPv4.
type ChecksumPolicy uint8

const (
	// ChecksumAuto accepts both forms. It sends both too, or only that of RFC 5798
	// once the peers were heard to use it.
	ChecksumAuto ChecksumPolicy = iota
	// ChecksumOnlyRFC9568 sends and accepts only checksums over the message.
	ChecksumOnlyRFC9568
	// ChecksumOnlyRFC5798 sends and accepts only checksums over the IPv4
	// pseudo-header and the message.
	ChecksumOnlyRFC5798
)

func (p ChecksumPolicy) String() string {
	switch p {
	case ChecksumAuto:
		return "auto"
	case ChecksumOnlyRFC9568:
		return packet.ChecksumRFC9568.String()
	case ChecksumOnlyRFC5798:
		return packet.ChecksumRFC5798.String()
	}
	return fmt.Sprintf("checksum policy %d", uint8(p))
}

// Config is the configuration of a Virtual Router, in the terms of RFC 9568 §6.1.
type Config struct {
	Version  uint8         // 2 or 3
	VRID     uint8         // 1 to 255
	Family   packet.Family // IPv4 in version 2
	Priority uint8         // 1 to 254; 255 for the address owner
	// Interval is the Advertisement_Interval: in version 3 10 ms to 40.95 s in
	// whole centiseconds, in version 2 1 s to 255 s in whole seconds.
	Interval time.Duration
	// MaxInterval limits the Active_Adver_Interval that a Backup learns (RFC 9568
	// §6.4.2). One advertisement then keeps a Backup from taking over for at most
	// DownAfter times MaxInterval and its Skew_Time. MaxInterval is at least
	// Interval, and with Dual at least Version2Interval. It must not be less than
	// the interval of any router of the VRID, because a Backup takes over from an
	// Active that is much slower. 0 means no limit, as in the RFC.
	MaxInterval time.Duration
	// AddAddresses means that a router of priority 255 doesn't own its addresses: they are
	// added while it is Active. Another router of priority 255 has them otherwise, so in
	// version 2, too, it is heard.
	AddAddresses bool
	// Preempt is Preempt_Mode. An address owner always preempts.
	Preempt bool
	// Addresses are the virtual addresses. For IPv6 the first one is link-local, unless
	// AnyFirstAddress is set. A router without addresses advertises an empty list.
	Addresses []netip.Addr
	Checksum  ChecksumPolicy
	// Dual sends and accepts version 2 beside version 3 while the routers of a
	// VRID are migrated from one to the other (RFC 9568 §8.4). IPv4 only.
	Dual bool
	// AuthType is the authentication type of RFC 2338, in version 2 only: 0 for
	// none, 1 for a password, 2 for an Authentication Header. The caller verifies
	// the authentication data.
	AuthType uint8
	// PreemptDelay is the time for which a Backup accepts an Active of lower
	// priority before it preempts. 0 means that it preempts at once.
	PreemptDelay time.Duration
	// DownAfter is the number of missed advertisements after which a Backup takes
	// over, 2 to 100. 0 stands for 3, the number of RFC 9568 §6.1. All routers of
	// a VRID need the same value.
	DownAfter int
	// Announcements is the number of announcements of the addresses in a row,
	// 100 ms apart. 0 stands for 1, as in RFC 9568 §6.4.2.
	Announcements int
	// Repeat is the time after which an Active repeats the announcements in a
	// row once. 0 means never.
	Repeat time.Duration
	// Refresh is the time between single announcements while the router is
	// Active. 0 means none.
	Refresh time.Duration
	// IgnoreAddressList accepts version 2 advertisements with other addresses.
	IgnoreAddressList bool
	// AnyFirstAddress permits an IPv6 list that doesn't begin with a link-local address.
	AnyFirstAddress bool
}

// Validate returns all errors of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.VRID == 0 {
		add("VRID 0 is out of range 1 to 255")
	}
	if c.Priority == 0 {
		add("priority 0 is out of range 1 to 255")
	}
	unit, limit := 10*time.Millisecond, 40950*time.Millisecond
	switch c.Version {
	case 3:
	case 2:
		unit, limit = time.Second, 255*time.Second
		if c.Family == packet.IPv6 {
			add("version 2 has no IPv6")
		}
	default:
		add("version %d is not 2 or 3", c.Version)
	}
	if c.Interval < unit || c.Interval > limit || c.Interval%unit != 0 {
		add("interval %v is not a multiple of %v up to %v", c.Interval, unit, limit)
	}
	if least := c.intervalIn(2); c.MaxInterval != 0 && c.MaxInterval < least {
		add("maximum interval %v is less than the interval %v", c.MaxInterval, least)
	}
	most := packet.MaxAddressesIPv4
	if c.Family == packet.IPv6 {
		most = packet.MaxAddressesIPv6
	}
	if len(c.Addresses) > most {
		add("%d virtual addresses, more than %d", len(c.Addresses), most)
	}
	for i, a := range c.Addresses {
		if packet.FamilyOf(a) != c.Family || a.Is4In6() || a.Zone() != "" {
			add("virtual address %v is not %v", a, c.Family)
		}
		if i == 0 && c.Family == packet.IPv6 && !a.IsLinkLocalUnicast() && !c.AnyFirstAddress {
			add("first virtual address %v is not link-local (RFC 9568 §5.2.9)", a)
		}
	}
	if c.Family != packet.IPv4 && c.Family != packet.IPv6 {
		add("%v is neither IPv4 nor IPv6", c.Family)
	}
	for what, d := range map[string]time.Duration{"time until the announcements are repeated": c.Repeat, "time between refreshing announcements": c.Refresh, "preemption delay": c.PreemptDelay} {
		if d < 0 {
			add("%s %v is negative", what, d)
		}
	}
	if c.DownAfter < 0 || c.DownAfter == 1 || c.DownAfter > MaxDownAfter {
		add("%d missed advertisements, not %d to %d", c.DownAfter, MinDownAfter, MaxDownAfter)
	}
	if c.Announcements < 0 {
		add("number of announcements %d is negative", c.Announcements)
	}
	if c.Checksum > ChecksumOnlyRFC5798 {
		add("checksum policy %d is unknown", c.Checksum)
	}
	if c.Dual && (c.Version != 3 || c.Family != packet.IPv4) {
		add("version 2 can be sent only beside version 3 over IPv4")
	}
	if c.AuthType > 2 || c.AuthType != 0 && c.Version != 2 {
		add("authentication type %d is not possible in version %d", c.AuthType, c.Version)
	}
	return errors.Join(errs...)
}

// MinPriority returns the lowest priority of an advertisement that restarts the
// Active_Down_Timer of a Backup (RFC 9568 §6.4.2). With Preempt_Mode, and for an
// address owner, it is the router's own priority.
func (c *Config) MinPriority() uint8 {
	if c.Preempt || c.Priority == OwnerPriority {
		return c.Priority
	}
	return 1
}

// SilenceLimit returns the time without an advertisement after which a Backup may
// take over from an Active with the given interval: Active_Down_Interval without
// Skew_Time (RFC 9568 §6.1).
func (c *Config) SilenceLimit(interval time.Duration) time.Duration {
	if c.DownAfter == 0 {
		return defaultDownAfter * interval
	}
	return time.Duration(c.DownAfter) * interval
}

// SendWithin is the least time for which an advertisement may be sent after the packets were
// drained that the decision to send it is based on; it is longer if the interval is. Later the
// kernel drops it, because the process was stopped and another router may have taken over.
const SendWithin = 100 * time.Millisecond

// lateAtMost is the time that may pass between the decision to send an advertisement and its
// sending, for LastAdvertised. It is longer for long intervals.
const lateAtMost = 50 * time.Millisecond

// LastAdvertised returns when a run sent its last advertisement, from the times until which it
// could answer and advertise. It returns false if the last one could not be sent, or if the run
// had another interval than this configuration: then nobody knows how long a Backup waits.
func (c *Config) LastAdvertised(answer, advertise Instant) (Instant, bool) {
	limit := c.SilenceLimit(c.Interval)
	late := answer.Sub(advertise) - (limit - max(SendWithin, c.Interval))
	return answer.Add(-limit), answer != 0 && late >= 0 && late <= max(lateAtMost, c.Interval/2)
}

// maxActiveDownInterval returns the longest Active_Down_Interval of any peer while
// a router with this configuration is Active: the one of priority 1.
func (c *Config) maxActiveDownInterval() time.Duration {
	unit := c.Interval
	if c.Version == 2 {
		unit = time.Second
	}
	return c.SilenceLimit(c.Interval) + 255*unit/256
}

// boundInterval returns the Active_Adver_Interval to learn from an advertisement
// with the given interval.
func (c *Config) boundInterval(interval time.Duration) time.Duration {
	if c.MaxInterval == 0 {
		return interval
	}
	return min(interval, c.MaxInterval)
}

// Version2Interval returns the interval in the version 2 advertisements that are
// sent beside those of version 3: Interval rounded up to whole seconds.
func (c *Config) Version2Interval() time.Duration {
	return (c.Interval + time.Second - 1).Truncate(time.Second)
}

// acceptsVersion reports whether the router accepts advertisements of the version.
func (c *Config) acceptsVersion(version uint8) bool {
	return version == c.Version || c.Dual && version == 2
}

// intervalIn returns the interval in advertisements of the version from peers with
// the same configuration.
func (c *Config) intervalIn(version uint8) time.Duration {
	if c.Dual && version == 2 {
		return c.Version2Interval()
	}
	return c.Interval
}

// singleForm reports whether the version and the family have only one form of the
// checksum.
func (c *Config) singleForm() bool { return c.Version != 3 || c.Family != packet.IPv4 }

// firstForm returns the form that the policy prefers while no peer was heard.
func (c *Config) firstForm() packet.Checksum {
	if c.Checksum == ChecksumOnlyRFC5798 && !c.singleForm() {
		return packet.ChecksumRFC5798
	}
	return packet.ChecksumRFC9568
}

// Forms returns the checksum forms that the router accepts.
func (c *Config) Forms() packet.Checksum {
	if !c.singleForm() && c.Checksum == ChecksumAuto {
		return packet.ChecksumRFC9568 | packet.ChecksumRFC5798
	}
	return c.firstForm()
}
