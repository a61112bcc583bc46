package console

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"padlock/handshake"
)

const notRecorded = "Handshakes are not recorded: start padlock with --handshakes all."

// handshakes streams what the filter lets through: what is remembered, then with follow what comes. The format is
// story, line or json; colour and width, in columns, are for terminals.
func (a *Admin) handshakes(w http.ResponseWriter, r *http.Request) {
	if a.o.Recent == nil {
		http.Error(w, notRecorded, http.StatusNotFound)
		return
	}

	query := r.URL.Query()
	kind := map[string]string{"": "application/x-ndjson", "json": "application/x-ndjson", "line": "text/plain; charset=utf-8", "story": "text/plain; charset=utf-8"}[query.Get("format")]
	if kind == "" {
		http.Error(w, "format must be story, line or json", http.StatusBadRequest)
		return
	}

	chosen, err := newFilter(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", kind)
	tell := func(e *handshake.Event) error {
		if !chosen.matches(e) {
			return nil
		}
		return write(w, e, query)
	}

	if query.Get("follow") == "" {
		events := a.o.Recent.Events()
		for i := len(events) - 1; i >= 0; i-- {
			if tell(events[i]) != nil {
				return
			}
		}
		return
	}

	controller := http.NewResponseController(w)
	// The watcher sees at once that it is connected.
	_ = controller.Flush()
	_ = a.o.Recent.Follow(r.Context(), func(e *handshake.Event) error {
		if err := tell(e); err != nil {
			return err
		}
		return controller.Flush()
	})
}

func write(w io.Writer, e *handshake.Event, query url.Values) error {
	var b bytes.Buffer
	switch query.Get("format") {
	case "story":
		width, _ := strconv.Atoi(query.Get("width")) // 0: as long as lines come
		handshake.NewStory(&b, handshake.StoryOptions{Colour: query.Get("colour") != "", Width: func() int { return width }}).Handshake(e)
	case "line":
		handshake.NewLine(&b).Handshake(e)
	default:
		handshake.NewJSON(&b).Handshake(e)
	}
	_, err := w.Write(b.Bytes())
	return err
}
