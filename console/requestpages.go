package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"padlock/handshake"
	"padlock/inspect"
)

func contextWithTimeout(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), replayTime)
}

// requestFunctions are for the templates of requests.
func requestFunctions() map[string]any {
	return map[string]any{
		"size": size, "spent": took2, "class": requestClass, "state": requestState,
		"statuses": func(chosen string) []place {
			return offered([]place{{"", "all"}, {"failed", "failed"}, {"open", "open"}, {"2xx", "2xx"}, {"3xx", "3xx"}, {"4xx", "4xx"}, {"5xx", "5xx"}}, chosen)
		},
		"methods": func(chosen string) []place {
			places := []place{{"", "all"}}
			for _, name := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
				places = append(places, place{name, name})
			}
			return offered(places, chosen)
		},
		"dump":    func(m inspect.Message) string { return inspect.Dump(m.Data[:min(len(m.Data), shownMessage)]) },
		"formats": inspect.Formats, "first": firstLine, "clip": clip,
	}
}

// requestClass is the colour of a row.
func requestClass(r *inspect.Request) string {
	switch {
	case failedRequest(r):
		return "failing"
	case r.Status >= 400:
		return "refused"
	case r.Status >= 300:
		return "moved"
	}
	return "fine"
}

func requestState(r *inspect.Request) string {
	if r.Status == 0 && !r.Done {
		return "…"
	}
	if r.Status == 0 {
		return "–"
	}
	return strconv.Itoa(r.Status)
}

func (a *Admin) requestPage(w http.ResponseWriter, r *http.Request) {
	f, err := newRequestFilter(r.URL.Query())
	data := struct {
		head
		Refused  error // why the filter cannot be understood; nil: it can
		Recorded bool
		Filter   *requestFilter
		Requests []*inspect.Request
		All      int
		Older    uint64 // there are more before this one; 0: there are none
	}{head: a.head("Requests", "/inspect"), Refused: err, Recorded: a.o.Requests != nil, Filter: &f}

	if a.o.Requests != nil {
		all := a.o.Requests.Recent()
		data.All = len(all)
		for _, one := range all {
			if err != nil || !f.matches(one) {
				continue
			}
			if len(data.Requests) == listed {
				data.Older = data.Requests[listed-1].ID
				break
			}
			data.Requests = append(data.Requests, one)
		}
	}
	a.pages.show(w, filtered(err), "requests", data)
}

// liveRequests sends rows of requests as they begin and change, as server-sent events.
func (a *Admin) liveRequests(w http.ResponseWriter, r *http.Request) {
	if a.o.Requests == nil {
		http.Error(w, noRequests, http.StatusNotFound)
		return
	}
	f, err := newRequestFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, seen := a.o.Requests.Since(0)
	stream := newEventStream(w, r, seen)
	due := dueRows{latest: map[uint64]*inspect.Request{}}
	stream.run(r, func() error {
		changed, now := a.o.Requests.Since(stream.seen)
		stream.seen = now
		for _, one := range changed {
			if f.matches(one) {
				due.put(one)
			}
		}
		chosen := due.take()
		if len(chosen) == 0 {
			return stream.quiet()
		}

		var rows bytes.Buffer
		for _, one := range chosen {
			html, err := a.pages.render("request-row", one)
			if err != nil {
				return err
			}
			rows.Write(html)
		}
		if err := stream.event("rows", rows.Bytes()); err != nil {
			return err
		}
		if left := len(due.order); left > 0 {
			return stream.event("pulse", fmt.Appendf(nil, "live; %d more rows follow", left))
		}
		return stream.event("pulse", []byte("live"))
	})
}

// dueRows are the requests that have changed and whose rows a page does not have yet. Whatever happens at once, each row
// comes to what its request has come to.
type dueRows struct {
	order  []uint64 // that have waited for longest first
	latest map[uint64]*inspect.Request
}

func (d *dueRows) put(r *inspect.Request) {
	if d.latest[r.ID] == nil {
		d.order = append(d.order, r.ID)
	}
	d.latest[r.ID] = r
}

// take gives the rows of one batch, newest first: half of them are the newest, which people look at, and half those that
// have waited for longest.
func (d *dueRows) take() (rows []*inspect.Request) {
	newest := slices.Clone(d.order)
	slices.Sort(newest)
	slices.Reverse(newest)
	if len(newest) > listed {
		// A page has no more rows.
		oldest := newest[listed-1]
		newest = newest[:listed]
		d.drop(func(id uint64) bool { return id < oldest })
	}

	ids := slices.Clone(d.order[:min(len(d.order), liveRows/2)])
	for _, id := range newest {
		if len(ids) < liveRows && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Backward(ids) {
		rows = append(rows, d.latest[id])
	}
	d.drop(func(id uint64) bool { return slices.Contains(ids, id) })
	return rows
}

// drop forgets those that are not due any more.
func (d *dueRows) drop(gone func(id uint64) bool) {
	d.order = slices.DeleteFunc(d.order, func(id uint64) bool {
		if !gone(id) {
			return false
		}
		delete(d.latest, id)
		return true
	})
}

// requestDetail is one request, prepared for people.
type requestDetail struct {
	head
	*inspect.Request
	Concealed, Repeats bool
	Revealed           bool // secrets are shown
	Facts              []fact
	Spans              []span
	Asked, Answer      message
	Handshaken         *handshake.Event
	Editable           string // content that a person can edit; "": none
	Heads              string // the request's fields, a line each
	Whole              bool   // all of the content is known, and can be edited
}

// Follows reports whether messages may come still.
func (d *requestDetail) Follows() bool {
	return !d.Done && (d.Tunnel || len(d.Messages) > 0 || strings.HasPrefix(inspect.Value(d.Response, "Content-Type"), eventStreamType))
}

// Seen is how many messages there were, of which the page has the last.
func (d *requestDetail) Seen() int { return d.Earlier + len(d.Messages) }

// clip bounds what a row shows of an address, which may have 64 KiB.
func clip(target string) string {
	const most = 300
	if len(target) <= most {
		return spelled(target)
	}
	return spelled(strings.ToValidUTF8(target[:most], "")) + "…"
}

// spelled is a text in one line, in which nothing is hidden and nothing turns what stands beside it: control characters,
// and marks of the direction of writing.
func spelled(s string) string {
	if !strings.ContainsFunc(s, turns) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if turns(r) {
			fmt.Fprintf(&b, `\u{%x}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func turns(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}

// firstLine is the beginning of a message that is text.
func firstLine(m inspect.Message) string {
	const most = 80
	if m.Raw || !inspect.Readable(m.Data) {
		return ""
	}
	text := m.Data[:min(len(m.Data), 4*most)]
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(text), "")), "\n")
	if runes := []rune(line); len(runes) > most {
		return spelled(string(runes[:most])) + "…"
	}
	return spelled(line)
}

// message is one of the two, with what padlock has changed.
type message struct {
	Title    string
	Line     string // before
	Becomes  string // after; "": the same
	Changes  []inspect.Change
	Content  *inspect.Content
	View     inspect.View
	Side     string // in | out
	ID       uint64
	Compared bool // there is another to compare with
	Revealed bool // secrets are shown
}

// fact is a value with its name.
type fact struct{ Value, Name string }

// span is a part of the time that a request took, for the waterfall.
type span struct {
	Name, Took string
	Series     int
	X, Width   float64 // of 600
}

func (a *Admin) requestDetail(r *inspect.Request, concealed, revealed bool) *requestDetail {
	d := &requestDetail{
		head: a.head(fmt.Sprintf("Request #%d", r.ID), ""), Request: r, Concealed: concealed, Revealed: revealed,
		Repeats: a.o.Replay != nil && !r.Tunnel && r.Method != "CONNECT", Whole: !r.In.Cut && editable(r),
	}
	if a.o.Recent != nil && r.Handshake != 0 {
		d.Handshaken = a.o.Recent.Find(r.Handshake)
	}

	if more := len(r.Messages) - shownMessages; more > 0 {
		r.Messages, r.Earlier = r.Messages[more:], r.Earlier+more
	}

	d.Asked = message{
		Title: "Request", Line: r.Method + " " + spelled(r.Target), Changes: inspect.Diff(r.Received, r.Received), Content: &r.In,
		View: inspect.NewView(r.Received, &r.In, r.Target), Side: "in", ID: r.ID, Revealed: revealed,
	}
	// Before a request reaches a target there is nothing to compare with.
	if r.SentTarget != "" {
		host := func(fields []inspect.Field, name string) []inspect.Field {
			return append([]inspect.Field{{Name: "Host", Value: name}}, fields...)
		}
		d.Asked.Changes, d.Asked.Compared = inspect.Diff(host(r.Received, r.Host), host(r.Sent, r.SentHost)), true
		if r.SentTarget != r.Target || r.SentMethod != r.Method {
			d.Asked.Becomes = r.SentMethod + " " + spelled(r.SentTarget)
		}
	}

	d.Answer = message{
		Title: "Response", Line: requestState(r) + " " + http.StatusText(r.Status), Changes: inspect.Diff(r.Response, r.Response), Content: &r.Out,
		View: inspect.NewView(r.Response, &r.Out, r.Target), Side: "out", ID: r.ID, Revealed: revealed,
	}
	if r.TargetStatus != 0 {
		d.Answer.Changes, d.Answer.Compared = inspect.Diff(r.Answered, r.Response), true
		if r.TargetStatus != r.Status {
			d.Answer.Line, d.Answer.Becomes = fmt.Sprintf("%d %s", r.TargetStatus, http.StatusText(r.TargetStatus)), d.Answer.Line
		}
	}

	d.Facts, d.Spans = requestFacts(r), waterfall(r, d.Handshaken)
	d.Heads = "Host: " + r.Host + "\n"
	for _, f := range r.Received {
		d.Heads += f.Name + ": " + f.Value + "\n"
	}
	if d.Whole {
		d.Editable = string(r.In.Data)
	}
	return d
}

// shownMessages bounds the messages on a page; JSON has all that are remembered.
const (
	shownMessages = 200
	shownMessage  = 64 << 10 // bytes of one
)

// maxEdited bounds the content that a page has in a form.
const maxEdited = 256 << 10

// editable reports whether a person can edit the content: it is text, and in no coding.
func editable(r *inspect.Request) bool {
	coding := inspect.Value(r.Received, "Content-Encoding")
	return len(r.In.Data) <= maxEdited && (coding == "" || coding == "identity") && inspect.Readable(r.In.Data)
}

func requestFacts(r *inspect.Request) []fact {
	status := requestState(r) + " " + http.StatusText(r.Status)
	if r.Aborted {
		status += ", cut short"
	}
	took := took2(r)
	if !r.Done {
		took += ", under way"
	}
	facts := []fact{
		{status, "Status"}, {took, "Duration"}, {size(r.In.Size) + " in, " + size(r.Out.Size) + " out", "Content"}, {r.Proto, "Protocol"}, {r.Remote, "Client"}, {r.Site, "Site"},
	}
	if status := r.GRPCStatus(); status != "" {
		facts = append(facts, fact{status, "gRPC status"})
	}
	if r.User != "" {
		facts = append(facts, fact{r.User, "User"})
	}
	if len(r.Interim) > 0 {
		facts = append(facts, fact{strings.Trim(fmt.Sprint(r.Interim), "[]"), "Interim responses"})
	}
	return append(facts, fact{r.RequestID, "Request ID"})
}

// spanTook is a part of the time, with as much as stands in its place.
func spanTook(took time.Duration) string {
	if took >= time.Second {
		return fmt.Sprintf("%.2f s", took.Seconds())
	}
	return fmt.Sprintf("%.2f ms", float64(took.Microseconds())/1000)
}

// soon is how long after its handshake a request is the one that the connection was made for.
const soon = 2 * time.Second

// waterfall is where the time went, from the accepted connection to the last byte.
func waterfall(r *inspect.Request, e *handshake.Event) (spans []span) {
	type part struct {
		name     string
		series   int
		at, took time.Duration
	}
	var parts []part
	add := func(name string, series int, at, took time.Duration) {
		if took > 0 {
			parts = append(parts, part{name, series, at, took})
		}
	}

	if e != nil && e.Duration > 0 {
		ended := e.Start.Add(e.Duration).Sub(r.Start)
		if ended <= 0 && ended > -soon {
			trip := min(e.Timings.RoundTrip, e.Duration)
			add("accept to hello", 8, ended-e.Duration, trip)
			add("handshake", 1, ended-e.Duration+trip, e.Duration-trip)
		}
	}

	at := time.Duration(0)
	for i, t := range r.Tries {
		if i == 0 {
			add("filters and content", 4, 0, t.At-r.Wait)
			add("waiting for a target", 2, max(0, t.At-r.Wait), min(r.Wait, t.At))
		}
		place := t.At
		add("connect", 3, place, t.Connect)
		add("TLS to the target", 1, place+t.Connect, t.TLS)
		place += t.Connect + t.TLS
		took := t.Took
		if took == 0 && !r.Done {
			took = r.Duration - t.At
		}
		if at = t.At + took; t.Error != "" {
			add("failed: "+t.Error, 9, place, at-place)
		} else {
			add("waiting for the first byte", 0, place, at-place)
		}
	}

	end := r.Duration
	if r.FirstByte > at {
		add("padlock", 4, at, r.FirstByte-at)
		at = r.FirstByte
	}
	if r.FirstByte > 0 {
		add("content", 2, at, end-at)
	}
	if len(parts) == 0 {
		return nil
	}

	first, last := min(0, parts[0].at), end
	for _, p := range parts {
		last = max(last, p.at+p.took)
	}
	whole := max(last-first, time.Microsecond)
	for _, p := range parts {
		x, width := 600*float64(p.at-first)/float64(whole), 600*float64(p.took)/float64(whole)
		spans = append(spans, span{
			Name: p.name, Series: p.series, Took: spanTook(p.took),
			// What is short stays visible.
			X: min(x, 597), Width: max(width, 3),
		})
	}
	return spans
}
