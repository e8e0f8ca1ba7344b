// SPDX-License-Identifier: Apache-2.0

package bystander

import (
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/failoverd/failoverd/tools/lab"
)

// payload is the length that makes a frame of 64 octets, 4 of which are the frame check sequence.
const payload = 64 - 4 - 14 - 20 - 8

// datagram returns a UDP datagram in a frame of 64 octets.
func datagram(from, to *lab.Node, source, destination string) ([]byte, error) {
	var macs [2]net.HardwareAddr
	for n, node := range []*lab.Node{from, to} {
		s, err := node.MAC(ifname)
		if err != nil {
			return nil, err
		}
		if macs[n], err = net.ParseMAC(s); err != nil {
			return nil, err
		}
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	udp := &layers.UDP{SrcPort: port, DstPort: port}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: macs[0], DstMAC: macs[1], EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(make([]byte, payload)))
	return b.Bytes(), err
}
