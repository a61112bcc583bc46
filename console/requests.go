package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/handshake"
	"padlock/inspect"
)

const (
	noRequests = "Requests are not remembered: the admin endpoint is off."
	maxReplay  = 16 << 20 // bytes of an edited request
	replayTime = time.Minute
)

// requestHandlers answer those alone who run padlock: what they show has passwords in it, and what they send is sent in
// a client's name.
func (a *Admin) requestHandlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		requestList: a.requestPage, "GET /inspect/live": a.liveRequests,
		"GET /requests": a.requests, "GET /requests/{id}": a.request, "GET /requests/{id}/messages": a.requestMessages, "GET /requests/{id}/content/{side}": a.requestContent,
		"GET /requests.har": a.exportHAR, "GET /requests.http": a.exportHTTP,
		"POST /requests/{id}/replay": a.replay, "POST /requests/clear": a.clearRequests,
	}
}

// requests lists what the filter lets through, oldest first: what is remembered, or with follow what comes, when it has
// ended. Who accepts text/event-stream gets events of that kind.
func (a *Admin) requests(w http.ResponseWriter, r *http.Request) {
	if a.o.Requests == nil {
		http.Error(w, noRequests, http.StatusNotFound)
		return
	}

	query := r.URL.Query()
	tell, kind := a.teller(w, r, query)
	if tell == nil {
		http.Error(w, "format must be line or json", http.StatusBadRequest)
		return
	}
	f, err := newRequestFilter(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", kind)
	follow := query.Get("follow") != "" || kind == eventStreamType

	if !follow {
		all := a.o.Requests.Recent()
		slices.Reverse(all)
		for _, one := range all {
			if f.matches(one) && tell(one) != nil {
				return
			}
		}
		return
	}
	a.followRequests(w, r, &f, tell)
}

const eventStreamType = "text/event-stream"

// teller writes one request in the format that is asked for; nil: there is no such format.
func (a *Admin) teller(w io.Writer, r *http.Request, query url.Values) (tell func(*inspect.Request) error, kind string) {
	object := func(is *inspect.Request) []byte {
		// Of what a list shows everything can be written.
		text, _ := json.Marshal(is)
		return text
	}

	format := cmp.Or(query.Get("format"), "json")
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Accept")); kind == eventStreamType {
		format = "events"
	}
	switch format {
	case "events":
		return func(is *inspect.Request) error {
			_, err := fmt.Fprintf(w, "id: %d\nevent: request\ndata: %s\n\n", is.ID, object(is))
			return err
		}, eventStreamType
	case "json":
		return func(is *inspect.Request) error {
			_, err := w.Write(append(object(is), '\n'))
			return err
		}, "application/x-ndjson"
	case "line":
		colour := query.Get("colour") != ""
		return func(is *inspect.Request) error {
			_, err := io.WriteString(w, requestLine(is, colour)+"\n")
			return err
		}, "text/plain; charset=utf-8"
	}
	return nil, ""
}

// followRequests tells of requests when they have ended, and of tunnels when they begin too.
func (a *Admin) followRequests(w http.ResponseWriter, r *http.Request, f *requestFilter, tell func(*inspect.Request) error) {
	_, seen := a.o.Requests.Since(0)
	controller := http.NewResponseController(w)
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	told := map[uint64]bool{}

	// The watcher sees at once that it is connected.
	for controller.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
		changed, now := a.o.Requests.Since(seen)
		seen = now
		for _, one := range changed {
			begun := one.Tunnel && !told[one.ID]
			if !f.matches(one) || !one.Done && !begun {
				continue
			}
			if told[one.ID] = true; one.Done {
				delete(told, one.ID)
			}
			if tell(one) != nil {
				return
			}
		}
	}
}

// requestLine is a request for a terminal.
func requestLine(r *inspect.Request, colour bool) string {
	status := strconv.Itoa(r.Status)
	if r.Status == 0 {
		status = "–"
	}
	if colour {
		status = "\x1b[" + colourOf(r) + "m" + status + "\x1b[0m"
	}

	line := fmt.Sprintf("%s #%d %s %s%s  %s  %s  %s out, %s in  %s  %s", r.Start.Format("15:04:05.000"), r.ID, r.Method, handshake.Escape(r.Host),
		handshake.Escape(r.Target), status, took2(r), size(r.Out.Size), size(r.In.Size), r.Proto, r.Remote)
	for _, more := range []struct {
		is   bool
		text string
	}{
		{r.Tunnel && !r.Done, "open"}, {r.Handshake != 0, fmt.Sprintf("handshake #%d", r.Handshake)}, {r.Replay != 0, fmt.Sprintf("replay of #%d", r.Replay)},
		{r.Aborted, "cut short"}, {r.Error != "", handshake.Escape(r.Error)},
	} {
		if more.is {
			line += "  " + more.text
		}
	}
	return line
}

// colourOf is green, blue, yellow and red by the class of the status.
func colourOf(r *inspect.Request) string {
	switch {
	case failedRequest(r):
		return "31"
	case r.Status >= 400:
		return "33"
	case r.Status >= 300:
		return "34"
	}
	return "32"
}

// size is a number of bytes in words.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func took2(r *inspect.Request) string {
	if r.Duration < time.Second {
		return fmt.Sprintf("%.1f ms", float64(r.Duration.Microseconds())/1000)
	}
	if r.Duration < 10*time.Second {
		return fmt.Sprintf("%.2f s", r.Duration.Seconds())
	}
	return age(r.Duration)
}

// found is a request as it is shown: without secrets, unless they are asked for.
func (a *Admin) found(r *http.Request, id string) (is *inspect.Request, concealed bool) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || a.o.Requests == nil {
		return nil, false
	}
	if is = a.o.Requests.Find(n); is == nil || r.URL.Query().Get("reveal") != "" {
		return is, false
	}
	return is, a.o.Requests.Conceal(is)
}

// request is one of them, as a page, as a part of a page, as JSON, or as a command that sends it.
func (a *Admin) request(w http.ResponseWriter, r *http.Request) {
	text, format, _ := strings.Cut(r.PathValue("id"), ".")
	is, concealed := a.found(r, text)
	fragment := r.URL.Query().Get("fragment") != ""
	switch {
	case is == nil && fragment:
		a.pages.show(w, http.StatusNotFound, "request-forgotten", nil)
	case is == nil && format == "":
		a.pages.show(w, http.StatusNotFound, "request-gone", struct {
			head
			ID string
		}{a.head("Not remembered", ""), handshake.Escape(text)})
	case is == nil:
		http.Error(w, "This request is not remembered.", http.StatusNotFound)
	case format == "json":
		w.Header().Set("Content-Type", "application/json")
		writeJSON(w, is)
	case format != "":
		command, ok := inspect.Command(format, is)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if concealed {
			comment := "# "
			if format == "fetch" {
				comment = "// "
			}
			command = comment + inspect.Hidden + " stands for what is hidden: show secrets, and copy it then\n" + command
		}
		_, _ = io.WriteString(w, command+"\n")
	default:
		name := "request"
		if fragment {
			name = "request-detail"
		}
		a.pages.show(w, http.StatusOK, name, a.requestDetail(is, concealed, r.URL.Query().Get("reveal") != ""))
	}
}

// requestContent gives what is known of content as a file, or as an image. It is never a page of this console's.
func (a *Admin) requestContent(w http.ResponseWriter, r *http.Request) {
	is, _ := a.found(r, r.PathValue("id"))
	if is == nil {
		http.Error(w, "This request is not remembered.", http.StatusNotFound)
		return
	}

	fields, c := is.Received, &is.In
	if r.PathValue("side") == "out" {
		fields, c = is.Response, &is.Out
	}
	// Neither an HTML page nor an SVG may run here, whatever the browser makes of its type.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if image, kind := inspect.Image(fields, c); image != nil && r.URL.Query().Get("image") != "" {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(image)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="request-%d-%s.bin"`, is.ID, side(c == &is.Out)))
	_, _ = w.Write(c.Data)
}

// requestMessages are those that have come after so many, as parts of the page that shows a request while it is under
// way. Padlock-Seen is how many there were in all, and Padlock-Done says that there will be no more.
func (a *Admin) requestMessages(w http.ResponseWriter, r *http.Request) {
	is, _ := a.found(r, r.PathValue("id"))
	if is == nil {
		http.Error(w, "This request is not remembered.", http.StatusNotFound)
		return
	}
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	if is.Done {
		w.Header().Set("Padlock-Done", "1")
	}
	seen := is.Earlier + len(is.Messages)
	w.Header().Set("Padlock-Seen", strconv.Itoa(seen))
	is.Messages = is.Messages[min(max(after-is.Earlier, len(is.Messages)-shownMessages, 0), len(is.Messages)):]
	a.pages.show(w, http.StatusOK, "request-messages", is)
}

func side(response bool) string {
	if response {
		return "response"
	}
	return "content"
}

// chosen are the numbers of the requests that an export is asked for, oldest first; nil: an error was answered.
func (a *Admin) chosen(w http.ResponseWriter, r *http.Request) (ids []uint64) {
	if a.o.Requests == nil {
		http.Error(w, noRequests, http.StatusNotFound)
		return nil
	}
	f, err := newRequestFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	for _, one := range a.o.Requests.Recent() {
		if f.matches(one) {
			ids = append(ids, one.ID)
		}
	}
	slices.Reverse(ids)
	if ids == nil {
		http.Error(w, "No request is chosen.", http.StatusNotFound)
	}
	return ids
}

// each finds the requests of an export one after the other.
func (a *Admin) each(r *http.Request, ids []uint64) iter.Seq[*inspect.Request] {
	return func(yield func(*inspect.Request) bool) {
		for _, id := range ids {
			if is, _ := a.found(r, strconv.FormatUint(id, 10)); is != nil && !yield(is) {
				return
			}
		}
	}
}

func (a *Admin) exportHAR(w http.ResponseWriter, r *http.Request) {
	if ids := a.chosen(w, r); ids != nil {
		attach(w, "application/json", "requests.har")
		_ = inspect.WriteHAR(w, a.o.Version, a.each(r, ids))
	}
}

func (a *Admin) exportHTTP(w http.ResponseWriter, r *http.Request) {
	if ids := a.chosen(w, r); ids != nil {
		attach(w, "text/plain; charset=utf-8", "requests.http")
		for is := range a.each(r, ids) {
			if _, err := w.Write(inspect.HTTPFile([]*inspect.Request{is})); err != nil {
				return
			}
		}
	}
}

func attach(w http.ResponseWriter, kind, name string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// asksByScript refuses what a form of another page could send without asking first: browsers send this type only after
// the console has allowed it, which it never does.
func asksByScript(w http.ResponseWriter, r *http.Request) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "Send JSON, with Content-Type: application/json.", http.StatusUnsupportedMediaType)
		return false
	}
	return true
}

// replay sends a request once more, as it was or as the body says, and answers with the number of the new one.
func (a *Admin) replay(w http.ResponseWriter, r *http.Request) {
	if !asksByScript(w, r) {
		return
	}
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || a.o.Replay == nil {
		http.Error(w, "This request is not remembered.", http.StatusNotFound)
		return
	}

	var edit inspect.Edit
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReplay))
	if err == nil && len(bytes.TrimSpace(text)) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(text))
		// A key with a slip in it would send the request as it was.
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&edit)
	}
	if err != nil {
		http.Error(w, `What to send cannot be read; it looks like {"method": "PUT", "target": "/path", "headers": [{"name": "Accept", "value": "*/*"}], "content": "text"}: `+err.Error(), http.StatusBadRequest)
		return
	}

	ctx, cancel := contextWithTimeout(r)
	defer cancel()
	again, err := a.o.Replay(ctx, id, edit)
	var cannot *inspect.UnrepeatableError
	switch {
	case errors.As(err, &cannot), errors.Is(err, inspect.ErrNotServed):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		is := a.o.Requests.Find(again)
		if is == nil {
			http.Error(w, "The request was sent, and is forgotten already.", http.StatusNotFound)
			return
		}
		writeJSON(w, struct {
			ID       uint64 `json:"id"`
			Status   int    `json:"status"`
			Duration string `json:"duration"`
			Error    string `json:"error,omitempty"`
		}{again, is.Status, took2(is), is.Error})
	}
}

func (a *Admin) clearRequests(w http.ResponseWriter, r *http.Request) {
	if asksByScript(w, r) && a.o.Requests != nil {
		a.o.Requests.Clear()
		w.WriteHeader(http.StatusNoContent)
	}
}
