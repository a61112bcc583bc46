package http2

import (
	"errors"
	"io"

	"padlock/proxy/message"
)

// upload is what a request says, on whichever connection. What needs no waiting for the client is read before it is
// sent, and goes out with the head; it can be sent again where that is all.
type upload struct {
	r        *message.Request
	head     []byte         // fields, encoded; nil: they were sent
	room     *room          // content that was at hand; nil: none
	held     int            // bytes of it
	begun    bool           // content was read, and cannot be read again
	whole    bool           // all of it is in room
	trailers message.Fields // behind it
}

// fill reads what is at hand. It is called once.
func (u *upload) fill() error {
	if u.r.Body == nil || u.begun || u.r.Expect {
		return nil
	}
	for u.r.Body.Buffered() > 0 && u.held < len(room{}) {
		if u.room == nil {
			u.room, u.begun = rooms.Get(), true
		}
		n, err := u.r.Body.Read(u.room[u.held:])
		u.held += n
		// With trailers that were announced, the end is still to come.
		if errors.Is(err, io.EOF) || err == nil && int64(u.held) == u.r.ContentLength && len(u.r.Declared) == 0 {
			return u.end()
		}
		if err != nil {
			return &message.BodyError{Err: err}
		}
	}
	return nil
}

// end takes the trailers of content that has come whole.
func (u *upload) end() error {
	u.whole = true
	u.trailers = u.r.Body.Trailers()
	if err := u.trailers.Writable(); err != nil {
		return &message.BodyError{Err: err}
	}
	return nil
}

// content is what was read and is to be sent before what is still to be read.
func (u *upload) content() []byte {
	if u.room == nil {
		return nil
	}
	return u.room[:u.held]
}

// release gives back the room. Nobody may send the content any more.
func (u *upload) release() {
	if u.room != nil {
		rooms.Put(u.room)
		u.room = nil
	}
}
