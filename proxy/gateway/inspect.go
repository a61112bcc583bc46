package gateway

import (
	"context"
	"time"

	"padlock/config"
	"padlock/inspect"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
)

// recording notes what passes of a request that a site has remembered. It stands between the request and its client,
// and follows it to its targets.
type recording struct {
	*inspect.Record
	x                    *Exchange
	writer               recordedWriter
	body                 recordedBody
	connecting, securing time.Duration // of the targets before
}

// inspected are the sites whose requests are remembered.
func (r *Routes) inspected() map[string]*inspect.Limits {
	all := map[string]*inspect.Limits{}
	for _, site := range r.Sites {
		if site.Inspect != nil {
			all[site.Inspect.Site] = site.Inspect
		}
	}
	return all
}

// inspect begins to remember a request. host is as the client has sent it.
func (x *Exchange) inspect(host string) {
	store, r := x.routes.records, x.request
	if store == nil {
		return
	}

	var id [16]byte
	is := inspect.Arrival{
		RequestID: string(appendID(id[:0], x.id)), Method: r.Method, Scheme: r.Scheme, Host: host,
		Target: x.target, Proto: r.Proto, Remote: r.Client, Handshake: r.Conn.Handshake,
	}
	again, replayed := x.w.Writer.(*replayWriter)
	if replayed {
		is.Replay, x.replayOf = again.of, again.request
	}

	c := &recording{Record: store.Begin(x.site.Inspect, x.start, &is, linesOf(r.Fields), r.Conn.Past()), x: x}
	x.record = c
	if replayed {
		again.record = c.ID()
	}
	c.writer = recordedWriter{x.w.Writer, c}
	x.w.Writer = &c.writer
	if r.Body != nil {
		c.body = recordedBody{r.Body, c}
		r.Body = &c.body
	}
}

// linesOf are fields as they are now.
func linesOf(fields message.Fields) inspect.Lines {
	return func(to []byte) []byte { return appendLines(to, fields) }
}

// upgrading are fields with what a connection adds that goes over to another protocol; "": to none.
func upgrading(fields message.Fields, protocol string) inspect.Lines {
	return func(to []byte) []byte {
		to = appendLines(to, fields)
		if protocol == "" {
			return to
		}
		return inspect.AppendLine(inspect.AppendLine(to, "Connection", "Upgrade"), "Upgrade", protocol)
	}
}

func appendLines(to []byte, fields message.Fields) []byte {
	for i := range fields {
		to = inspect.AppendLine(to, fields[i].Name, fields[i].Value)
	}
	return to
}

// Trying implements upstream.Follower.
func (c *recording) Trying(target *config.Target, placed time.Time) {
	x := c.x
	if x.spans != nil {
		x.Trying(target, placed)
	}
	r := x.request
	// With the address that its name was resolved to.
	name := x.attempt.Target()
	if name == "" {
		name = target.String()
	}
	c.Record.Trying(name, placed.Sub(x.start), r.Method, r.Host, r.Target, upgrading(r.Fields, r.Upgrade))
}

// Answered implements upstream.Follower. The response is as it came.
func (c *recording) Answered(response *message.Response) {
	if c.x.spans != nil {
		c.x.Answered(response)
	}
	c.Record.Answered(c.try(inspect.Try{Status: response.Status}), linesOf(response.Fields))
}

// Missed implements upstream.Follower.
func (c *recording) Missed(err *upstream.Error) {
	if c.x.spans != nil {
		c.x.Missed(err)
	}
	c.Record.Missed(c.try(inspect.Try{Error: err.Reason()}))
}

// try adds how long the last target took.
func (c *recording) try(t inspect.Try) inspect.Try {
	r := c.x.request
	t.TLS = r.Securing - c.securing
	t.Connect = r.Connecting - c.connecting - t.TLS
	t.Took = c.x.attempt.Answer
	c.connecting, c.securing = r.Connecting, r.Securing
	return t
}

// end is called when nothing is sent any more.
func (c *recording) end() {
	x := c.x
	if body := x.request.Body; body != nil && x.w.status != 101 {
		if trailers := body.Trailers(); len(trailers) > 0 {
			c.Trailers(inspect.Client, linesOf(trailers))
		}
	}
	c.End(inspect.Outcome{Status: x.w.status, User: x.user, Error: x.err, Aborted: x.w.aborted, Duration: x.took, Wait: x.attempt.Wait})
}

// recordedBody is a request's content that is noted as it is read.
type recordedBody struct {
	message.Body
	record *recording
}

// Read implements io.Reader.
func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if n > 0 {
		b.record.Content(inspect.Client, p[:n])
	}
	return n, err
}

// recordedWriter notes a response as it is written.
type recordedWriter struct {
	message.Writer
	record *recording
}

// Interim implements message.Writer.
func (w *recordedWriter) Interim(status int, fields message.Fields) error {
	w.record.Interim(status)
	return w.Writer.Interim(status, fields)
}

// Head implements message.Writer.
func (w *recordedWriter) Head(status int, fields message.Fields, length int64) error {
	w.record.Head(status, linesOf(fields))
	return w.Writer.Head(status, fields, length)
}

// Write implements io.Writer.
func (w *recordedWriter) Write(p []byte) (int, error) {
	// Noted before it is written: the buffer is the writer's own.
	if w.record.x.request.Method != "HEAD" {
		w.record.Content(inspect.Server, p)
	}
	return w.Writer.Write(p)
}

// Trailers implements message.Writer.
func (w *recordedWriter) Trailers(fields message.Fields) {
	if len(fields) > 0 {
		w.record.Trailers(inspect.Server, linesOf(fields))
	}
	w.Writer.Trailers(fields)
}

// Tunnel implements message.Writer.
func (w *recordedWriter) Tunnel(fields message.Fields) (message.Tunnel, error) {
	tunnel, err := w.Writer.Tunnel(fields)
	if err != nil {
		return nil, err
	}
	protocol := w.record.x.request.Upgrade
	sent := linesOf(fields)
	if !w.record.x.extended() {
		sent = upgrading(fields, protocol)
	}
	w.record.Tunnel(protocol == sites.WebSocket, sent)
	noted := &recordedTunnel{tunnel, w.record}
	if moving, ok := tunnel.(message.Moving); ok {
		return &recordedMoving{noted, moving}, nil
	}
	return noted, nil
}

// recordedTunnel notes what passes through a tunnel.
type recordedTunnel struct {
	message.Tunnel
	record *recording
}

// recordedMoving is one whose client may move to another address.
type recordedMoving struct {
	*recordedTunnel
	message.Moving
}

// Read implements io.Reader.
func (t *recordedTunnel) Read(p []byte) (int, error) {
	n, err := t.Tunnel.Read(p)
	if n > 0 {
		t.record.Content(inspect.Client, p[:n])
	}
	return n, err
}

// Write implements io.Writer.
func (t *recordedTunnel) Write(p []byte) (int, error) {
	t.record.Content(inspect.Server, p)
	return t.Tunnel.Write(p)
}

// Replay answers a request once more that is remembered, as if its client had sent it again on the same connection,
// and returns the number of the new record. Whatever refuses the client now refuses the replay.
func (h *Gateway) Replay(ctx context.Context, id uint64, edit inspect.Edit) (record uint64, err error) {
	if h.Inspect == nil {
		return 0, inspect.ErrForgotten
	}
	is, err := h.Inspect.Again(id, edit)
	if err != nil {
		return 0, err
	}
	conn, _ := h.Inspect.Origin(id).(*message.Conn)
	if conn == nil {
		return 0, inspect.ErrForgotten
	}

	// What the client's certificate has proved may not hold any more, and its connection is not there to be closed.
	found, _ := h.Routes().Hosts(conn.Listener).Site(is.Host)
	if found == nil || found.Inspect == nil || !conn.Plain && !found.Policy.Still(conn) {
		return 0, inspect.ErrNotServed
	}
	conn = conn.From(conn.Remote)

	r := &message.Request{Method: is.Method, Scheme: is.Scheme, Host: is.Host, Target: is.Target, Proto: is.Proto, Conn: conn}
	for _, f := range is.Received {
		r.Fields.Add(f.Name, f.Value)
	}
	if len(is.In.Data) > 0 {
		r.ContentLength, r.Body = int64(len(is.In.Data)), &content{left: is.In.Data}
	}

	within := &message.Context{}
	defer context.AfterFunc(ctx, within.Cancel)()
	w := &replayWriter{of: id, request: is.RequestID, room: make([]byte, replayRoom)}
	h.Serve(within, r, w)
	if w.record == 0 {
		return 0, inspect.ErrNotServed
	}
	return w.record, nil
}

const replayRoom = 16 << 10

// replayWriter is the client of a replay: what it gets is noted before, and kept nowhere else.
type replayWriter struct {
	of, record uint64
	request    string // the request ID of what is repeated
	room       []byte
}

func (w *replayWriter) Interim(int, message.Fields) error     { return nil }
func (w *replayWriter) Head(int, message.Fields, int64) error { return nil }
func (w *replayWriter) Write(p []byte) (int, error)           { return len(p), nil }
func (w *replayWriter) Flush() error                          { return nil }
func (w *replayWriter) Room() []byte                          { return w.room }
func (w *replayWriter) Trailers(message.Fields)               {}
func (w *replayWriter) Abort()                                {}
func (w *replayWriter) Fallback()                             {}
func (w *replayWriter) Reset(uint32)                          {}

// Tunnel implements message.Writer: there is nobody to talk to.
func (w *replayWriter) Tunnel(message.Fields) (message.Tunnel, error) { return nil, errNoTunnel }

var errNoTunnel = status(501, "A replay opens no tunnel")
