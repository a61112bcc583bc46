package message

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// buffer takes content in rooms of four bytes, until it fails.
type buffer struct {
	room  [4]byte
	taken strings.Builder
	fails int // after so many bytes; 0: never
}

var errFull = errors.New("full")

func (b *buffer) Room() []byte { return b.room[:] }

func (b *buffer) Filled(n int) error {
	b.taken.Write(b.room[:n])
	if b.fails > 0 && b.taken.Len() >= b.fails {
		return errFull
	}
	return nil
}

// What is announced may be written and no more; where nothing may follow a head, nothing does, without an error.
func TestNoMoreContentLeavesThanIsAnnounced(t *testing.T) {
	for _, test := range []struct {
		method  string
		status  int
		length  int64
		writes  []string
		taken   string
		err     error
		whole   bool
		nothing bool
	}{
		{"GET", 200, 10, []string{"0123", "456789"}, "0123456789", nil, true, false},
		{"GET", 200, 10, []string{"01234"}, "01234", nil, false, false},
		{"GET", 200, 4, []string{"01234"}, "", http.ErrContentLength, false, false},
		{"GET", 200, 4, []string{"0123", "4"}, "0123", http.ErrContentLength, true, false},
		{"GET", 200, -1, []string{"0123", "", "456789"}, "0123456789", nil, true, false},
		{"GET", 204, 10, []string{"0123"}, "", nil, true, true},
		{"HEAD", 200, 10, []string{"0123"}, "", nil, true, true},
		{"GET", 304, -1, []string{"0123"}, "", nil, true, true},
	} {
		var o Outgoing
		b := &buffer{}
		o.Begin(test.method, test.status, nil, test.length)
		var err error
		for _, text := range test.writes {
			var n int
			if n, err = o.Write([]byte(text), b); err == nil && n != len(text) {
				t.Errorf("%+v: %d of %q", test, n, text)
			}
		}
		if b.taken.String() != test.taken || !errors.Is(err, test.err) || o.Whole() != test.whole || o.Bodiless() != test.nothing {
			t.Errorf("%+v: %q, %v, whole %t, bodiless %t", test, b.taken.String(), err, o.Whole(), o.Bodiless())
		}
	}
}

// Content that was put into the room already is not copied, and a front that fails ends the Write.
func TestWritingEndsWithTheFront(t *testing.T) {
	var o Outgoing
	o.Any()
	b := &buffer{}
	copy(b.room[:], "abc")
	if n, err := o.Write(b.Room()[:3], b); n != 3 || err != nil || b.taken.String() != "abc" {
		t.Errorf("%d, %v, %q", n, err, b.taken.String())
	}
	b = &buffer{fails: 6}
	if n, err := o.Write([]byte("0123456789"), b); n != 8 || !errors.Is(err, errFull) {
		t.Errorf("%d, %v", n, err)
	}
}
