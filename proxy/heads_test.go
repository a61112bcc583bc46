package proxy_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Fields of requests that wait for their answer count like content: a connection of HTTP/2 or 3 has room for two of the
// largest heads, and what is beyond that is shared. What is answered counts no more.
func TestHeadsOfRequestsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	var waiting atomic.Int32
	release := make(chan struct{})
	e := startFile(t, "limits: {buffers: 4MiB}\nsites: [{hosts: [localhost], routes: [{to: %q}]}]", backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waiting.Add(1)
			<-release
		}
	}))
	large := strings.Repeat("x", 50<<10)
	clients := map[string]*http.Client{"h2": e.clients(t)["h2"], "h3": e.three(t, nil)}
	ask := func(client *http.Client, path string) int {
		request, _ := http.NewRequest("GET", "https://localhost"+path, nil)
		request.Header.Set("X-Large", large)
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}

	for name, client := range clients {
		waiting.Store(0)
		release = make(chan struct{})
		var all sync.WaitGroup
		var refused, served atomic.Int32
		over := make(chan struct{})
		end := sync.OnceFunc(func() { close(over) })
		for range 40 {
			all.Go(func() {
				switch status := ask(client, "/wait"); status {
				case 431:
					refused.Add(1)
				case 200:
					served.Add(1)
				default:
					t.Errorf("%s: %d", name, status)
				}
				// 512 KiB, half of what is for fields, and 128 KiB of the connection's own have room for 13, as long as they wait.
				if refused.Load() >= 40-13 {
					end()
				}
			})
		}
		select {
		case <-over:
		case <-time.After(time.Minute):
			t.Errorf("%s: only %d are refused", name, refused.Load())
		}
		if n := waiting.Load(); n > 13 {
			t.Errorf("%s: %d requests with large fields wait", name, n)
		}
		close(release)
		all.Wait()
		t.Logf("%s: %d served, %d refused", name, served.Load(), refused.Load())
		for i := range 30 {
			if status := ask(client, "/"); status != 200 {
				t.Fatalf("%s: request %d after them: %d", name, i, status)
			}
		}
	}
}
