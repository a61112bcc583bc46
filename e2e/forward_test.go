//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// client trusts the local CA and speaks HTTP/1.1, or HTTP/2 too.
func (p *padlock) client(t *testing.T, two bool) *http.Client {
	t.Helper()
	data, err := os.ReadFile(p.root(t))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: two}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// apps in other languages, each of which says its port and serves a page with a title.
var apps = map[string][]string{
	"python3": {"-u", "-c", `
from http.server import *
class App(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<title>An app in Python</title>" + self.headers["X-Forwarded-Proto"].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = HTTPServer(("127.0.0.1", 0), App)
print(server.server_port)
server.serve_forever()`},
	"node": {"-e", `
const server = require("http").createServer((request, response) => {
  response.setHeader("Content-Type", "text/html")
  response.end("<title>An app in Node.js</title>" + request.headers["x-forwarded-proto"])
})
server.listen(0, "127.0.0.1", () => console.log(server.address().port))`},
}

// app starts one of them and returns its port.
func app(t *testing.T, language string) string {
	t.Helper()
	return script(t, language, apps[language]...)
}

// script starts a program that prints its port first.
func script(t *testing.T, language string, args ...string) string {
	t.Helper()
	c := exec.Command(need(t, language), args...)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s did not start: %v", language, err)
	}
	return strings.TrimSpace(port)
}

// An app in another language gets HTTPS by one command.
func TestAppsInOtherLanguagesGetHTTPS(t *testing.T) {
	besides(t)
	for language := range apps {
		p := start(t, app(t, language), "--storage", t.TempDir())
		for _, version := range []string{"--http1.1", "--http2"} {
			out, err := exec.Command(need(t, "curl"), "-sS", "--fail", version, "--cacert", p.root(t), p.url).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "</title>https") {
				t.Errorf("%s %s: %v\n%s", language, version, err, out)
			}
		}
	}
}

// A WebSocket and an event stream pass through as they come; an event is there while the response is still open.
func TestWebSocketsAndEventStreamsPass(t *testing.T) {
	besides(t)
	next, gone := make(chan string), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				select {
				case word := <-next:
					fmt.Fprintf(w, "data: %s\n\n", word)
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					gone <- struct{}{}
					return
				}
			}
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	defer app.Close()
	p := start(t, app.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, p.url+"/ws", &websocket.DialOptions{HTTPClient: p.client(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	for _, size := range []int{0, 1, 126, 65536, 500_000} {
		sent := strings.Repeat("x", size)
		if err := conn.Write(ctx, websocket.MessageText, []byte(sent)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != sent {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	for _, two := range []bool{false, true} {
		go func() { next <- "one" }() // the head is only sent with the first event
		response, err := p.client(t, two).Get(p.url + "/events")
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(response.Body)
		for _, word := range []string{"one", "two"} {
			if word != "one" {
				next <- word
			}
			if line, err := reader.ReadString('\n'); err != nil || line != "data: "+word+"\n" {
				t.Fatalf("%q, %v", line, err)
			}
			_, _ = reader.ReadString('\n')
		}
		response.Body.Close()
		<-gone // the app learns that its reader has left
	}
}

// 256 MiB each way, a GiB in the long form, pass without being held: padlock's peak memory stays small.
func TestAGibibyteEachWayKeepsMemoryFlat(t *testing.T) {
	works(t)
	size := 256 << 20
	if *long {
		size = 1 << 30
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.CopyN(w, zeros{}, int64(size))
	}))
	defer app.Close()
	for _, version := range []string{"--http1.1", "--http2"} {
		p := startBinary(t, plain, app.URL)
		curl := []string{"-sS", "--fail", version, "--cacert", p.root(t), p.url}
		out, err := exec.Command(need(t, "curl"), append(curl, "-o", "/dev/null", "-w", "%{size_download}")...).CombinedOutput()
		if err != nil || string(out) != strconv.Itoa(size) {
			t.Fatalf("%s: download: %s, %v", version, out, err)
		}
		upload := exec.Command("curl", append(curl, "-T", "-")...)
		upload.Stdin = io.LimitReader(zeros{}, int64(size))
		if out, err = upload.CombinedOutput(); err != nil || string(out) != strconv.Itoa(size) {
			t.Fatalf("%s: the app received %s, %v", version, out, err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		if err != nil {
			t.Fatal(err)
		}
		peak, _ := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindStringSubmatch(string(status))[1])
		t.Logf("%s: peak resident memory %d KiB", version, peak)
		if peak > 80<<10 {
			t.Errorf("%s: peak resident memory is %d KiB", version, peak)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// From the start of the process to its first answer is a moment.
func TestStartToFirstAnsweredRequest(t *testing.T) {
	first := startBinary(t, plain) // makes the local CA, which later starts find
	client := first.client(t, false)
	if _, err := client.Get(first.url); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range 5 {
		begin := time.Now()
		p := startBinary(t, plain, "--storage", filepath.Join(first.home, ".local/share/padlock"))
		response, err := client.Get(p.url)
		if err != nil || response.StatusCode != 200 {
			t.Fatal(response, err)
		}
		took = append(took, time.Since(begin))
	}
	t.Logf("start to first answered request: %v", took)
}
