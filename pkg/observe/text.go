// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/router"
)

// joinAddresses joins the first addresses of a list, which may be empty.
func joinAddresses(addresses []netip.Addr) string {
	if len(addresses) == 0 {
		return "no address"
	}
	return JoinFirst(addresses, len(addresses))
}

// JoinFirst joins the first addresses of a list; count is the length of the whole list.
func JoinFirst(addresses []netip.Addr, count int) string {
	const most = 4
	var s []string
	for n, a := range addresses {
		if n == most {
			s = append(s, fmt.Sprintf("and %d more", count-most))
			break
		}
		s = append(s, a.String())
	}
	return strings.Join(s, " ")
}

// Peer returns the text for a peer's address, empty for the zero Addr.
func Peer(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Fields returns the log fields that identify a Virtual Router.
func Fields(id router.ID) logrus.Fields {
	f := logrus.Fields{"interface": id.Interface}
	if id.VRID != 0 {
		f["vrid"], f["family"] = id.VRID, id.Family.String()
	}
	return f
}

// Suppressed adds to an entry how many lines like it were not logged.
func Suppressed(entry *logrus.Entry, held uint64) *logrus.Entry {
	if held == 0 {
		return entry
	}
	return entry.WithField("suppressed", held)
}
