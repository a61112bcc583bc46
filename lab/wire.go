package lab

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"padlock/handshake"
)

// wirePlan says what becomes of the records that crypto/tls sends. It is for one connection.
type wirePlan struct {
	record func(*wire, record) error // nil: they pass
	keyLog io.Writer                 // receives the connection's secrets; nil: nobody needs them
}

// record is one that the server sends.
type record struct {
	number    int // from 1
	protected int // from 1, of those that are encrypted; 0: it is in plaintext
	kind      byte
	data      []byte // header included
}

// wire changes what passes from crypto/tls to the client.
type wire struct {
	net.Conn
	ctx       context.Context
	plan      wirePlan
	mu        sync.Mutex
	rest      []byte
	number    int
	protected int
	changed   bool // ChangeCipherSpec has passed
	dead      error
}

func newWire(ctx context.Context, conn net.Conn, plan wirePlan) *wire {
	return &wire{Conn: conn, ctx: ctx, plan: plan}
}

// Write implements net.Conn, record by record.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead != nil {
		return 0, w.dead
	}

	w.rest = append(w.rest, p...)
	for len(w.rest) >= recordHeader {
		n := recordHeader + (int(w.rest[3])<<8 | int(w.rest[4]))
		if len(w.rest) < n {
			break
		}
		if err := w.pass(w.rest[:n:n]); err != nil {
			w.dead = err
			return 0, err
		}
		w.rest = w.rest[n:]
	}
	return len(p), nil
}

const recordHeader = 5

// Types of records.
const (
	changeCipherSpec = 20
	alertRecord      = 21
	handshakeRecord  = 22
	dataRecord       = 23
)

func (w *wire) pass(data []byte) error {
	w.number++
	r := record{number: w.number, kind: data[0], data: data}
	switch {
	case r.kind == dataRecord || w.changed && r.kind != changeCipherSpec:
		w.protected++
		r.protected = w.protected
	case r.kind == changeCipherSpec:
		w.changed = true
	}
	if w.plan.record == nil {
		return w.send(data)
	}
	return w.plan.record(w, r)
}

func (w *wire) send(data []byte) error {
	_, err := w.Conn.Write(data)
	return err
}

// The encrypted records of crypto/tls's flight in TLS 1.3, without a ticket.
const (
	_ = iota
	encryptedExtensions
	certificateMessage
	certificateVerify
	finishedMessage
	firstData
)

// flip changes a bit of the nth encrypted record.
func flip(n int) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.protected == n {
				r.data[recordHeader+2] ^= 1
			}
			return w.send(r.data)
		}}
	}
}

// flipPlain changes a bit of a record in plaintext, at an offset.
func flipPlain(number, offset int) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.number == number {
				r.data[offset] ^= 1
			}
			return w.send(r.data)
		}}
	}
}

// Types of handshake messages in plaintext.
const (
	serverHello        = 2
	newSessionTicket   = 4
	certificate        = 11
	serverKeyExchange  = 12
	certificateRequest = 13
	serverHelloDone    = 14
)

// flipMessage changes a bit of a handshake message in plaintext: at an offset behind the message's header, or from its
// end if it is negative. crypto/tls sends each message in a record of its own.
func flipMessage(kind byte, offset int) func() wirePlan {
	const messageHeader = 4
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.kind == handshakeRecord && r.protected == 0 && r.data[recordHeader] == kind {
				at := recordHeader + messageHeader + offset
				if offset < 0 {
					at = len(r.data) + offset
				}
				r.data[at] ^= 1
			}
			return w.send(r.data)
		}}
	}
}

// ends are the ways in which a connection stops.
type stop func(*wire) error

// after stops once the nth record has passed: of the encrypted ones, or of all.
func after(number, protected int, stop stop) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if err := w.send(r.data); err != nil {
				return err
			}
			if number > 0 && r.number == number || protected > 0 && r.protected == protected {
				return stop(w)
			}
			return nil
		}}
	}
}

// half stops in the middle of the nth record.
func half(number int, stop stop) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.number != number {
				return w.send(r.data)
			}
			if err := w.send(r.data[:len(r.data)/2]); err != nil {
				return err
			}
			return stop(w)
		}}
	}
}

// fin ends our side.
func fin(*wire) error { return errCut }

// rst resets the connection.
func rst(w *wire) error {
	reset(w.Conn)
	return errCut
}

// mute says nothing more until the client goes.
func mute(w *wire) error {
	hold(w.ctx, w.Conn)
	return errCut
}

// reset has the kernel send RST instead of FIN.
func reset(conn net.Conn) {
	for {
		switch c := conn.(type) {
		case *replay:
			conn = c.Conn
		case *wire:
			conn = c.Conn
		case *handshake.Conn:
			conn = c.NetConn()
		case *net.TCPConn:
			_ = c.SetLinger(0)
			c.Close()
			return
		default:
			return
		}
	}
}

// holdTimeout bounds silence, whatever the client does.
const holdTimeout = 5 * time.Minute

// hold waits until the client ends the connection.
func hold(ctx context.Context, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(holdTimeout))
	stopped := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stopped()
	_, _ = io.Copy(io.Discard, conn)
}

// pause says nothing for a time, and then all.
func pause(d time.Duration) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.number == 1 {
				_ = w.Conn.SetDeadline(time.Now().Add(d + handshakeTimeout))
				if err := wait(w.ctx, d); err != nil {
					return err
				}
			}
			return w.send(r.data)
		}}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fragments sends each plaintext handshake record as records with n bytes of content.
func fragments(n int) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.kind != handshakeRecord || r.protected > 0 {
				return w.send(r.data)
			}
			var out []byte
			for content := r.data[recordHeader:]; len(content) > 0; {
				k := min(n, len(content))
				out = append(out, r.data[0], r.data[1], r.data[2], byte(k>>8), byte(k))
				out = append(out, content[:k]...)
				content = content[k:]
			}
			return w.send(out)
		}}
	}
}

// trickle sends n bytes at a time, with a pause between them.
func trickle(n int, pause time.Duration) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			_ = w.Conn.SetDeadline(time.Now().Add(holdTimeout))
			return drip(w.ctx, w.Conn, r.data, n, pause)
		}}
	}
}

func drip(ctx context.Context, conn net.Conn, data []byte, n int, pause time.Duration) error {
	for len(data) > 0 {
		k := min(n, len(data))
		if _, err := conn.Write(data[:k]); err != nil {
			return err
		}
		data = data[k:]
		if pause == 0 {
			continue
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// before sends something of the plan's own before the nth record.
func before(number int, extra []byte) func() wirePlan {
	return func() wirePlan {
		return wirePlan{record: func(w *wire, r record) error {
			if r.number == number {
				if err := w.send(extra); err != nil {
					return err
				}
			}
			return w.send(r.data)
		}}
	}
}
