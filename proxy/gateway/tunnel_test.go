package gateway

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"padlock/proxy/message"
)

// heard is the client's side of a tunnel.
type heard struct {
	message.Tunnel
	bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) { return h.Buffer.Write(p) }
func (h *heard) Read(p []byte) (int, error)  { return h.Buffer.Read(p) }

// frame is one from a server (RFC 6455 section 5.2).
func frame(opcode byte, payload []byte) []byte {
	n := len(payload)
	switch {
	case n < 126:
		return append([]byte{0x80 | opcode, byte(n)}, payload...)
	case n < 1<<16:
		return append([]byte{0x80 | opcode, 126, byte(n >> 8), byte(n)}, payload...)
	}
	return append([]byte{0x80 | opcode, 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}

// However the target's frames are cut, the goodbye stands between two of them, once, and nothing follows it.
func TestTheGoodbyeStandsBetweenFrames(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		var stream []byte
		var ends []int
		for range 1 + random.IntN(6) {
			stream = append(stream, frame(1, make([]byte, []int{0, 1, 125, 126, 300, 70_000}[random.IntN(6)]))...)
			ends = append(ends, len(stream))
		}
		h := &heard{}
		v := &closeInjector{Tunnel: h}
		at, leave := 0, random.IntN(len(stream)+1)
		said := false
		for at < len(stream) {
			if !said && at >= leave {
				v.goodbye()
				said = true
			}
			n := min(1+random.IntN(1+random.IntN(90_000)), len(stream)-at)
			if got, err := v.Write(stream[at : at+n]); got != n || err != nil {
				t.Fatalf("seed %d: %d, %v", seed, got, err)
			}
			at += n
		}
		if !said {
			leave = at
			v.goodbye()
		}
		passed := h.Len() - len(goingAway)
		whole := passed == 0
		for _, end := range ends {
			whole = whole || end == passed
		}
		if !whole || !bytes.Equal(h.Bytes(), append(bytes.Clone(stream[:passed]), goingAway...)) {
			t.Fatalf("seed %d: leaving at %d of %v, %d bytes passed", seed, leave, ends, passed)
		}
	}
}

// A target that closes itself has the last word.
func TestTheTargetsOwnCloseIsTheLast(t *testing.T) {
	h := &heard{}
	v := &closeInjector{Tunnel: h}
	own := frame(closeOpcode, []byte{0x03, 0xe8})
	_, _ = v.Write(append(bytes.Clone(own), "more"...))
	v.goodbye()
	if !bytes.Equal(h.Bytes(), own) {
		t.Errorf("the client got %x", h.Bytes())
	}
}
