// SPDX-License-Identifier: Apache-2.0

package packet

// Key names a Virtual Router on the wire: the interface, the family and the
// VRID (RFC 9568 §5.2.3; the families of one VRID are unrelated routers).
type Key struct {
	Ifindex int
	Family  Family
	VRID    uint8
}
