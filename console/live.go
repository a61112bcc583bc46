package console

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"padlock/handshake"
)

const (
	liveEvery  = 250 * time.Millisecond // batches: eyes see no more
	liveRows   = 16                     // of one batch; what is more is counted
	liveSilent = 15 * time.Second       // after which a comment keeps the connection
)

// live sends the handshakes that the filter lets through as they happen, as server-sent events: rows and attention in
// HTML, pulse in words. A watcher costs the same whatever happens: of many handshakes at once it gets the last.
func (a *Admin) live(w http.ResponseWriter, r *http.Request) {
	if a.o.Recent == nil {
		http.Error(w, notRecorded, http.StatusNotFound)
		return
	}

	f, err := newFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, seen := a.o.Recent.Since(0)
	watch := &watcher{admin: a, filter: f, eventStream: newEventStream(w, r, seen)}
	watch.run(r, watch.tick)
}

// process tells a page whether it is connected to the process that its rows are from: numbers begin again with another.
var process = strconv.FormatInt(time.Now().UnixNano(), 36)

// eventStream is what a page listens to.
type eventStream struct {
	w       http.ResponseWriter
	seen    uint64 // events
	written time.Time
}

func newEventStream(w http.ResponseWriter, r *http.Request, seen uint64) *eventStream {
	w.Header().Set("Content-Type", eventStreamType)
	if last, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil && last <= seen {
		// A watcher that was disconnected comes back with the number of the last event that it has seen.
		seen = last
	}
	return &eventStream{w: w, seen: seen, written: time.Now()}
}

// run calls tick until the watcher has gone. Rows are sent in batches, as a page cannot show hundreds of changes a
// second.
func (t *eventStream) run(r *http.Request, tick func() error) {
	controller := http.NewResponseController(t.w)
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	_, _ = io.WriteString(t.w, "retry: 1000\nevent: process\ndata: "+process+"\n\n")

	for controller.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
		if tick() != nil {
			return
		}
	}
}

// watcher is one open console.
type watcher struct {
	*eventStream
	admin  *Admin
	filter filter
	rate   float64 // events a second, smoothed
}

func (t *watcher) tick() error {
	events, count := t.admin.o.Recent.Since(t.seen)
	came := count - t.seen
	t.seen = count
	t.admin.missed.Add(came - uint64(len(events)))
	t.rate += (float64(came)/liveEvery.Seconds() - t.rate) / 4
	if came == 0 {
		return t.quiet()
	}

	var chosen []*handshake.Event
	failed := false
	// The newest stands first, where people look.
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		failed = failed || attention(e)
		if t.filter.matches(e) {
			chosen = append(chosen, e)
		}
	}

	if failed {
		if err := t.send("attention", "attention", troubles(t.admin.o.Recent.Failures())); err != nil {
			return err
		}
	}

	if len(chosen) > 0 {
		var rows bytes.Buffer
		for _, e := range chosen[:min(len(chosen), liveRows)] {
			html, err := t.admin.pages.render("row", e)
			if err != nil {
				return err
			}
			rows.Write(html)
			if t.admin.shown.Find(e.ID) == nil {
				t.admin.shown.Handshake(e)
			}
		}

		if err := t.event("rows", rows.Bytes()); err != nil {
			return err
		}
	}

	return t.event("pulse", t.pulse(len(chosen)))
}

func (t *watcher) pulse(chosen int) []byte {
	b := fmt.Appendf(nil, "%.0f a second", t.rate)
	if t.rate < 1.5 {
		b = []byte("live")
	}
	if more := chosen - liveRows; more > 0 {
		b = fmt.Appendf(b, "; of %d at once the last %d are shown", chosen, liveRows)
	}
	return b
}

// quiet tells of the rate while it falls.
func (t *watcher) quiet() error {
	if t.rate >= 1.5 {
		return t.event("pulse", t.pulse(0))
	}
	return t.eventStream.quiet()
}

// quiet keeps a connection alive on which nothing happens.
func (t *eventStream) quiet() error {
	if time.Since(t.written) < liveSilent {
		return nil
	}
	t.written = time.Now()
	_, err := io.WriteString(t.w, ": nothing new\n\n")
	return err
}

func (t *watcher) send(event, name string, data any) error {
	html, err := t.admin.pages.render(name, data)
	if err != nil {
		return err
	}
	return t.event(event, html)
}

// event writes one event; its lines are fields of their own.
func (t *eventStream) event(name string, data []byte) error {
	t.written = time.Now()
	b := fmt.Appendf(nil, "id: %d\nevent: %s\n", t.seen, name)
	// To a browser, a carriage return ends a line too.
	data = bytes.ReplaceAll(data, []byte{'\r'}, nil)
	for line := range bytes.SplitSeq(bytes.TrimRight(data, "\n"), []byte{'\n'}) {
		b = append(append(append(b, "data: "...), line...), '\n')
	}
	_, err := t.w.Write(append(b, '\n'))
	return err
}
