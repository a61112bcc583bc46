//go:build !linux

package mdns

import (
	"errors"
	"net"
)

// listen shares the port with the system's own multicast DNS.
func listen(links []link) (net.PacketConn, error) {
	if len(links) == 0 {
		return nil, errors.New("no network interface")
	}
	return net.ListenMulticastUDP("udp4", &net.Interface{Index: links[0].index, Name: links[0].name}, group)
}
