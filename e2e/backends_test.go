//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// misbehave accepts connections, reads the head of a request, and does as it is told.
func misbehave(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					do(c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A backend that fails in one way or another: what the client sees, what the log says, and whether another one is asked.
func TestBackendsThatFail(t *testing.T) {
	besides(t)
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "well")
	}))
	defer well.Close()
	names, err := net.ListenPacket("udp", "127.0.0.1:0") // a DNS server that takes the questions, and answers none
	if err != nil {
		t.Fatal(err)
	}
	silent := &dns.Server{PacketConn: names, Handler: dns.HandlerFunc(func(dns.ResponseWriter, *dns.Msg) {})}
	go func() { _ = silent.ActivateAndServe() }()
	defer func() { _ = silent.Shutdown() }()
	type fault struct {
		name, to string
		get      int    // status of a GET; 0: the response is cut
		said     string // by the access log
		pair     [2]int // statuses of a GET and a POST with a well target beside it
	}
	faults := []fault{
		{"dead", "127.0.0.1:1", 502, "connection refused", [2]int{200, 200}},
		{"hangup", misbehave(t, func(net.Conn) {}), 502, "it closed the connection", [2]int{200, 502}},
		{"stalled", misbehave(t, func(net.Conn) { time.Sleep(10 * time.Second) }) /* longer than padlock waits */, 504, "it did not answer in time", [2]int{504, 504}},
		{"garbage", misbehave(t, say("\x16\x03\x01 this is no HTTP\r\n\r\n")), 502, "malformed", [2]int{502, 502}},
		{"halfhead", misbehave(t, say("HTTP/1.1 200 OK\r\nContent-Le")), 502, "", [2]int{200, 502}},
		{"twolengths", misbehave(t, say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx")), 502, "malformed", [2]int{502, 502}},
		{"midbody", misbehave(t, say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")), 0, "broke off", [2]int{0, 0}},
		{"midchunk", misbehave(t, say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")), 0, "broke off", [2]int{0, 0}},
		{"unresolved", "nowhere.internal:80", 502, "cannot be resolved", [2]int{200, 200}},
	}
	var routes strings.Builder
	for _, f := range faults {
		options := "passive_health: off, timeouts: {connect: 500ms, response_header: 1s}"
		if f.name == "unresolved" {
			options += ", resolve: each"
		}
		fmt.Fprintf(&routes, "      - {path: /%s/alone, to: %q, %s}\n", f.name, f.to, options)
		fmt.Fprintf(&routes, "      - {path: /%s/pair, to: [%q, %q], %s, retry: {budget: 1}}\n", f.name, f.to, well.URL, options)
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "access.log")
	text := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nresolvers: [%q]\naccess_log: {output: %s}\nsites:\n  - hosts: [localhost]\n    routes:\n%s", names.LocalAddr(), log, routes.String())
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	for _, two := range []bool{false, true} {
		client := p.client(t, two)
		client.Timeout = 30 * time.Second
		ask := func(method, path string) int {
			request, _ := http.NewRequest(method, p.url+path, nil)
			if method == "POST" {
				request, _ = http.NewRequest(method, p.url+path, strings.NewReader("content"))
			}
			response, err := client.Do(request)
			if err != nil {
				return 0
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				return 0
			}
			if strings.Contains(string(body), "127.0.0.1") || strings.Contains(string(body), "internal") {
				t.Errorf("%s tells of the backend: %s", path, body)
			}
			return response.StatusCode
		}
		for _, f := range faults {
			if got := ask("GET", "/"+f.name+"/alone"); got != f.get {
				t.Errorf("%s: %d, not %d", f.name, got, f.get)
			}
			for i, method := range []string{"GET", "POST"} {
				seen := map[int]int{}
				for range 4 {
					seen[ask(method, "/"+f.name+"/pair")]++
				}
				if want := f.pair[i]; want == 200 && seen[200] != 4 || want != 200 && (seen[want] != 2 || seen[200] != 2) {
					t.Errorf("%s beside a well one, %s: %v", f.name, method, seen)
				}
			}
		}
	}
	p.stop(t)
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		told, retried := false, false
		for line := range strings.Lines(string(content)) {
			var entry struct {
				Target, Error, Upstream string
				Status, Retries         int
				Aborted                 bool
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if entry.Target == "/"+f.name+"/alone" {
				told = told || strings.Contains(entry.Error, f.said) && (entry.Status == f.get || f.get == 0 && entry.Aborted)
			}
			if entry.Target == "/"+f.name+"/pair" {
				retried = retried || entry.Retries == 1 && entry.Status == 200
			}
		}
		if !told {
			t.Errorf("the access log does not tell of %s that %q", f.name, f.said)
		}
		if wants := f.pair[0] == 200 && f.name != "unresolved"; retried != wants {
			t.Errorf("%s: sent to another: %v", f.name, retried)
		}
	}
}

// With one of three backends killed in the middle of traffic, no client sees an error, whatever it asks; back again, it gets its share.
func TestOneOfThreeBackendsIsKilled(t *testing.T) {
	works(t)
	var servers []*http.Server
	var addresses []string
	var counts [3]atomic.Int64
	serve := func(i int, address string) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			counts[i].Add(1)
			fmt.Fprint(w, i)
		})}
		go func() { _ = s.Serve(l) }()
		if i < len(servers) {
			servers[i] = s
			return
		}
		servers, addresses = append(servers, s), append(addresses, l.Addr().String())
	}
	for i := range 3 {
		serve(i, "127.0.0.1:0")
	}
	defer func() {
		for _, s := range servers {
			s.Close()
		}
	}()
	dir := t.TempDir()
	text := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nhandshakes: {show: failures}\naccess_log: {format: \"off\"}\nsites: [{hosts: [localhost], routes: [{to: [%s], passive_health: {cooldown: 1s}}]}]\n", strings.Join(addresses, ", "))
	if err := os.WriteFile(filepath.Join(dir, "padlock.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startFile(t, dir)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var requests atomic.Int64
	for i := range 16 {
		client := p.client(t, i%2 == 0)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, err := client.Get(p.url)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 {
					t.Errorf("%d %s %v", response.StatusCode, body, err)
					return
				}
				requests.Add(1)
			}
		})
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond) // requests go on with all three
		servers[1].Close()
		time.Sleep(300 * time.Millisecond) // and with two
		before := counts[1].Load()
		serve(1, addresses[1])
		for deadline := time.Now().Add(10 * time.Second); counts[1].Load() == before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the backend that came back was never asked again")
			}
		}
	}
	close(stop)
	clients.Wait()
	t.Logf("%d requests; the targets got %d, %d and %d", requests.Load(), counts[0].Load(), counts[1].Load(), counts[2].Load())
}
