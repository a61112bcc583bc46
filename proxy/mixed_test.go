package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var mixed = flag.Int("mixed", 4_000, "requests of TestNothingIsLostAndNothingIsLeft")

// content is reproducible: n bytes from a seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := 0; i < n; i += 8 {
		v := r.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// target answers with what the query asks for, and the hash of what came.
func target(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	seed, _ := strconv.ParseUint(q.Get("seed"), 10, 64)
	if q.Get("kind") == "early" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	h := sha256.New()
	received, err := io.Copy(h, r.Body)
	if err != nil {
		return // the client has aborted
	}
	w.Header().Set("X-Received", strconv.FormatInt(received, 10))
	w.Header().Set("X-Received-Sum", hex.EncodeToString(h.Sum(nil)))
	body := content(seed, n)
	switch q.Get("kind") {
	case "none":
		w.WriteHeader(http.StatusNoContent)
		return
	case "known":
		w.Header().Set("Content-Length", strconv.Itoa(n))
	case "interim":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
	case "slow":
		time.Sleep(time.Duration(n%30) * time.Millisecond)
	case "broken": // announces more than it sends
		w.Header().Set("Content-Length", strconv.Itoa(n+1))
		_, _ = w.Write(body)
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Trailer", "X-Sum")
	for len(body) > 0 { // in pieces
		piece := min(len(body), 1+int(seed%50_000))
		if _, err := w.Write(body[:piece]); err != nil {
			return
		}
		if seed%3 == 0 {
			w.(http.Flusher).Flush()
		}
		body = body[piece:]
	}
	w.Header().Set("X-Sum", sum(content(seed, n)))
}

// once makes one request of some kind, and checks what becomes of it.
func once(client *http.Client, r *rand.Rand) error {
	sizes := []int{0, 1, 100, 1000, 1000, 5000, 16 << 10, 20_000, 100_000}
	size := func() int {
		if r.IntN(100) == 0 {
			return 1 << 20
		}
		return sizes[r.IntN(len(sizes))]
	}
	kind := []string{"known", "known", "known", "chunked", "chunked", "interim", "none", "slow", "broken", "early"}[r.IntN(10)]
	method := []string{"GET", "GET", "GET", "HEAD", "POST", "PUT"}[r.IntN(6)]
	if method == "HEAD" && kind == "broken" {
		kind = "known" // its connection would end without a word, and take the next request with it
	}
	n, seed := size(), r.Uint64()
	var sent []byte
	var upload io.Reader
	if method == "POST" || method == "PUT" {
		sent = content(seed+1, size())
		upload = bytes.NewReader(sent)
		if r.IntN(2) == 0 {
			upload = io.MultiReader(upload) // of unknown length
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	aborted := r.IntN(10) == 0
	if aborted {
		time.AfterFunc(time.Duration(r.IntN(3000))*time.Microsecond, cancel)
	}
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://localhost/?kind=%s&n=%d&seed=%d", kind, n, seed), upload)
	if err != nil {
		return err
	}
	if r.IntN(20) == 0 {
		request.Header.Set("Expect", "100-continue")
	}
	if r.IntN(50) == 0 {
		request.Close = true
	}
	response, err := client.Do(request)
	if err != nil {
		if aborted || kind == "broken" || kind == "early" && sent != nil { // a client may lose an early answer while it writes
			return nil
		}
		return fmt.Errorf("%s %s: %w", method, kind, err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	switch {
	case aborted && err != nil:
		return nil
	case kind == "broken":
		if err == nil && response.StatusCode == 200 {
			return errors.New("a response that was cut short looked whole")
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s %s: reading: %w", method, kind, err)
	case kind == "early":
		if response.StatusCode != 403 {
			return fmt.Errorf("early: %s", response.Status)
		}
		return nil
	case response.StatusCode != 200 && response.StatusCode != 204:
		return fmt.Errorf("%s %s: %s %s", method, kind, response.Status, got)
	case response.Header.Get("X-Received-Sum") != sum(sent):
		return fmt.Errorf("%s %s: %d bytes were sent, %s received", method, kind, len(sent), response.Header.Get("X-Received"))
	case method == "HEAD" || kind == "none":
		return nil
	case sum(got) != sum(content(seed, n)):
		return fmt.Errorf("%s %s: %d bytes came of %d", method, kind, len(got), n)
	case kind != "known" && response.Trailer.Get("X-Sum") != sum(got):
		return fmt.Errorf("%s %s: trailers %v", method, kind, response.Trailer)
	}
	return nil
}

// Requests of every kind, some of them aborted by their client or cut short by their target: whatever arrives is what was sent,
// and when all is over nothing is left of it, neither goroutine nor descriptor nor memory.
func TestNothingIsLostAndNothingIsLeft(t *testing.T) {
	listen(t).Close() // the runtime's own descriptors are there from now on
	runtime.GC()
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	heap := memory.HeapAlloc
	t.Run("requests", func(t *testing.T) {
		e := start(t, backend(t, target), nil)
		var clients []map[string]*http.Client // several connections of HTTP/2: each may reset a thousand streams in ten seconds, and no more
		for range 8 {
			clients = append(clients, e.clients(t))
		}
		var left atomic.Int64
		left.Store(int64(*mixed))
		var workers sync.WaitGroup
		for i := range 32 {
			client := clients[i/2%8][[]string{"h1", "h2"}[i%2]]
			workers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				for left.Add(-1) >= 0 && !t.Failed() {
					if err := once(client, r); err != nil {
						t.Errorf("%s: %v", []string{"h1", "h2"}[i%2], err)
					}
				}
			})
		}
		workers.Wait()
		if t.Failed() {
			for line := range strings.Lines(e.access.String()) {
				if strings.Contains(line, `"status":502`) {
					t.Log(line)
				}
			}
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		runtime.GC()
		runtime.ReadMemStats(&memory)
		g, d := runtime.NumGoroutine(), openDescriptors(t)
		if g <= goroutines && d <= descriptors && memory.HeapAlloc < heap+16<<20 {
			break
		}
		if time.Now().After(deadline) {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Fatalf("%d goroutines of %d, %d descriptors of %d, %d KiB of heap\n%s", g, goroutines, d, descriptors, (int64(memory.HeapAlloc)-int64(heap))>>10, stacks.String())
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0 // not Linux
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
