package socket

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens a TCP listener. Its connections inherit from it how they notice that the other side has gone:
// to tell each of them would cost four system calls.
func Listen(address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			for _, o := range []struct{ level, name, value int }{
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, // seconds, as package net has them
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
				{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			} {
				// A connection works without these options, too.
				_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
			}
		})
	}}
	return config.Listen(context.Background(), "tcp", address)
}
