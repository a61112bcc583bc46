package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
)

// marked says with each request who asks, wherever a request can say something, and checks that the answer is for the same.
type marked struct {
	client *http.Client
	user   int
	nth    int
}

func (m *marked) marker() string { return fmt.Sprintf("user-%d-request-%d", m.user, m.nth) }

// ask makes the next request. A request that ctx ends is no failure.
func (m *marked) ask(ctx context.Context, kind string) error {
	m.nth++
	marker := m.marker()
	request, err := http.NewRequestWithContext(ctx, "POST", "https://localhost/"+kind+"/"+marker+"?q="+marker, strings.NewReader(marker))
	if err != nil {
		return err
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Marker", fmt.Sprintf("X-Of-%d", m.user)} {
		request.Header.Set(name, marker)
	}
	response, err := m.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case response.StatusCode != 200 || string(content) != marker || response.Header.Get("Set-Cookie") != marker:
		return fmt.Errorf("%s got %s %q with Set-Cookie %q", marker, response.Status, content, response.Header.Get("Set-Cookie"))
	}
	return nil
}

// mirror answers with the marker that a request carries, or 409 where it carries several.
func mirror(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	marker := string(content)
	user, _, _ := strings.Cut(strings.TrimPrefix(marker, "user-"), "-")
	said := []string{r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-Marker"), r.Header.Get("X-Of-" + user), r.URL.Query().Get("q")}
	_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	said = append(said, rest)
	if made, ok := r.Header["X-Made"]; ok {
		said = append(said, strings.TrimPrefix(made[0], "query q="))
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Of-") && name != "X-Of-"+user {
			said = append(said, name)
		}
	}
	for _, each := range said {
		if each != marker {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%q", said)
			return
		}
	}
	w.Header().Set("Set-Cookie", marker)
	switch {
	case strings.HasPrefix(r.URL.Path, "/hints/"):
		w.Header().Set("Link", marker)
		for range 3 { // a server of HTTP/2 may still read the fields when its client has left: they do not change
			w.WriteHeader(http.StatusEarlyHints)
		}
	case strings.HasPrefix(r.URL.Path, "/chunks/"):
		w.Header().Set("Trailer", "X-Sum")
		defer w.Header().Set("X-Sum", marker)
	}
	_, _ = io.WriteString(w, marker)
}

// everybody has users ask at once, each on connections of their own, and some of them leave in the middle.
func (e *edge) everybody(t *testing.T, users, requests int, leave bool, kinds ...string) {
	t.Helper()
	var all sync.WaitGroup
	var lost atomic.Int32
	for user := range users {
		clients := e.clients(t)
		m := marked{client: clients[[]string{"h1", "h2"}[user%2]], user: user}
		all.Go(func() {
			for n := range requests {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				if leave && n%4 == 1 {
					time.AfterFunc(time.Duration(n*user%7)*300*time.Microsecond, cancel)
				}
				if err := m.ask(ctx, kinds[n%len(kinds)]); err != nil && lost.Add(1) < 10 {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	for line := range strings.Lines(e.log.String()) {
		if strings.Contains(line, "panic") {
			t.Errorf("the log has %.2000s", line)
		}
	}
}

// What one request says is never another's, whoever keeps it: an encoder of HPACK keeps names and values for longer than a request.
func TestAnEncoderThatKeepsFieldsKeepsThoseOfTheirRequest(t *testing.T) {
	t.Parallel()
	e := start(t, h2cBackend(t, mirror), func(c *config.Config) {
		c.Sites[0].Fields.Request.Set = config.FieldValues{{Name: "X-Made", Value: "query {query}"}}
	})
	e.everybody(t, 16, 60, false, "plain", "chunks")
}
