package proxy

import (
	"cmp"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/internal/fair"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/upstream"
	"padlock/tracing"
	"padlock/traffic"
)

// handler answers every request of every front: it finds the site, forwards, and logs.
type handler struct {
	state   func() *state
	page    Page
	trust   TrustPage
	access  *accessLog
	details bool // error pages say what was tried
	tracer  *tracing.Tracer
	tunnels *tunnels
	cuts    *cuts
	idle    time.Duration // without a byte through a tunnel
	late    *lateAnswers

	challenges Challenges

	passwords *passwords
	rooms     *rooms
}

// exchange is what one request has come to. It is never used again: who still holds it when the request has ended holds its own.
type exchange struct {
	request           *message.Request
	state             *state // that it was let in by
	w                 countingWriter
	start             time.Time
	id                uint64
	name              string     // canonical name of the host
	target            string     // of the request as it came
	path              paths.Path // what that means, once the site is known
	user, hash        string     // who has proved to be here, and the hash of what proved it
	addr              netip.Addr // of the client
	told              told
	site              *site
	route             *route
	attempt           upstream.Attempt
	scheme, authority string       // by which the client has come, before rules for the target's Host
	destination       *destination // nil: the request moves and copies nothing
	conditions        string       // If, as the client has sent it
	bytesIn           int64        // through a tunnel, and in the end as content
	took              time.Duration
	err               string
	broken            bool            // the target broke off its response
	trace             tracing.Context // what the target is told; zero: nothing of ours
	spans             *tracing.Request

	allow, challenge string // of a 405 and a 401
	bare             bool   // the answer gets no fields of the configuration's
	limited          limitedBody
	held             int64 // of the memory for what is buffered
}

// ids of requests begin anywhere, so that they differ between nodes and starts.
var ids = func() *atomic.Uint64 {
	last := new(atomic.Uint64)
	last.Store(rand.Uint64())
	return last
}()

func (h *handler) Serve(ctx *message.Context, r *message.Request, w message.Writer) {
	x := &exchange{request: r, target: r.Target, w: countingWriter{Writer: w}, start: time.Now(), id: ids.Add(1)}
	h.serve(ctx, x)
	x.attempt.End()
	if x.held > 0 {
		h.rooms.leave(x.addr, x.held)
	}
	x.took = time.Since(x.start)
	if r.Body != nil {
		x.bytesIn += r.Body.Received()
	}
	if x.site != nil {
		x.site.counts.Request(traffic.OfProto(r.Proto), x.w.status, x.took, x.bytesIn, x.w.bytes)
	}
	x.endTrace()
	h.access.record(x)
}

// Interim implements message.Interim.
func (x *exchange) Interim(status int, fields message.Fields) error {
	fields.RemoveHopByHop()
	fields.Del("Content-Length") // RFC 9110 section 8.6: nothing follows, and somebody may think otherwise
	return x.w.Interim(status, x.withoutOurs(fields))
}

func (h *handler) serve(ctx *message.Context, x *exchange) {
	r, state := x.request, h.state()
	x.state = state
	x.identify(state.trusted)
	if h.tracer != nil {
		x.beginTrace(h.tracer, contains(state.trusted, r.Conn.Addr))
	}
	if r.Method == "CONNECT" {
		fail(x, 405, "CONNECT is not for a reverse proxy", "")
		return
	}
	if h.trust != nil && h.serveTrust(x) || h.serveChallenge(x) {
		return
	}
	found, name := state.table(r.Conn.Listener).site(r.Host)
	over := !r.Conn.Until.IsZero() && x.start.After(r.Conn.Until)
	if found == nil || found.policy != r.Conn.Policy || found.tcp != nil || over {
		// RFC 9110 section 15.5.20: this connection was not made for that host.
		fail(x, 421, "This connection does not serve the host asked for", "")
		return
	}
	x.site, x.name, r.Host = found, name, tidyHost(r.Host)
	if found.misspelt(r.Method) {
		fail(x, 501, "Methods are written in capital letters", "")
		return
	}
	var err error
	if x.path, err = paths.Parse(r.Target, found.paths); err != nil {
		h.failPath(x, err)
		return
	}
	r.Target = x.path.Text
	if other, ok := found.redirects[name]; ok && strings.HasPrefix(r.Target, "/") {
		_, port, _ := strings.Cut(r.Host, ":") // a name, so no colon but the port's
		if port != "" {
			other += ":" + port
		}
		location, ok := paths.Location("https://"+other, r.Target)
		x.redirect(308, location, ok)
		return
	}
	route, allowed := found.route(r.Method, &x.path)
	switch {
	case route == nil && len(allowed) > 0:
		x.allow = strings.Join(allowed, ", ")
		fail(x, 405, "This method is not for this address", "")
		return
	case route == nil:
		fail(x, 404, "There is nothing here", "")
		return
	}
	x.route = route
	if found.ambiguous(r.Method, &x.path, route) {
		h.failPath(x, paths.DependsOnReader)
		return
	}
	if !h.admit(ctx, x) {
		return
	}
	switch {
	case route.group != nil:
		h.forward(ctx, x)
	case route.redirect != nil:
		location, ok := x.location(route.redirect)
		x.redirect(route.redirect.status, location, ok)
	case x.extended():
		fail(x, 501, "There is no WebSocket here", "")
	case route.respond != nil:
		x.respond(route.respond.Status, message.Fields{{Name: "Content-Type", Value: route.respond.ContentType}}, []byte(route.respond.Body))
	case h.page != nil:
		h.servePage(ctx, x)
	default:
		fail(x, 404, "There is nothing here", "")
	}
}

// failPath refuses a target that means more than one thing. Which one is the client's to say.
func (h *handler) failPath(x *exchange, err error) {
	fail(x, 400, "This address can be read in more than one way: "+err.Error(), "")
}

// admit reports whether the client may come; if not, it has been told so.
func (h *handler) admit(ctx *message.Context, x *exchange) bool {
	r := x.request
	if !x.site.access.admits(x.addr) || !x.route.access.admits(x.addr) {
		fail(x, 403, "This is not open to your address", "")
		return false
	}
	basic := x.route.basic(x.site)
	if basic == nil {
		return true
	}
	var err error
	x.user, err = h.passwords.user(ctx, basic, x.addr, r.Fields)
	x.hash = basic.users[x.user]
	switch {
	case errors.Is(err, fair.ErrSource):
		fail(x, 429, "Too many passwords from your address wait to be checked", "")
	case errors.Is(err, fair.ErrAll):
		fail(x, 503, "Too many passwords wait to be checked", "")
	case err != nil:
		x.err = "client went away"
		x.w.Abort()
	case x.user == "":
		x.challenge = basic.challenge
		fail(x, 401, "A name and a password are needed", "")
	}
	return x.user != ""
}

// serveTrust answers a device that tries whether its handshake comes through, and reports whether it was one.
func (h *handler) serveTrust(x *exchange) bool {
	r := x.request
	if path, _, _ := strings.Cut(r.Target, "?"); path != h.trust.Path() {
		return false
	}
	if r.Method != "GET" && r.Method != "HEAD" {
		fail(x, 405, "This page can only be read", "")
		return true
	}
	html := h.trust.Arrived(r.Conn.Addr, r.Conn.Handshake, r.Host)
	if html == nil {
		fail(x, 404, "There is nothing here", "")
		return true
	}
	x.respond(200, message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Content-Security-Policy", Value: h.trust.ContentSecurityPolicy()},
		{Name: "Cross-Origin-Resource-Policy", Value: "cross-origin"}, // the page that asks came by HTTP
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "Referrer-Policy", Value: "no-referrer"},
	}, html)
	return true
}

func (h *handler) servePage(ctx *message.Context, x *exchange) {
	if x.request.Method != "GET" && x.request.Method != "HEAD" {
		fail(x, 405, "This page can only be read", "")
		return
	}
	if x.path.Raw != "/" {
		fail(x, 404, "There is nothing here", "")
		return
	}
	html := h.page.HTML(ctx, x.request.Conn.Handshake, x.request.Host)
	fields := message.Fields{
		{Name: "Content-Type", Value: "text/html; charset=utf-8"},
		{Name: "Content-Security-Policy", Value: h.page.ContentSecurityPolicy()},
		{Name: "Cache-Control", Value: "no-store"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "Referrer-Policy", Value: "no-referrer"},
	}
	x.respond(200, fields, html)
}

func (h *handler) forward(ctx *message.Context, x *exchange) {
	r, route := x.request, x.route
	if !upgrade(x) {
		return
	}
	prepare(x)
	if route.bodyLimit > 0 && !x.limit(route.bodyLimit) {
		fail(x, 413, "The request's content is too large", "")
		return
	}

	x.scheme, x.authority = strings.ToLower(cmp.Or(x.told.proto, r.Scheme)), cmp.Or(x.told.host, r.Host)
	if !h.readDestination(x) {
		return
	}
	x.prepareURLs()

	if route.strip {
		target, err := route.pattern.Replace(&x.path, route.replace)
		if err != nil {
			h.failPath(x, err)
			return
		}
		r.Target = target
	}
	if route.host != "" {
		r.Host = route.host
	}

	if x.shares() && r.Fields.NeedsOneConnection() {
		x.fallBack()
		return
	}

	var response *message.Response
	var err error
	whole := true
	switch {
	case r.Upgrade != "" && r.Body != nil:
		whole, err = x.readWhole()
	case route.buffer.Request > 0:
		err = h.bufferRequest(x, int64(route.buffer.Request))
	}
	if !whole && err == nil {
		fail(x, 413, "The content of a request for another protocol is too large", "")
		return
	}

	if route.group.Patient() {
		x.attempt.Late, x.attempt.LateAfter = h.late.of(x), h.late.after
	}
	if err == nil {
		response, err = route.group.RoundTrip(ctx, r, x, &x.attempt)
	}

	var unread *message.BodyError
	switch {
	case err != nil && ctx.Err() != nil:
		x.err = "client went away"
		x.w.Abort()
	case errors.As(err, &unread):
		h.failBody(x, unread)
	case err != nil:
		h.failUpstream(x, err)
	case response.Tunnel != nil:
		h.tunnel(x, response)
	case mistaken(x, response):
		response.Body.Close()
		failTunnel(x, errNotOpen)
	case x.shares() && r.Fields.AuthenticatesConnection() && response.Status == 401 && response.Fields.ContinuesAuthentication():
		response.Body.Close()
		x.fallBack()
	default:
		if r.Shared && response.Status == 401 && r.Fields.NeedsOneConnection() {
			x.err = "NTLM authenticates a connection, and this one is of trusted_proxies, which carry several clients: it cannot work through them"
		}
		if route.buffer.Response > 0 {
			h.bufferResponse(x, response, int64(route.buffer.Response))
		}
		h.passOn(x, response)
	}
}

// shares reports whether a client sends its requests as streams of one connection, next to which no target's connection can be its own.
func (x *exchange) shares() bool { return !strings.HasPrefix(x.request.Proto, "HTTP/1.") }

// fallBack has a client whose credentials authenticate a connection come again over HTTP/1.1, where one of the target's can be its own.
func (x *exchange) fallBack() {
	x.err = "NTLM and Negotiate authenticate a connection, which needs HTTP/1.1: the client was told so"
	x.w.Fallback()
}

// limitedBody is a request's content that may not be larger than a route allows.
type limitedBody struct {
	message.Body
	left int64
}

var errTooLarge = errors.New("larger than this route allows")

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// limit reports whether the content may be as large as it is said to be, and sees to it otherwise.
func (x *exchange) limit(limit int64) bool {
	r := x.request
	if r.ContentLength > limit {
		return false
	}
	if r.Body != nil && r.ContentLength < 0 {
		x.limited = limitedBody{r.Body, limit}
		r.Body = &x.limited
	}
	return true
}

// failBody answers a request whose content did not come as it was announced.
func (h *handler) failBody(x *exchange, err *message.BodyError) {
	x.err = "client: " + err.Error()
	switch {
	case errors.Is(err, errTooLarge):
		fail(x, 413, "The request's content is too large", "")
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.cuts.cut(traffic.SlowBody, x.request.Conn.Addr)
		fail(x, 408, "The request's content did not come in time", "")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		x.w.Abort()
	default:
		h.cuts.about(traffic.Malformed, x.request.Conn.Addr, err.Err.Error())
		fail(x, 400, "The request's content is malformed", "")
	}
}

func (h *handler) failUpstream(x *exchange, err error) {
	status, text, detail := 502, "The application behind this address did not answer", ""
	var failure *upstream.Error
	var unwell *upstream.UnwellError
	var unwritable *message.Unwritable
	var reset *message.ResetError
	switch {
	case errors.As(err, &reset) && x.gRPC():
		x.err = err.Error()
		x.w.Reset(reset.Code)
		return
	case errors.As(err, &unwritable):
		status, text, x.err = 500, "The request cannot be passed on", "the request for the target: "+err.Error()
	case errors.Is(err, upstream.ErrUnwell):
		status, text, x.err = 503, "The application behind this address is not well", err.Error()
		if h.details && errors.As(err, &unwell) && len(unwell.Reasons) > 0 {
			detail = "padlock checks its health. " + strings.Join(unwell.Reasons, "; ") + "."
		}
	case errors.Is(err, upstream.ErrUnresolved):
		text, x.err = "The application behind this address cannot be found", err.Error()
	case errors.Is(err, upstream.ErrFull):
		status, text, x.err = 503, "The application behind this address is busy", err.Error()
	case errors.As(err, &failure):
		x.err = failure.Error()
		if failure.Timeout() {
			status, text = 504, "The application behind this address took too long to answer"
		}
		if h.details {
			detail = "padlock tried " + failure.Target.String() + ": " + failure.Reason() + "."
		}
	}
	fail(x, status, text, detail)
}

// gRPC reports whether the client speaks gRPC, which reads a reset, such as that of a server whose deadline has passed, and no page.
func (x *exchange) gRPC() bool {
	return x.request.Fields.GRPC() && traffic.OfProto(x.request.Proto) != traffic.HTTP1
}

// dress makes of a target's head the one that the client gets.
func (x *exchange) dress(response *message.Response) {
	response.Fields.RemoveHopByHop()
	x.rewriteResponse(response.Fields)
	x.finish(&response.Fields)
	if x.attempt.Cookie != "" {
		response.Fields.Add("Set-Cookie", x.attempt.Cookie)
	}
}

// passOn passes a response on as it comes. What was read is sent at once, unless more is sure to follow without waiting:
// the reader of an event stream wants every byte, and of a slow download as well.
func (h *handler) passOn(x *exchange, response *message.Response) {
	defer response.Body.Close()
	x.dress(response)
	length := response.ContentLength
	if response.Trailing && x.request.Proto == "HTTP/1.1" {
		length = -1 // only chunks carry trailers
	}
	if err := x.w.Head(response.Status, response.Fields, length); err != nil {
		x.unwritable(502, "The application's answer cannot be passed on", err)
		return
	}
	if response.ContentLength != 0 && response.Body.Buffered() == 0 {
		_ = x.w.Flush() // the content may be long in coming
	}
	for {
		room := x.w.Room()
		n, err := response.Body.Read(room)
		if now := h.state(); now != x.state { // this may be an event stream, which has no end
			if x.again(now) == refused {
				x.err = errRules.Error()
				x.w.Abort()
				return
			}
			x.state = now
		}
		if n > 0 {
			if _, werr := x.w.Write(room[:n]); werr != nil {
				x.err = "client: " + werr.Error()
				x.w.Abort()
				return
			}
			if err == nil && n < len(room) && response.Body.Buffered() == 0 {
				_ = x.w.Flush()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			trailers := x.withoutOurs(response.Body.Trailers())
			if err := trailers.Writable(); err != nil {
				x.err = "target's trailers: " + err.Error()
			}
			x.w.Trailers(trailers) // which are cut off if they are not
			if x.request.Body != nil {
				_ = x.w.Flush() // before Close waits for the rest of it: the client may be waiting for us
			}
			return
		default:
			x.err, x.broken = "target broke off its response: "+err.Error(), true
			x.cutShort(err)
			return
		}
	}
}

// cutShort ends a response that the target has not finished, as the target has ended it.
func (x *exchange) cutShort(err error) {
	var reset *message.ResetError
	if errors.As(err, &reset) {
		x.w.Reset(reset.Code)
		return
	}
	x.w.Abort()
}

// hostname is the canonical name of a Host or :authority value; its port does not matter for routing. It is false where that is no port.
func hostname(host string) (string, bool) {
	name, port, ok := cutPort(host)
	if !ok || port != "" && !validPort(port) {
		return "", false
	}
	return config.CanonicalHost(name)
}

// tidyHost is a host that hostname has accepted with its port in one form: without zeros in front, and none where it is empty, which
// RFC 3986 section 3.2.3 allows and targets read differently.
func tidyHost(host string) string {
	name, port, ok := cutPort(host)
	switch tidy := strings.TrimLeft(port, "0"); {
	case !ok || len(name) == len(host): // no colon
		return host
	case tidy == "":
		return name
	case tidy == port:
		return host
	default:
		return name + ":" + tidy
	}
}

// cutPort divides a host at the colon of its port; a bare IPv6 address has none. It is false where brackets do not match.
func cutPort(host string) (name, port string, ok bool) {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || strings.HasSuffix(host, "]") || host[0] != '[' && strings.IndexByte(host, ':') != colon {
		return host, "", true
	}
	return host[:colon], host[colon+1:], (host[0] == '[') == strings.HasSuffix(host[:colon], "]")
}

// validPort reports whether s is a port: 1 to 65535, in at most five digits.
func validPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0 && len(s) <= 5
}

type countingWriter struct {
	message.Writer
	status  int
	bytes   int64
	aborted bool
}

func (w *countingWriter) Head(status int, fields message.Fields, length int64) error {
	w.status = status
	return w.Writer.Head(status, fields, length)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *countingWriter) Tunnel(fields message.Fields) (message.Tunnel, error) {
	w.status = 101
	return w.Writer.Tunnel(fields)
}

func (w *countingWriter) Fallback() {
	w.aborted = true
	w.Writer.Fallback()
}

func (w *countingWriter) Abort() {
	w.aborted = true
	w.Writer.Abort()
}

func (w *countingWriter) Reset(code uint32) {
	w.aborted = true
	w.Writer.Reset(code)
}
