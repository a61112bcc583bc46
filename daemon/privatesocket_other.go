//go:build !linux

package daemon

import (
	"net"
	"os"
)

// listenPrivate listens on a socket that nobody but its owner may connect to.
func listenPrivate(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
