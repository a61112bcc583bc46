package handshake

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// blocks walks a pcapng file and fails on a block whose lengths disagree.
func blocks(t *testing.T, file []byte) (kinds []uint32) {
	t.Helper()
	for len(file) > 0 {
		if len(file) < 12 {
			t.Fatalf("%d bytes are left over", len(file))
		}
		length := binary.LittleEndian.Uint32(file[4:])
		if length%4 != 0 || int(length) > len(file) || length < 12 || binary.LittleEndian.Uint32(file[length-4:]) != length {
			t.Fatalf("a block of length %d", length)
		}
		kinds = append(kinds, binary.LittleEndian.Uint32(file))
		file = file[length:]
	}
	return kinds
}

func FuzzCapture(f *testing.F) {
	f.Add([]byte("hello"), []byte("flight"), "192.0.2.1:1", "192.0.2.2:443", byte(32))
	f.Add([]byte("hello"), []byte{}, "[2001:db8::1]:1", "[2001:db8::2]:443", byte(48))
	f.Add([]byte("hello"), []byte{}, "@", "192.0.2.2:443", byte(0))
	f.Fuzz(func(t *testing.T, in, out []byte, remote, local string, secret byte) {
		if len(in)+len(out) > maxCapture {
			return
		}
		var file bytes.Buffer
		c := NewCapture(1<<30, slog.New(slog.DiscardHandler))
		if err := c.Begin(&file); err != nil {
			t.Fatal(err)
		}
		tr := &trace{traceData: traceData{side: Server, start: time.Now()}}
		tr.secrets.clientLength, tr.secrets.serverLength = int(secret)%49, int(secret)%49
		tr.append(0, false, in)
		tr.append(time.Second, true, out)
		c.add(tr, &Event{Remote: remote, Local: local})
		if kinds := blocks(t, file.Bytes()); kinds[0] != blockSection || kinds[1] != blockInterface || len(kinds) < 5 {
			t.Fatal(kinds)
		}
	})
}

// A capture stops at its limit and says so; the file stays whole.
func TestACaptureStopsAtItsLimit(t *testing.T) {
	var file, log bytes.Buffer
	c := NewCapture(1000, slog.New(slog.NewTextHandler(&log, nil)))
	if err := c.Begin(&file); err != nil {
		t.Fatal(err)
	}
	add := func() {
		tr := &trace{traceData: traceData{side: Server, start: time.Now()}}
		tr.append(0, false, bytes.Repeat([]byte("x"), 100))
		c.add(tr, &Event{Remote: "192.0.2.1:1", Local: "192.0.2.2:443"})
	}
	for range 10 {
		add()
	}
	if file.Len() > 1100 || strings.Count(log.String(), "no longer captured") != 1 {
		t.Errorf("%d bytes, %s", file.Len(), log.String())
	}
	blocks(t, file.Bytes())

	var next bytes.Buffer
	if err := c.Begin(&next); err != nil {
		t.Fatal(err)
	}
	before := file.Len()
	add()
	if kinds := blocks(t, next.Bytes()); kinds[0] != blockSection || len(kinds) < 5 || file.Len() != before {
		t.Errorf("the file that another one followed: %d bytes, the other: %v", file.Len(), kinds)
	}
}
