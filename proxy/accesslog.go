package proxy

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// accessLog writes one JSON line a request. A writer that cannot keep up loses lines, which are counted; no request waits for it.
type accessLog struct {
	log     *slog.Logger
	lines   chan []byte
	stop    chan struct{} // closed to end the writer
	done    chan struct{} // closed when it has ended
	dropped atomic.Uint64
}

const accessLogQueue = 4096

// newAccessLog returns nil, which logs nothing, when w is nil.
func newAccessLog(w io.Writer) *accessLog {
	if w == nil {
		return nil
	}
	a := &accessLog{lines: make(chan []byte, accessLogQueue), stop: make(chan struct{}), done: make(chan struct{})}
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
		case <-a.stop:
			for len(a.lines) > 0 {
				_, _ = w.Write(<-a.lines)
			}
			return
		}
	}
}

// Write queues one line; slog calls it once a record.
func (a *accessLog) Write(line []byte) (int, error) {
	select {
	case a.lines <- append([]byte(nil), line...):
	default:
		a.dropped.Add(1)
	}
	return len(line), nil
}

// close waits for the queued lines. Requests that were cut off, such as tunnels, may still record; their lines are lost.
func (a *accessLog) close() {
	if a == nil {
		return
	}
	close(a.stop)
	<-a.done
}

func (a *accessLog) record(x *exchange) {
	if a == nil {
		return
	}
	r, bytesIn, target := x.request, x.bytesIn, x.attempt.Target()
	if r.Body != nil {
		bytesIn += r.Body.Received()
	}
	attrs := []slog.Attr{
		slog.String("host", r.Host), slog.String("method", r.Method), slog.String("target", x.target), slog.String("proto", r.Proto),
		slog.Int("status", x.w.status), slog.Int64("bytes_in", bytesIn), slog.Int64("bytes_out", x.w.bytes),
		slog.Float64("duration_ms", float64(time.Since(x.start).Microseconds())/1000),
	}
	if r.Conn != nil {
		attrs = append(attrs, slog.String("remote", r.Conn.Remote), slog.Uint64("handshake", r.Conn.Handshake))
	}
	for _, optional := range [...]struct{ key, value string }{
		{"upstream", target}, {"user_agent", r.Fields.Value("User-Agent")}, {"error", x.err},
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
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}
