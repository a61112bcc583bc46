package gateway

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"padlock/internal/coding"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// compressed encodes responses for clients that accept a coding.
func (h *Gateway) compressed(c *sites.Compression) Filter {
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			// As the client has sent it: rules for the target's request may take Accept-Encoding away.
			e := encoding{Compression: c, h: h, x: x}
			e.codings, e.forced = e.accepted()
			strengthen(x.request.Fields)

			response, err := next.Answer(ctx, x)
			if err == nil && response.Tunnel == nil {
				e.encode(response)
			}
			return response, err
		})
	}
}

// strengthen makes of the weak tags of If-Match the strong ones that recode has made them of, as a condition by
// weak ones is never true (RFC 9110 section 13.1.1). A target whose own tags are weak says no to either.
func strengthen(request message.Fields) {
	for i := range request {
		if message.Is(request[i].Name, "If-Match") && strings.Contains(request[i].Value, "W/") {
			request[i].Value = strong(request[i].Value)
		}
	}
}

// strong is a list of tags without the W/ in front of them; the tags themselves may contain it.
func strong(list string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(list, `"`)
		b.WriteString(strings.TrimSuffix(before, "W/"))
		if !found {
			return b.String()
		}

		tag, after, closed := strings.Cut(rest, `"`)
		b.WriteString(`"` + tag)
		if !closed {
			return b.String()
		}
		b.WriteByte('"')
		list = after
	}
}

// encoding is what becomes of one response.
type encoding struct {
	*sites.Compression
	h       *Gateway
	x       *Exchange
	codings []string // that the client accepts, the best first
	forced  bool     // it accepts nothing else
}

// accepted are the codings for the client.
func (e *encoding) accepted() (codings []string, forced bool) {
	r := e.x.request
	// HTTP/1.0 has no chunks, which encoded content of unknown length needs. A client may forbid changes (RFC 9111 section
	// 5.2.1.6), and gRPC compresses its messages by itself.
	if r.Proto == "HTTP/1.0" || r.Fields.HasToken("Cache-Control", "no-transform") || r.Fields.GRPC() || !e.confides(r.Fields) {
		return nil, false
	}

	var lines []string
	for _, f := range r.Fields {
		if message.Is(f.Name, "Accept-Encoding") {
			lines = append(lines, f.Value)
		}
	}
	if len(lines) == 0 {
		return nil, false
	}
	return coding.Acceptable(lines, e.Prefer)
}

// confides reports whether the length of the response may depend on secrets in it. BREACH guesses them by requests
// that another site has the browser of its victim send, with the victim's cookies, whose responses repeat what was
// guessed.
func (e *encoding) confides(request message.Fields) bool {
	personal := e.x.request.Conn.TLS != nil && len(e.x.request.Conn.TLS.PeerCertificates) > 0
	for _, name := range []string{"Cookie", "Authorization"} {
		_, given := request.Get(name)
		personal = personal || given
	}

	switch {
	case !personal || e.Cookies == "always":
		return true
	case e.Cookies == "never":
		return false
	}
	// Sec-Fetch-User says that a person has followed a link, which no script can do many times.
	return request.Value("Sec-Fetch-Site") != "cross-site" || request.Value("Sec-Fetch-User") == "?1"
}

// encode encodes a response if that is what it is for.
func (e *encoding) encode(response *message.Response) {
	x := e.x
	switch {
	case response.Status == 304: // its fields are those of the response that the client has
		x.varies, x.coded = true, len(e.codings) > 0
		return
	case !e.suits(response):
		return
	case !e.large(response):
		return
	}

	// From here on the response depends on Accept-Encoding, whether this client gets it encoded or not (RFC 9110 section
	// 12.5.5).
	x.varies = true
	if len(e.codings) == 0 {
		return
	}

	if x.request.Method == "HEAD" {
		// Without a length, nobody knows whether the response to GET would have been long enough.
		if length(x.request, response) >= 0 {
			e.mark(response, e.codings[0])
		}
		x.coded = true
		return
	}

	streams := response.ContentLength < 0 && !ended(response.Body)
	for _, name := range e.codings {
		memory := coding.Memory(name, e.Level)
		// A stream needs a coding that can pass on what it has. An encoder takes memory, of which a client has its share
		// only.
		if streams && !coding.Flushes(name) || !e.h.rooms.take(x.addr, memory) {
			continue
		}
		x.held += memory
		x.coded = true
		e.mark(response, name)
		response.Body = &encodedBody{Body: response.Body, encoder: coding.NewEncoder(name, e.Level), streams: streams}
		return
	}
}

// mark makes the head that of an encoded response. What else changes has to wait for the rules: see Exchange.recode.
func (e *encoding) mark(response *message.Response, name string) {
	response.Fields.Set("Content-Encoding", name)
	response.Fields.Del("Content-Length")
	// A range would be one of the content without its coding.
	response.Fields.Del("Accept-Ranges")
	response.ContentLength = -1
}

// suits reports whether a response is one of those that are encoded.
func (e *encoding) suits(response *message.Response) bool {
	f := response.Fields
	switch response.Status {
	// 204 and 205 have no content, and 206 has a part of content that was not encoded as a whole.
	case 204, 205, 206:
		return false
	}

	for i := range f {
		if name := f[i].Name; message.Is(name, "Content-Encoding") || message.Is(name, "Content-Range") || digests.Has(name) {
			return false
		}
	}
	return !f.HasToken("Cache-Control", "no-transform") && !f.GRPC() && e.Encodes(f.Value("Content-Type"))
}

// large reports whether content is long enough. Of a response whose length nobody knows the beginning is read, as
// far as it comes without a pause: who streams has more to come.
func (e *encoding) large(response *message.Response) bool {
	least := e.Min
	if e.forced {
		least = 1
	}

	switch n := length(e.x.request, response); {
	case n >= 0:
		return n >= least
	case e.x.request.Method == "HEAD", isStream(response.Fields), !e.x.contentCame(), len(e.codings) == 0:
		return true // the head is not to wait for content
	}

	began := &bufferedBody{Body: response.Body, data: make([]byte, 0, least)}
	response.Body = began
	for int64(len(began.data)) < least && began.err == nil {
		var n int
		n, began.err = began.Body.Read(began.data[len(began.data):cap(began.data)])
		began.data = began.data[:len(began.data)+n]
		if began.err == nil && began.Body.Buffered() == 0 {
			return true
		}
	}

	if errors.Is(began.err, io.EOF) && int64(len(began.data)) < least {
		return false
	}
	return true
}

// length is that of the content which GET gets, -1 if it is not known.
func length(r *message.Request, response *message.Response) int64 {
	if r.Method != "HEAD" {
		return response.ContentLength
	}
	if n, ok := message.Decimal(response.Fields.Value("Content-Length")); ok {
		return n
	}
	return -1
}

// ended reports whether nothing of a body's content is left to come.
func ended(body message.Body) bool {
	switch b := body.(type) {
	case *bufferedBody:
		return errors.Is(b.err, io.EOF) || b.err == nil && ended(b.Body)
	case *keptBody:
		return true
	}
	return false
}

// encodedBody encodes another body as it is read. The encoder belongs to whoever reads, who gives it back at the
// end; Close, which may come from elsewhere, does not touch it.
type encodedBody struct {
	message.Body
	encoder  *coding.Encoder // nil: it was given back
	streams  bool            // what has come is passed on when no more comes at once
	err      error           // that follows what was encoded
	received atomic.Int64
}

// Read implements io.Reader.
func (b *encodedBody) Read(p []byte) (int, error) {
	for {
		switch {
		case b.encoder == nil:
			return 0, b.err
		case b.encoder.Pending() > 0:
			n := b.encoder.Take(p)
			b.received.Add(int64(n))
			return n, nil
		case b.err != nil:
			b.encoder.Release()
			b.encoder = nil
		default:
			b.err = b.next()
		}
	}
}

// next encodes more. What a content that breaks off has come to is not ended, so that nobody takes it for the whole.
func (b *encodedBody) next() error {
	room := b.encoder.Room()
	n, err := b.Body.Read(room)
	failed := b.encoder.Write(room[:n])
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, io.EOF):
		if failed := b.encoder.Close(); failed != nil {
			return failed
		}
	case err == nil && b.streams && b.Body.Buffered() == 0:
		return b.encoder.Flush()
	}
	return err
}

// Buffered implements message.Body.
func (b *encodedBody) Buffered() int {
	switch {
	case b.encoder == nil:
		return 0
	case b.streams && b.err == nil:
		return b.encoder.Pending() + b.Body.Buffered()
	}
	return b.encoder.Pending()
}

// Received implements message.Body.
func (b *encodedBody) Received() int64 { return b.received.Load() }

// Trailers implements message.Body. Digests are of the content as it was.
func (b *encodedBody) Trailers() (trailers message.Fields) {
	for _, f := range b.Body.Trailers() {
		if !digests.Has(f.Name) {
			trailers = append(trailers, f)
		}
	}
	return trailers
}

// digests are fields that speak of the content as it is (RFC 9530).
var digests = message.NewNames("Content-MD5", "Digest", "Content-Digest", "Repr-Digest")

// recode makes the fields those of a response that may be encoded, after all rules.
func (x *Exchange) recode(f *message.Fields) {
	if !f.HasToken("Vary", "Accept-Encoding") && !f.HasToken("Vary", "*") {
		f.Add("Vary", "Accept-Encoding")
	}
	// Two forms of content are not the same bytes, which a strong tag claims (RFC 9110 section 8.8.3.3).
	if tag := f.Value("ETag"); x.coded && strings.HasPrefix(tag, `"`) {
		f.Set("ETag", "W/"+tag)
	}
}
