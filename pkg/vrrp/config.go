// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// OwnerPriority is the priority of the router whose own addresses the virtual
// ones are (RFC 9568 §5.2.4).
const OwnerPriority = 255

// Config.DownAfter. With one missed advertisement the fence of an Active would
// close just when it sends the next one.
const (
	MinDownAfter     = 2
	MaxDownAfter     = 100
	defaultDownAfter = 3
)

// ChecksumPolicy says which form the checksum of version 3 over IPv4 has.
type ChecksumPolicy uint8

const (
	// ChecksumAuto accepts both forms. It starts with that of RFC 9568 and
	// then answers in the form that the peers use.
	ChecksumAuto ChecksumPolicy = iota
	// ChecksumOnlyRFC9568 sends and accepts the message alone.
	ChecksumOnlyRFC9568
	// ChecksumOnlyRFC5798 sends and accepts the IPv4 pseudo-header.
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

// Config is a Virtual Router's configuration, in the terms of RFC 9568 §6.1.
type Config struct {
	Version  uint8         // 2 or 3
	VRID     uint8         // 1 to 255
	Family   packet.Family // version 2 has IPv4 only
	Priority uint8         // 1 to 254, 255 for the owner
	// Interval is the Advertisement_Interval: 10 ms to 40.95 s in whole
	// centiseconds, in version 2 whole seconds to 255 s.
	Interval time.Duration
	// MaxInterval bounds the Active_Adver_Interval that a Backup learns (RFC 9568
	// §6.4.2): one advertisement holds it off for DownAfter times this and Skew_Time
	// at most. It is at least Interval, and with Dual Version2Interval. It has to be
	// at least the interval of every router of the VRID: a Backup takes over from an
	// Active that is much slower. 0: no bound, as the RFC has it.
	MaxInterval time.Duration
	// Preempt is Preempt_Mode. An owner preempts in any case.
	Preempt bool
	// Addresses are the virtual addresses, for IPv6 a link-local one first.
	Addresses []netip.Addr
	Checksum  ChecksumPolicy
	// Dual speaks version 2 beside version 3, for as long as the routers of a
	// VRID are moved from one to the other (RFC 9568 §8.4). IPv4 only.
	Dual bool
	// AuthType is RFC 2338's, version 2 only: 0, 1 for a password or 2 for an
	// Authentication Header. Somebody else judges whether they are right.
	AuthType uint8
	// PreemptDelay is how long a Backup lets an Active of lower priority be
	// before it preempts; 0: not at all.
	PreemptDelay time.Duration
	// DownAfter is how many advertisements may be missed before a Backup takes
	// over, 2 to 100; 0 stands for 3, as RFC 9568 §6.1 has it. The same on all
	// routers.
	DownAfter int
	// Announcements is how often the addresses are announced in a row, a tenth
	// of a second apart; 0 stands for once, as RFC 9568 §6.4.2 has it.
	Announcements int
	// Repeat is the time after which an Active announces its addresses once
	// more, and as often; 0: not at all.
	Repeat time.Duration
	// Refresh is the time between single announcements for as long as the
	// router is Active; 0: none.
	Refresh time.Duration
	// IgnoreAddressList accepts version 2 advertisements of other addresses.
	IgnoreAddressList bool
}

// Validate returns all that is wrong with the configuration.
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
	if least := c.intervalOf(2); c.MaxInterval != 0 && c.MaxInterval < least {
		add("maximum %v of the Active's interval is less than %v", c.MaxInterval, least)
	}
	most := packet.MaxAddressesIPv4
	if c.Family == packet.IPv6 {
		most = packet.MaxAddressesIPv6
	}
	if len(c.Addresses) == 0 || len(c.Addresses) > most {
		add("%d virtual addresses, not 1 to %d", len(c.Addresses), most)
	}
	for i, a := range c.Addresses {
		if packet.FamilyOf(a) != c.Family || a.Is4In6() || a.Zone() != "" {
			add("virtual address %v is not %v", a, c.Family)
		}
		if i == 0 && c.Family == packet.IPv6 && !a.IsLinkLocalUnicast() {
			add("first virtual address %v is not link-local (RFC 9568 §5.2.9)", a)
		}
	}
	if c.Family != packet.IPv4 && c.Family != packet.IPv6 {
		add("%v is neither IPv4 nor IPv6", c.Family)
	}
	for what, d := range map[string]time.Duration{"repetition of the announcements": c.Repeat, "refreshing of the announcements": c.Refresh, "preemption": c.PreemptDelay} {
		if d < 0 {
			add("%s after %v", what, d)
		}
	}
	if c.DownAfter < 0 || c.DownAfter == 1 || c.DownAfter > MaxDownAfter {
		add("%d missed advertisements, not %d to %d", c.DownAfter, MinDownAfter, MaxDownAfter)
	}
	if c.Announcements < 0 {
		add("%d announcements", c.Announcements)
	}
	if c.Checksum > ChecksumOnlyRFC5798 {
		add("checksum policy %d is not known", c.Checksum)
	}
	if c.Dual && (c.Version != 3 || c.Family != packet.IPv4) {
		add("version 2 can be spoken only beside version 3 over IPv4")
	}
	if c.AuthType > 2 || c.AuthType != 0 && c.Version != 2 {
		add("authentication type %d is not possible in version %d", c.AuthType, c.Version)
	}
	return errors.Join(errs...)
}

// MinPriority is the least priority for which a Backup restarts its
// Active_Down_Timer (RFC 9568 §6.4.2). An owner preempts in any case.
func (c *Config) MinPriority() uint8 {
	if c.Preempt || c.Priority == OwnerPriority {
		return c.Priority
	}
	return 1
}

// SilenceLimit is the time without an advertisement after which others may take over
// from a router that sends with the interval, but for their Skew_Time (RFC 9568
// §6.1).
func (c *Config) SilenceLimit(interval time.Duration) time.Duration {
	if c.DownAfter == 0 {
		return defaultDownAfter * interval
	}
	return time.Duration(c.DownAfter) * interval
}

// slowest is the longest Active_Down_Interval that a peer may have beside an Active with
// this configuration: that of priority 1.
func (c *Config) slowest() time.Duration {
	unit := c.Interval
	if c.Version == 2 {
		unit = time.Second
	}
	return c.SilenceLimit(c.Interval) + 255*unit/256
}

// bounded is the Active_Adver_Interval that is learnt from an advertisement with the
// interval.
func (c *Config) bounded(interval time.Duration) time.Duration {
	if c.MaxInterval == 0 {
		return interval
	}
	return min(interval, c.MaxInterval)
}

// Version2Interval is the Advertisement_Interval of the version 2
// advertisements that are sent beside those of version 3: in whole seconds,
// not shorter than the true one.
func (c *Config) Version2Interval() time.Duration {
	return (c.Interval + time.Second - 1).Truncate(time.Second)
}

// speaks reports whether advertisements of the version are for this router.
func (c *Config) speaks(version uint8) bool {
	return version == c.Version || c.Dual && version == 2
}

// intervalOf is the interval that peers with the same configuration have in
// advertisements of the version.
func (c *Config) intervalOf(version uint8) time.Duration {
	if c.Dual && version == 2 {
		return c.Version2Interval()
	}
	return c.Interval
}

// formless reports whether the checksum has one form only.
func (c *Config) formless() bool { return c.Version != 3 || c.Family != packet.IPv4 }

// firstForm is the form to send in as long as no peer was heard.
func (c *Config) firstForm() packet.Checksum {
	if c.Checksum == ChecksumOnlyRFC5798 && !c.formless() {
		return packet.ChecksumRFC5798
	}
	return packet.ChecksumRFC9568
}

// Forms returns the checksum forms in which advertisements are accepted.
func (c *Config) Forms() packet.Checksum {
	if !c.formless() && c.Checksum == ChecksumAuto {
		return packet.ChecksumRFC9568 | packet.ChecksumRFC5798
	}
	return c.firstForm()
}
