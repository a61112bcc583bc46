package message

import "net/http"

// Outgoing counts a response's content for a front that frames it itself, HTTP/2 and HTTP/3: no more of it leaves than
// its head announces, and none where none may follow the head.
type Outgoing struct {
	left     int64 // of the announced content; -1: any
	bodiless bool
}

// Rooms are where a front puts content before it is sent.
type Rooms interface {
	// Room is where the next content goes.
	Room() []byte
	// Filled says how much of the Room is taken. Its error ends the Write.
	Filled(n int) error
}

// Begin takes what the head says, and returns the length that it is to announce; -1: none (ResponseLength).
func (o *Outgoing) Begin(method string, status int, fields Fields, length int64) (announced int64) {
	announced, o.bodiless = ResponseLength(method, status, fields, length)
	if o.left = announced; o.bodiless {
		o.left = 0
	}
	return announced
}

// Any is for a tunnel, whose content has no length.
func (o *Outgoing) Any() { o.left, o.bodiless = -1, false }

// Bodiless reports whether nothing may follow the head, trailers included.
func (o *Outgoing) Bodiless() bool { return o.bodiless }

// Whole reports whether all of the announced content has been written.
func (o *Outgoing) Whole() bool { return o.left <= 0 }

// Write puts content into rooms, where it may be already. Beyond the announced length it is http.ErrContentLength, and
// none of it leaves.
func (o *Outgoing) Write(p []byte, w Rooms) (total int, err error) {
	switch {
	case o.bodiless || len(p) == 0:
		return len(p), nil
	case o.left >= 0 && int64(len(p)) > o.left:
		return 0, http.ErrContentLength
	case o.left >= 0:
		o.left -= int64(len(p))
	}

	for len(p) > 0 && err == nil {
		room := w.Room()
		n := len(p)
		if &p[0] != &room[0] {
			n = copy(room, p)
		}
		err = w.Filled(n)
		total, p = total+n, p[n:]
	}
	return total, err
}
