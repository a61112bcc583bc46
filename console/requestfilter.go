package console

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/inspect"
)

// requestFilter is a choice of requests, as it stands in the query of an address. Empty fields choose all.
type requestFilter struct {
	Text   string // part of method, host, path, client or error
	Status string // 404, 4xx, failed or open
	Method string
	Site   string   // part of its name
	Slower string   // 200ms, or a number of milliseconds
	ids    []uint64 // these alone
	before uint64   // older than this one
	least  time.Duration
}

// newRequestFilter reads a filter. An error has what cannot be understood: nothing is chosen by half of a filter.
func newRequestFilter(q url.Values) (f requestFilter, err error) {
	f = requestFilter{
		Text: strings.ToLower(q.Get("text")), Status: strings.ToLower(q.Get("status")), Method: strings.ToUpper(q.Get("method")),
		Site: strings.ToLower(q.Get("site")), Slower: q.Get("slower"),
	}
	if !isStatus(f.Status) {
		return f, fmt.Errorf("status must be a number such as 404, a class such as 5xx, failed or open, not %q", q.Get("status"))
	}

	if f.Slower != "" {
		if f.least, err = atLeast(f.Slower); err != nil {
			return f, err
		}
	}

	for _, text := range q["id"] {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return f, fmt.Errorf("id must be the number of a request, not %q", text)
		}
		f.ids = append(f.ids, id)
	}

	if before := q.Get("before"); before != "" {
		if f.before, err = strconv.ParseUint(before, 10, 64); err != nil {
			return f, fmt.Errorf("before must be the number of a request, not %q", before)
		}
	}
	return f, nil
}

// isStatus reports whether a filter can have this status.
func isStatus(text string) bool {
	switch text {
	case "", "failed", "open", "1xx", "2xx", "3xx", "4xx", "5xx":
		return true
	}
	n, err := strconv.Atoi(text)
	return err == nil && n >= 100 && n <= 999
}

// atLeast reads a duration such as 200ms, or a number of milliseconds.
func atLeast(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "ms")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("slower must be a duration such as 200ms, not %q", text)
	}
	return d, nil
}

func (f *requestFilter) matches(r *inspect.Request) bool {
	switch {
	case len(f.ids) > 0 && !slices.Contains(f.ids, r.ID), f.before > 0 && r.ID >= f.before, r.Duration < f.least:
		return false
	case f.Method != "" && r.Method != f.Method, !strings.Contains(strings.ToLower(r.Site), f.Site):
		return false
	case !f.hasStatus(r):
		return false
	}
	return f.Text == "" || strings.Contains(strings.ToLower(r.Method+" "+r.Host+r.Target+" "+r.Remote+" "+r.Error), f.Text)
}

func (f *requestFilter) hasStatus(r *inspect.Request) bool {
	switch f.Status {
	case "":
		return true
	case "failed":
		return failedRequest(r)
	case "open":
		return !r.Done
	}
	text := strconv.Itoa(r.Status)
	return f.Status == text || f.Status == text[:1]+"xx"
}

// failedRequest reports whether a person should look at a request.
func failedRequest(r *inspect.Request) bool {
	return r.Aborted || r.Status >= 500 || r.Done && r.Status == 0
}

// Query is the filter as part of an address.
func (f *requestFilter) Query() string {
	q := url.Values{}
	for key, value := range map[string]string{"text": f.Text, "status": f.Status, "method": f.Method, "site": f.Site, "slower": f.Slower} {
		if value != "" {
			q.Set(key, value)
		}
	}
	for _, id := range f.ids {
		q.Add("id", strconv.FormatUint(id, 10))
	}
	return q.Encode()
}
