package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// write sends what an action has come to. Nothing else writes to a client, so that framing, rules for fields, and logs
// hold for all.
func (h *Gateway) write(x *Exchange, response *message.Response, err error) {
	if err == nil && response.Tunnel != nil {
		err = h.tunnel(x, response)
	} else if err == nil {
		err = h.send(x, response)
	}
	if err != nil {
		h.writeError(x, err)
	}
}

// writeError sends what an error says.
func (h *Gateway) writeError(x *Exchange, err error) {
	var page *StatusError
	var again *fallback
	var broken *reset
	var cut *abort
	switch {
	case errors.As(err, &page):
	case errors.As(err, &again):
		x.note(again.why)
		x.w.Fallback()
		return
	case errors.As(err, &broken):
		x.note(broken.why)
		x.w.Reset(broken.code)
		return
	case errors.As(err, &cut):
		x.note(cut.why)
		x.w.Abort()
		return
	// The standard library's way to cut a response, which is no fault.
	case errors.Is(err, http.ErrAbortHandler):
		x.note(err.Error())
		x.w.Abort()
		return
	default:
		h.logPanic(err)
		page = &StatusError{Status: 500, Text: "padlock could not answer this", Cause: err.Error()}
	}

	x.note(page.Error())
	// The page is padlock's own, whatever the target had begun.
	x.fromTarget, x.sticky, x.varies, x.coded = false, "", false, false
	if err := h.send(x, page.response(x)); err != nil {
		x.err = err.Error()
		// This cannot repeat itself: nothing that the configuration adds is in an error's response.
		h.writeError(x, err)
	}
}

// logPanic logs what only a mistake in the program brings about.
func (h *Gateway) logPanic(err error) {
	var panicked *message.PanicError
	if errors.As(err, &panicked) {
		h.Log.Error("request lost", "panic", panicked.Error(), "stack", string(panicked.Stack))
	}
}

// note keeps the first reason that something went wrong for.
func (x *Exchange) note(why string) {
	if x.err == "" {
		x.err = why
	}
}

// dress makes of an action's head the one that the client gets.
func (x *Exchange) dress(response *message.Response) {
	x.finish(&response.Fields)
	if x.sticky != "" {
		// The cookie comes after the header rules, which know nothing of it.
		response.Fields.Add("Set-Cookie", x.cookie(x.sticky))
	}
	if x.drawn != "" {
		response.Fields.Add("Set-Cookie", x.cookie(x.drawn))
	}
	for _, line := range x.cookies {
		response.Fields.Add("Set-Cookie", line)
	}
	if x.varies {
		// After all rules: whatever they make of Vary, a cache goes by it.
		x.recode(&response.Fields)
	}
}

// cookie is one of ours. Browsers refuse one with Secure from http://.
func (x *Exchange) cookie(line string) string {
	if x.secure() {
		return line
	}
	return strings.Replace(line, "; Secure", "", 1)
}

// send sends a response, its content as it comes. What was read is sent at once, unless more is sure to follow without
// waiting: the reader of an event stream wants every byte, and of a slow download as well. It returns an error where
// nothing has been sent.
func (h *Gateway) send(x *Exchange, response *message.Response) error {
	defer response.Body.Close()
	x.dress(response)
	length := response.ContentLength
	if response.Trailing && x.request.Proto == "HTTP/1.1" {
		// Only chunked content carries trailers.
		length = -1
	}
	if err := x.w.Head(response.Status, response.Fields, length); err != nil {
		return x.unwritable(err)
	}

	if response.ContentLength != 0 && response.Body.Buffered() == 0 {
		// The first content may take long to arrive.
		_ = x.w.Flush()
	}

	for {
		// Reading into the writer's own buffer spares a copy of everything that passes.
		room := x.w.Room()
		n, err := response.Body.Read(room)
		if x.dismissed.Load() {
			x.err = errRules.Error()
			x.w.Abort()
			return nil
		}

		if n > 0 {
			if _, werr := x.w.Write(room[:n]); werr != nil {
				x.err = "client: " + werr.Error()
				x.w.Abort()
				return nil
			}
			// A short read means that the target has no more at the moment. Waiting for more would delay events.
			if err == nil && n < len(room) && response.Body.Buffered() == 0 {
				_ = x.w.Flush()
			}
		}

		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			// Before the client sees the end: its next request may come at once, by another stream.
			x.vacate()
			x.sendTrailers(response.Body.Trailers())
			return nil
		default:
			h.cutShort(x, length, err)
			return nil
		}
	}
}

// sendTrailers ends a response.
func (x *Exchange) sendTrailers(trailers message.Fields) {
	trailers = x.withoutOurs(trailers)
	if err := trailers.Writable(); err != nil {
		x.err = "target's trailers: " + err.Error()
	}
	// The trailers are cut off if the content is not complete.
	x.w.Trailers(trailers)
	if x.request.Body != nil {
		// Flush before Close, which waits for the rest of the request: the client may be waiting for this response.
		_ = x.w.Flush()
	}
}

// cutShort ends a response that was not finished, as the target has ended it. length is what its head announces; -1:
// nothing.
func (h *Gateway) cutShort(x *Exchange, length int64, err error) {
	if x.fromTarget {
		x.err, x.broken = "target broke off its response: "+err.Error(), true
	} else {
		x.err = "the response: " + err.Error()
		h.logPanic(err)
	}
	// A connection that is closed without a word looks to browsers as if the request had not arrived, and they send even
	// a POST again. But what is sent may not look whole.
	if x.request.Method != "HEAD" && (length < 0 || x.w.bytes < length) {
		_ = x.w.Flush()
	}
	var reset *message.ResetError
	if errors.As(err, &reset) {
		x.w.Reset(reset.Code)
		return
	}
	x.w.Abort()
}

// unwritable is what is answered in the place of a response that a writer has refused, without what the configuration
// adds. It is nil where the client has gone.
func (x *Exchange) unwritable(err error) error {
	var refused *message.Unwritable
	if !errors.As(err, &refused) || x.bare {
		return nil
	}
	// The page that follows gets no fields of the configuration, as one of those may be what could not be written.
	x.bare = true
	if x.fromTarget {
		return &StatusError{Status: 502, Text: "The application's answer cannot be passed on", Cause: "the response: " + err.Error()}
	}
	return &StatusError{Status: 500, Text: "The answer to this cannot be written", Cause: "the response: " + err.Error()}
}

// security are the fields that make browsers more careful with the response; nil: none.
func (x *Exchange) security() *sites.SecurityHeaders {
	if x.route != nil {
		return x.route.Security
	}
	return x.site.Security
}

// vary names the fields of the request that have chosen the route, for caches.
func (x *Exchange) vary(f *message.Fields) {
	if x.route == nil {
		return
	}
	for _, name := range x.site.Varies(x.request.Method, &x.path, x.route) {
		if !f.HasToken("Vary", name) && !f.HasToken("Vary", "*") {
			f.Add("Vary", name)
		}
	}
}

// finish changes the fields of a response as the site and the route say.
func (x *Exchange) finish(f *message.Fields) {
	if x.site == nil || x.bare {
		return
	}

	// The field must not be sent over plain HTTP (RFC 6797 section 7.2).
	if x.site.HSTS != "" && x.secure() {
		// A target that sends its own rule knows better, and two of them would contradict each other (RFC 6797
		// section 8.1).
		if _, ok := f.Get("Strict-Transport-Security"); !ok {
			f.Add("Strict-Transport-Security", x.site.HSTS)
		}
	}

	if !x.keepsAltSvc() {
		f.Del("Alt-Svc")
	}

	if other := x.request.Conn.AltSvc; other != "" {
		if x.request.Conn.Bound() || f.AuthenticatesConnection() {
			// What authenticates a whole connection needs HTTP/1.1, so clients must not move to another protocol
			// (RFC 7838 section 3).
			f.Set("Alt-Svc", "clear")
		} else if _, kept := f.Get("Alt-Svc"); !kept {
			f.Add("Alt-Svc", other)
		}
	}

	x.vary(f)
	x.share(f)
	if h := x.security(); h != nil {
		h.Apply(f)
	}
	// Rules come last, so that they can change what padlock itself has added. The route's may change the site's.
	x.site.Fields.Response.Apply(x, f, false)
	if x.route != nil {
		x.route.Fields.Response.Apply(x, f, false)
	}
}
