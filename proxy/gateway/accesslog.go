package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/inspect"
	"padlock/internal/jsonline"
	"padlock/internal/pool"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/upstream"
)

// AccessLog writes a line for each request, and for each connection that is not HTTP. Lines are written together: a
// busy log's when there are many, at most 100 ms after the first of them. A writer that cannot keep up loses lines,
// which are counted and reported; no request waits for it.
type AccessLog struct {
	combined bool
	headers  []string
	redact   *message.Names

	mu     sync.Mutex
	queued []byte // whole lines
	lines  int    // in queued
	spare  []byte // takes its place while that is written

	wake    chan struct{}  // there is a first line, or a batch; at most one is in it
	stop    chan struct{}  // closed to end the writer
	done    chan struct{}  // closed when it has ended
	writing atomic.Int64   // lines that it has taken and not written yet
	dropped atomic.Uint64  // not reported yet
	all     *atomic.Uint64 // that were dropped
}

const (
	accessLogQueue = 4096      // lines
	accessLogRoom  = 2 << 20   // bytes; a line may be long
	accessLogKept  = 256 << 10 // bytes, of memory that is used again
	accessLogBatch = 32 << 10  // bytes that are written at once, without waiting for more

	// A busy log is written every gatherBusy, or whenever there is a batch; lines that come after a while alone, almost
	// at once. To wake the writer for each line would cost more than the line.
	gatherBusy  = 100 * time.Millisecond
	gatherQuiet = 5 * time.Millisecond
)

// NewAccessLog returns nil, which logs nothing, when w is nil. It counts lines in lost that it has no time to write.
func NewAccessLog(c *config.AccessLog, w io.Writer, lost *atomic.Uint64) *AccessLog {
	if w == nil {
		return nil
	}

	a := &AccessLog{
		all: lost, combined: c.Format == "combined", headers: c.Headers,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	names := inspect.SecretFields()
	for _, name := range c.Redact {
		if name != "" && len(name) < len(a.redact) {
			names = append(names, name)
		}
	}

	a.redact = message.NewNames(names...)
	go a.write(w)
	return a
}

func (a *AccessLog) write(w io.Writer) {
	defer close(a.done)
	timer := time.NewTimer(gatherBusy)
	defer timer.Stop()

	written := time.Time{}
	for stopped := false; !stopped; {
		select {
		case <-a.wake:
			stopped = a.gather(timer, max(gatherQuiet, gatherBusy-time.Since(written)))
		case <-a.stop:
			stopped = true
		}

		// At the end too: what was queued until then is written.
		a.flush(w)
		written = time.Now()
	}
}

// gather lets lines come together, for so long or until there is a batch. It reports whether the log is to end.
func (a *AccessLog) gather(timer *time.Timer, most time.Duration) (stopped bool) {
	a.mu.Lock()
	// A whole batch may have come while the one before was written. Nothing is waited for then.
	full := len(a.queued) >= accessLogBatch
	a.mu.Unlock()
	if full {
		return false
	}

	timer.Reset(most)
	select {
	case <-timer.C:
	case <-a.wake:
	case <-a.stop:
		return true
	}

	return false
}

// flush writes what is queued, whole lines at a time: whoever writes further counts those that are lost.
func (a *AccessLog) flush(w io.Writer) {
	a.mu.Lock()
	batch := a.queued
	a.writing.Store(int64(a.lines))
	// Two buffers take turns, so that no request waits while one of them is written.
	a.queued, a.lines, a.spare = a.spare[:0], 0, nil
	a.mu.Unlock()

	for rest := batch; len(rest) > 0; {
		lines := rest[:lineEnd(rest, accessLogBatch)]
		rest = rest[len(lines):]
		_, _ = w.Write(lines)
		a.writing.Add(-int64(bytes.Count(lines, newline)))
	}

	a.reportLost(w)
	// The large buffer of a burst is not kept for good.
	if cap(batch) <= accessLogKept {
		a.mu.Lock()
		a.spare = batch
		a.mu.Unlock()
	}
}

var newline = []byte{'\n'}

// lineEnd is where the last line ends that begins within limit.
func lineEnd(b []byte, limit int) int {
	if len(b) <= limit {
		return len(b)
	}
	return limit + bytes.IndexByte(b[limit:], '\n') + 1
}

// reportLost writes how many lines were lost since it last did.
func (a *AccessLog) reportLost(w io.Writer) {
	lost := a.dropped.Swap(0)
	if lost == 0 {
		return
	}
	if a.combined {
		fmt.Fprintf(w, "# %d lines lost: they came faster than they could be written\n", lost)
		return
	}
	slog.New(slog.NewJSONHandler(w, nil)).Warn("lines lost", "count", lost)
}

// add queues one line, of which it keeps nothing.
func (a *AccessLog) add(line []byte) {
	a.mu.Lock()
	before := len(a.queued)
	full := a.lines >= accessLogQueue || before+len(line) > accessLogRoom
	if !full {
		a.queued = append(a.queued, line...)
		a.lines++
	}
	after := len(a.queued)
	a.mu.Unlock()

	switch {
	case full:
		a.dropped.Add(1)
		a.all.Add(1)
	// The writer is woken for the first line and for a batch, and not for each line in between.
	case before == 0, before < accessLogBatch && after >= accessLogBatch:
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// lastLines is how long the writer may take for what is queued at the end.
const lastLines = 500 * time.Millisecond

// Close waits for the queued lines, unless the writer is stuck. Requests that were cut off, such as tunnels, may still
// record; their lines are lost. It returns how many were left, which count as lost.
func (a *AccessLog) Close() (lost uint64) {
	if a == nil {
		return 0
	}
	close(a.stop)
	select {
	case <-a.done:
	case <-time.After(lastLines):
		a.mu.Lock()
		lost = uint64(a.lines) + uint64(a.writing.Load())
		a.mu.Unlock()
		a.all.Add(lost)
	}

	return lost
}

func (a *AccessLog) record(x *Exchange) {
	switch {
	case a == nil:
	case a.combined:
		a.add(a.line(x))
	default:
		room := lineRooms.Get()
		a.add(a.object(room[:0], x))
		lineRooms.Put(room)
	}
}

// lineRooms hold a line while it is made. On a stack it would make those of many goroutines grow.
var lineRooms = pool.Of(func(r *[1 << 10]byte) []byte { return r[:] })

// object appends a request as a line of JSON.
func (a *AccessLog) object(b []byte, x *Exchange) []byte {
	r := x.request
	var id [16]byte
	b = jsonline.Begin(b, x.start.Add(x.took), "request")
	b = jsonline.Text(b, "request_id", string(appendID(id[:0], x.id)))
	b = jsonline.Text(b, "host", r.Host)
	b = jsonline.Text(b, "method", r.Method)
	b = jsonline.Text(b, "target", a.redacted(x.target))
	b = jsonline.Text(b, "proto", r.Proto)
	b = jsonline.Int(b, "status", int64(x.status()))
	b = jsonline.Int(b, "bytes_in", x.bytesIn)
	b = jsonline.Int(b, "bytes_out", x.w.bytes)
	b = jsonline.Milliseconds(b, "duration_ms", x.took)
	b = jsonline.Text(b, "remote", r.Conn.Remote)
	b = jsonline.Uint(b, "handshake", r.Conn.Handshake)

	if x.trace.Valid() {
		b = jsonline.Text(b, "trace_id", x.trace.Trace.String())
	}

	if target := x.attempt.Target(); target != "" {
		b = jsonline.Text(b, "upstream", target)
		b = jsonline.Milliseconds(b, "wait_ms", x.attempt.Wait)
		b = jsonline.Milliseconds(b, "connect_ms", r.Connecting)
		b = jsonline.Milliseconds(b, "first_byte_ms", x.attempt.Answer)
	}

	// Only behind a trusted proxy is the client somebody else than who has connected.
	if r.Client != r.Conn.Client {
		b = jsonline.TextIfAny(b, "client", r.Client)
	}

	b = jsonline.TextIfAny(b, "user", x.user)
	b = jsonline.TextIfAny(b, "user_agent", r.Fields.Value("User-Agent"))
	b = jsonline.TextIfAny(b, "error", x.err)
	if x.attempt.Retries > 0 {
		b = jsonline.Int(b, "retries", int64(x.attempt.Retries))
	}
	if x.w.aborted {
		b = jsonline.Bool(b, "aborted", true)
	}
	b = jsonline.TextIfAny(b, "replay_of", x.replayOf)
	if len(a.headers) > 0 {
		b = a.fields(b, x)
	}

	return jsonline.End(b)
}

// fields appends those that the configuration names, as an object of their own.
func (a *AccessLog) fields(b []byte, x *Exchange) []byte {
	f := x.request.Fields
	start := len(b)
	b = jsonline.Open(b, "headers")
	empty := len(b)

	for _, name := range a.headers {
		value, ok := f.Get(name)
		switch {
		case !ok:
			continue
		// Whatever route a key was sent to, it is a key.
		case a.redact.Has(name), x.routes.Credential(name):
			value = redaction
		// A Referer holds the URL of another request, with its secrets.
		case message.Is(name, "Referer"):
			value = a.redacted(value)
		}
		b = jsonline.Text(b, strings.ToLower(name), value)
	}

	// Requests that have none of the fields get no empty object.
	if len(b) == empty {
		return b[:start]
	}

	return jsonline.Close(b)
}

const redaction = "REDACTED"

// redacted takes what should stay secret out of a query.
func (a *AccessLog) redacted(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}

	secret := func(pair string) (name string, ok bool) {
		name, _, ok = strings.Cut(pair, "=")
		return name, ok && a.redact.Has(paths.Decode(name))
	}
	// Most queries hold no secret and are returned as they are, without an allocation.
	changed := false
	for pair := range strings.SplitSeq(query, "&") {
		_, hidden := secret(pair)
		changed = changed || hidden
	}

	if !changed {
		return target
	}

	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, hidden := secret(pair); hidden {
			pairs[i] = name + "=" + redaction
		}
	}

	return path + "?" + strings.Join(pairs, "&")
}

// line is a request in Apache's combined format, which has no place for more.
func (a *AccessLog) line(x *Exchange) []byte {
	r := x.request
	text := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	// Programs that read this format split lines at blanks, so a user's name must hold none.
	b := fmt.Appendf(nil, "%s - %s [%s] \"", text(r.Client), text(escaped(strings.ReplaceAll(x.user, " ", "_"))), x.start.Format("02/Jan/2006:15:04:05 -0700"))
	b = fmt.Appendf(b, "%s %s %s\" %d %d", escaped(r.Method), escaped(a.redacted(x.target)), r.Proto, x.status(), x.w.bytes)
	return fmt.Appendf(b, " \"%s\" \"%s\"\n", text(escaped(a.redacted(r.Fields.Value("Referer")))), text(escaped(r.Fields.Value("User-Agent"))))
}

// escaped keeps a text from ending its line, or its quotes.
func escaped(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\'
	}

	if plain {
		return s
	}

	b := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b = fmt.Appendf(b, "\\x%02x", c)
		} else {
			b = append(b, c)
		}
	}

	return string(b)
}

// ConnectionRecord is what a connection that is not HTTP has come to.
type ConnectionRecord struct {
	Facts   *message.Conn
	Name    string // that the client asked for
	Start   time.Time
	Attempt upstream.Attempt
	In, Out int64
	Err     error
}

// RecordStream is for a connection that is not HTTP, when it has ended.
func (a *AccessLog) RecordStream(c *ConnectionRecord) {
	if a == nil {
		return
	}

	why := ""
	if c.Err != nil {
		why = c.Err.Error()
	}

	if a.combined {
		a.add(fmt.Appendf(nil, "%s - - [%s] \"CONNECTION %s TCP\" %s %d \"-\" \"-\"\n", c.Facts.Client, c.Start.Format("02/Jan/2006:15:04:05 -0700"), escaped(c.Name), "-", c.Out))
		return
	}

	b := jsonline.Begin(nil, time.Now(), "connection")
	b = jsonline.Text(b, "server_name", c.Name)
	b = jsonline.Int(b, "bytes_in", c.In)
	b = jsonline.Int(b, "bytes_out", c.Out)
	b = jsonline.Milliseconds(b, "duration_ms", time.Since(c.Start))
	b = jsonline.Text(b, "remote", c.Facts.Remote)
	b = jsonline.Uint(b, "handshake", c.Facts.Handshake)
	if target := c.Attempt.Target(); target != "" {
		b = jsonline.Text(b, "upstream", target)
		b = jsonline.Milliseconds(b, "wait_ms", c.Attempt.Wait)
		b = jsonline.Milliseconds(b, "connect_ms", c.Attempt.Answer)
	}

	if c.Attempt.Retries > 0 {
		b = jsonline.Int(b, "retries", int64(c.Attempt.Retries))
	}

	b = jsonline.TextIfAny(b, "error", why)
	a.add(jsonline.End(b))
}
