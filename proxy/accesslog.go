package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// accessLog writes a line for each request, and for each connection that is not HTTP. A writer that cannot keep up loses lines, which
// are counted and told; no request waits for it.
type accessLog struct {
	log      *slog.Logger
	combined bool
	headers  []string
	redact   *message.Names

	lines   chan []byte
	stop    chan struct{}  // closed to end the writer
	done    chan struct{}  // closed when it has ended
	dropped atomic.Uint64  // not told yet
	all     *atomic.Uint64 // that were dropped
}

const accessLogQueue = 4096

// secretFields are never written as they are.
var secretFields = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "X-Csrf-Token"}

// newAccessLog returns nil, which logs nothing, when w is nil. It counts lines in lost that it has no time to write.
func newAccessLog(c *config.AccessLog, w io.Writer, lost *atomic.Uint64) *accessLog {
	if w == nil {
		return nil
	}
	a := &accessLog{
		all: lost, combined: c.Format == "combined", headers: c.Headers,
		lines: make(chan []byte, accessLogQueue), stop: make(chan struct{}), done: make(chan struct{}),
	}
	names := secretFields
	for _, name := range c.Redact {
		if name != "" && len(name) < len(a.redact) {
			names = append(names, name)
		}
	}
	a.redact = message.NewNames(names...)
	a.log = slog.New(slog.NewJSONHandler(a, nil))
	go a.write(w)
	return a
}

func (a *accessLog) write(w io.Writer) {
	defer close(a.done)
	for {
		select {
		case line := <-a.lines:
			_, _ = w.Write(line)
			a.confess(w)
		case <-a.stop:
			for len(a.lines) > 0 {
				_, _ = w.Write(<-a.lines)
			}
			a.confess(w)
			return
		}
	}
}

// confess tells how many lines were lost since it last did.
func (a *accessLog) confess(w io.Writer) {
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

// Write queues one line; slog calls it once a record.
func (a *accessLog) Write(line []byte) (int, error) {
	select {
	case a.lines <- appendHarmless(nil, line):
	default:
		a.dropped.Add(1)
		a.all.Add(1)
	}
	return len(line), nil
}

// appendHarmless appends a line of JSON in which nothing acts on a terminal. JSON itself, and so slog, would leave DEL, the C1 controls and
// what turns writing round as they are.
func appendHarmless(b, line []byte) []byte {
	if !slices.ContainsFunc(line, func(c byte) bool { return c >= 0x7f }) {
		return append(b, line...)
	}
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b = append(b, line[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		line = line[size:]
	}
	return b
}

// lastLines is how long the writer may take for what is queued at the end.
const lastLines = 500 * time.Millisecond

// close waits for the queued lines, unless the writer is stuck. Requests that were cut off, such as tunnels, may still record; their lines are lost.
// It returns how many were left, which count as lost.
func (a *accessLog) close() (lost uint64) {
	if a == nil {
		return 0
	}
	close(a.stop)
	select {
	case <-a.done:
	case <-time.After(lastLines):
		lost = uint64(len(a.lines)) + 1 // with the one that is being written
		a.all.Add(lost)
	}
	return lost
}

func (a *accessLog) record(x *exchange) {
	if a == nil {
		return
	}
	if a.combined {
		_, _ = a.Write(a.line(x))
		return
	}
	r, target := x.request, x.attempt.Target()
	attrs := append(make([]slog.Attr, 0, 24),
		slog.String("request_id", string(appendID(nil, x.id))),
		slog.String("host", r.Host), slog.String("method", r.Method), slog.String("target", a.redacted(x.target)), slog.String("proto", r.Proto),
		slog.Int("status", x.w.status), slog.Int64("bytes_in", x.bytesIn), slog.Int64("bytes_out", x.w.bytes),
		slog.Float64("duration_ms", milliseconds(x.took)),
		slog.String("remote", r.Conn.Remote), slog.Uint64("handshake", r.Conn.Handshake),
	)
	if x.trace.Valid() {
		attrs = append(attrs, slog.String("trace_id", x.trace.Trace.String()))
	}
	if target != "" {
		attrs = append(attrs, slog.String("upstream", target), slog.Float64("wait_ms", milliseconds(x.attempt.Wait)),
			slog.Float64("connect_ms", milliseconds(r.Connecting)), slog.Float64("first_byte_ms", milliseconds(x.attempt.Answer)))
	}
	client := r.Client
	if client == r.Conn.Client {
		client = ""
	}
	for _, optional := range [...]struct{ key, value string }{
		{"client", client}, {"user", x.user}, {"user_agent", r.Fields.Value("User-Agent")}, {"error", x.err},
	} {
		if optional.value != "" {
			attrs = append(attrs, slog.String(optional.key, optional.value))
		}
	}
	if x.attempt.Retries > 0 {
		attrs = append(attrs, slog.Int("retries", x.attempt.Retries))
	}
	if x.w.aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	if len(a.headers) > 0 {
		attrs = append(attrs, a.fields(r.Fields))
	}
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (a *accessLog) fields(f message.Fields) slog.Attr {
	var values []any
	for _, name := range a.headers {
		value, ok := f.Get(name)
		switch {
		case !ok:
			continue
		case a.redact.Has(name):
			value = redaction
		case message.Is(name, "Referer"):
			value = a.redacted(value)
		}
		values = append(values, slog.String(strings.ToLower(name), value))
	}
	return slog.Group("headers", values...)
}

const redaction = "REDACTED"

// redacted takes what should stay secret out of a query.
func (a *accessLog) redacted(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	changed := false
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok && a.redact.Has(paths.Decode(name)) {
			pairs[i], changed = name+"="+redaction, true
		}
	}
	if !changed {
		return target
	}
	return path + "?" + strings.Join(pairs, "&")
}

// line is a request in Apache's combined format, which has no place for more.
func (a *accessLog) line(x *exchange) []byte {
	r := x.request
	text := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	b := fmt.Appendf(nil, "%s - %s [%s] \"", text(r.Client), text(escaped(strings.ReplaceAll(x.user, " ", "_"))), x.start.Format("02/Jan/2006:15:04:05 -0700"))
	b = fmt.Appendf(b, "%s %s %s\" %d %d", escaped(r.Method), escaped(a.redacted(x.target)), r.Proto, x.w.status, x.w.bytes)
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

// recordStream is for a connection that is not HTTP, when it has ended.
func (a *accessLog) recordStream(c *stream) {
	if a == nil {
		return
	}
	took := time.Since(c.start)
	why := ""
	if c.err != nil {
		why = c.err.Error()
	}
	if a.combined {
		_, _ = a.Write(fmt.Appendf(nil, "%s - - [%s] \"CONNECTION %s TCP\" %s %d \"-\" \"-\"\n", c.facts.Client, c.start.Format("02/Jan/2006:15:04:05 -0700"), escaped(c.name), "-", c.out))
		return
	}
	attrs := []slog.Attr{
		slog.String("server_name", c.name), slog.Int64("bytes_in", c.in), slog.Int64("bytes_out", c.out), slog.Float64("duration_ms", milliseconds(took)),
		slog.String("remote", c.facts.Remote), slog.Uint64("handshake", c.facts.Handshake),
	}
	if target := c.attempt.Target(); target != "" {
		attrs = append(attrs, slog.String("upstream", target), slog.Float64("wait_ms", milliseconds(c.attempt.Wait)), slog.Float64("connect_ms", milliseconds(c.attempt.Answer)))
	}
	if c.attempt.Retries > 0 {
		attrs = append(attrs, slog.Int("retries", c.attempt.Retries))
	}
	if why != "" {
		attrs = append(attrs, slog.String("error", why))
	}
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "connection", attrs...)
}
