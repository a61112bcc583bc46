//go:build e2e

package e2e

import (
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// pressures are cases of sides that are slow, or silent for longer than padlock waits for anything else.
func pressures() []wsCase {
	part := noise(64<<10 - 4)
	upPart, downPart := up(fin|opBinary, part), down(fin|opBinary, part)
	read, heard, cut := make(chan struct{}), make(chan struct{}), make(chan struct{})
	long := func(how string, speak func(*wsClient)) wsCase {
		return wsCase{
			name: how + " for longer than any timeout",
			target: func(p *wsPeer) {
				p.accept()
				p.hear(up(fin|opText, "still there?"))
				p.say(down(fin|opText, "yes"))
				p.end()
			},
			client: func(v *wsClient) { speak(v); v.hear(down(fin|opText, "yes")); must(v.t, v.end()); v.properly() },
		}
	}
	question := up(fin|opText, "still there?")
	return []wsCase{
		long("silence", func(v *wsClient) {
			time.Sleep(7 * time.Second) // nothing may happen meanwhile
			v.say(question)
		}),
		long("a frame that comes byte by byte", func(v *wsClient) {
			for _, b := range question {
				time.Sleep(7 * time.Second / time.Duration(len(question))) // slower than any limit on a head or a body
				v.say([]byte{b})
			}
		}),
		{
			name: "a client that does not read mayHold its target up, can speak, and then gets everything",
			target: func(p *wsPeer) {
				p.accept()
				must(p.t, p.SetWriteBuffer(64<<10))
				wsFlood(p.t, p, downPart, func() { p.hear(question); close(read) })
				p.end()
			},
			client: func(v *wsClient) {
				v.say(question)
				<-read
				for i := 0; i < parts && !v.t.Failed(); i++ {
					v.hear(downPart)
				}
				must(v.t, v.end())
				v.properly()
			},
		},
		{
			name: "a client that takes nothing for longer than it may is cut",
			target: func(p *wsPeer) {
				p.accept()
				must(p.t, p.SetWriteBuffer(64<<10))
				began := time.Now()
				var err error
				for err == nil && time.Since(began) < soon {
					_, err = p.Write(downPart)
				}
				if took := time.Since(began); err == nil || took < 3*time.Second || took > soon {
					p.t.Errorf("the target could write for %s: %v", took, err)
				}
				close(cut)
			},
			client: func(v *wsClient) { <-cut },
		},
		{
			name: "a target that does not read mayHold its client up, can speak, and then gets everything",
			target: func(p *wsPeer) {
				p.accept()
				must(p.t, p.SetReadBuffer(64<<10))
				p.say(down(fin|opText, "busy"))
				<-heard
				for i := 0; i < parts && !p.t.Failed(); i++ {
					p.hear(upPart)
				}
				p.end()
			},
			client: func(v *wsClient) {
				wsFlood(v.t, v, upPart, func() { v.hear(down(fin|opText, "busy")); close(heard) })
				must(v.t, v.end())
				v.properly()
			},
		},
	}
}

const (
	parts   = 512      // of 64 KiB
	mayHold = 20 << 20 // at most, in the sockets and windows between two sides; padlock itself mayHold 32 KiB a direction
)

// wsFlood writes parts until nobody takes any more, which is soon, and has them read then.
func wsFlood(t *testing.T, w io.Writer, part []byte, read func()) {
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range parts {
			if _, err := w.Write(part); err != nil {
				t.Errorf("after %d bytes: %v", sent.Load(), err)
				return
			}
			sent.Add(int64(len(part)))
		}
	}()
	for held := int64(-1); held != sent.Load(); {
		held = sent.Load()
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	if n := sent.Load(); n > mayHold {
		t.Errorf("%d MiB were taken, and nobody reads", n>>20)
	}
	read()
	<-done
}
