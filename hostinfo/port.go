package hostinfo

import (
	"errors"
	"net"
	"syscall"
)

// Port is one that padlock would like to listen on.
type Port struct {
	Number, Instead string
	Taken, Denied   bool
	Err             error // why it cannot be had, if it is neither of these
}

// ReadPort tries to listen, on all addresses, and stops at once.
func ReadPort(number, instead string) Port {
	p := Port{Number: number, Instead: instead}
	l, err := net.Listen("tcp", ":"+number)
	switch {
	case err == nil:
		l.Close()
	case errors.Is(err, syscall.EACCES):
		p.Denied = true
	case errors.Is(err, syscall.EADDRINUSE):
		p.Taken = true
	default:
		p.Err = err
	}

	return p
}
