package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// copies are the requests that a mirror's target has got.
type copies struct {
	mu  sync.Mutex
	all []string
}

func (c *copies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.all = append(c.all, strings.Join([]string{
		r.Method, r.Host, r.URL.String(), string(body), r.Header.Get("X-Mirrored"), r.Header.Get("Cookie") + r.Header.Get("Authorization"), r.Header.Get("X-Rule"),
	}, " "))
	c.mu.Unlock()
	w.WriteHeader(500)
	_, _ = io.WriteString(w, "the mirror's answer")
}

func (c *copies) wait(t *testing.T, n int) []string {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		all := c.all
		if len(all) >= n {
			c.all = nil
			c.mu.Unlock()
			return all
		}
		c.mu.Unlock()
		if time.Now().After(limit) {
			t.Fatalf("%d copies: %q", len(all), all)
		}
	}
}

// Copies are what the first target gets, over every protocol, but for secrets, and clients get the first target's
// responses alone; content above the limit and upgrades are not copied.
func TestMirrorCopiesRequests(t *testing.T) {
	t.Parallel()
	seen := &copies{}
	mirror := backend(t, seen.ServeHTTP)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		_, _ = io.WriteString(w, " first "+r.Header.Get("Cookie")+r.Header.Get("X-Mirrored"))
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {path: /app, strip_prefix: true, to: %q, mirror: {to: %q, body: 1KiB}, headers: {request: {set: {X-Rule: applied}}}}
      - {path: /all, to: %[1]q, buffer: {request: 1MiB}, mirror: {to: %[2]q, secrets: true}}
      - {path: /down, to: %[1]q, mirror: {to: "127.0.0.1:1"}}
`, target, mirror)
	secrets := []string{"Cookie", "session=secret", "Authorization", "Bearer secret", "X-Mirrored", ""}
	for name, client := range e.everyClient(t) {
		post := func(path, content string) string {
			t.Helper()
			request, err := http.NewRequest("POST", "https://localhost"+path, strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(secrets); i += 2 {
				request.Header.Set(secrets[i], secrets[i+1])
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != 200 || !strings.HasSuffix(string(body), " first session=secret") {
				t.Errorf("%s: %s: %s %.200s", name, path, response.Status, body)
			}
			return string(body)
		}

		fetch(t, client, "GET", "https://localhost/app/x?y=1", secrets...)
		if got := seen.wait(t, 1); got[0] != "GET localhost /x?y=1  1  applied" {
			t.Errorf("%s: %q", name, got)
		}
		post("/app/x", "content")
		if got := seen.wait(t, 1); got[0] != "POST localhost /x content 1  applied" {
			t.Errorf("%s: %q", name, got)
		}
		post("/all", "content")
		if got := seen.wait(t, 1); got[0] != "POST localhost /all content 1 session=secretBearer secret " {
			t.Errorf("%s: %q", name, got)
		}

		// A mirror that is down, and content that is too large, are nothing to the client.
		post("/down", "content")
		post("/app/large", strings.Repeat("x", 2<<10))
		post("/app/small", "y")
		if got := seen.wait(t, 1); !strings.Contains(got[0], "/small y") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A mirror that does not answer slows no request, however many come, and holds a bounded number of copies; the end of
// padlock does not wait for them.
func TestAMirrorThatHangsSlowsNobody(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	var open, most atomic.Int64
	mirror := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- struct{}{}:
		default:
		}
		n := open.Add(1)
		defer open.Add(-1)
		for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
		}
		<-r.Context().Done()
	})
	target := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "first") })
	e := startFile(t, "sites: [{hosts: [localhost], routes: [{to: %q, mirror: {to: %q}}]}]", target, mirror)
	for name, client := range e.everyClient(t) {
		for range 100 {
			began := time.Now()
			if response, body := fetch(t, client, "GET", "https://localhost/"); response.StatusCode != 200 || body != "first" {
				t.Fatalf("%s: %s %s", name, response.Status, body)
			}
			// A copy may take longer, so this one was not waited for.
			if took := time.Since(began); took > 9*time.Second {
				t.Errorf("%s: a request took %s", name, took)
			}
		}
	}
	<-arrived
	// The mirror notices later than padlock that a copy has been given up.
	if n := most.Load(); n > 2*64 {
		t.Errorf("%d copies at once", n)
	}
}
