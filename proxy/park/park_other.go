//go:build !linux

// Package park waits for idle connections without a goroutine or a buffer for each, where it can: on Linux.
package park

import (
	"errors"
	"net"
	"time"
)

// Lot is empty here.
type Lot struct{}

// New reports that there is nothing to park with.
func New() (*Lot, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Lot) Close() error { return nil }

// Park parks nothing.
func (*Lot) Park(net.Conn, time.Duration, func(bool)) bool { return false }

// Unpark finds nothing.
func (*Lot) Unpark(net.Conn) bool { return false }

// Wake finds nothing.
func (*Lot) Wake(net.Conn) bool { return false }

// Expire wakes nothing.
func (*Lot) Expire(int) {}

// Parked is 0.
func (*Lot) Parked() int { return 0 }
