package mdns

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listen shares the port with others that speak multicast DNS on this machine, such as Avahi. Bound to the group
// alone, the socket takes none of what is sent to one of them; package net binds to all addresses.
func listen([]link) (net.PacketConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "multicast DNS")
	defer f.Close() // net has a copy

	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: group.Port, Addr: [4]byte(group.IP.To4())}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return net.FilePacketConn(f)
}
