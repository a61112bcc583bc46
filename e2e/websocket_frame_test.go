//go:build e2e

package e2e

import (
	wire "encoding/binary"
	"errors"
	"io"
)

// wsFrame is a frame as it stands on the wire (RFC 6455 section 5.2).
type wsFrame struct {
	first   byte // FIN, RSV1 to RSV3, opcode
	mask    []byte
	payload []byte
}

const (
	fin  = 0x80
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10

	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// up is a frame as clients send it, masked; down is one from a target.
func up(first byte, payload string) []byte {
	return wsFrame{first, []byte{0x37, 0xfa, 0x21, 0x3d}, []byte(payload)}.bytes()
}

func down(first byte, payload string) []byte {
	return wsFrame{first, nil, []byte(payload)}.bytes()
}

// status is the payload of a Close.
func status(code uint16, reason string) string {
	return string(wire.BigEndian.AppendUint16(nil, code)) + reason
}

func (f wsFrame) bytes() []byte {
	masked := byte(0)
	if f.mask != nil {
		masked = 0x80
	}
	b := []byte{f.first}
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = wire.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = wire.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	b = append(b, f.mask...)
	at := len(b)
	b = append(b, f.payload...)
	if f.mask != nil {
		for i := range f.payload {
			b[at+i] ^= f.mask[i%4]
		}
	}
	return b
}

var errFrameTooLong = errors.New("the frame is longer than any that was sent")

// readFrame reads one, and takes its mask off.
func readFrame(r io.Reader) (f wsFrame, err error) {
	head := make([]byte, 2, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return f, err
	}
	f.first = head[0]
	n := uint64(head[1] & 0x7f)
	if n >= 126 {
		long := make([]byte, 8)
		size := 2
		if n == 127 {
			size = 8
		}
		if _, err := io.ReadFull(r, long[8-size:]); err != nil {
			return f, err
		}
		n = wire.BigEndian.Uint64(long)
	}
	if n > 64<<20 {
		return f, errFrameTooLong
	}
	if head[1]&0x80 != 0 {
		f.mask = make([]byte, 4)
		if _, err := io.ReadFull(r, f.mask); err != nil {
			return f, err
		}
	}
	f.payload = make([]byte, n)
	_, err = io.ReadFull(r, f.payload)
	if f.mask != nil {
		for i := range f.payload {
			f.payload[i] ^= f.mask[i%4]
		}
	}
	return f, err
}
