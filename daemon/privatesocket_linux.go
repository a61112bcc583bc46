package daemon

import (
	"context"
	"net"
	"syscall"
)

// listenPrivate listens on a socket that nobody but its owner may connect to. bind(2) gives a socket's file the mode of its descriptor: there is
// no moment at which others could connect, and nothing that has taken the file's place gets its mode changed.
func listenPrivate(path string) (net.Listener, error) {
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var refused error
		if err := c.Control(func(fd uintptr) { refused = syscall.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return refused
	}}
	return private.Listen(context.Background(), "unix", path)
}
