//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/http2"
)

// visitor is a client with a connection of its own.
func visitor(roots *x509.CertPool, timeout time.Duration) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}, Timeout: timeout}
}

// visit is a request whose answer is read to its end.
func visit(client *http.Client, url string) (int, string, error) {
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// With 256 descriptors and 400 clients padlock keeps serving those that it holds, says once a minute what it lacks, and is as before as soon as
// the clients have gone.
func TestFewDescriptorsAndManyClients(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer app.Close()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	c := program("/bin/sh", p.home, "-c", `ulimit -n 256; exec "$0" "$@"`, plain, "--listen", "127.0.0.1:0", "--handshakes", "off", strings.TrimPrefix(app.URL, "http://"))
	p.run(t, c)
	roots := p.roots(t)
	held := visitor(roots, 30*time.Second)
	if status, body, err := visit(held, p.url); status != 200 || body != "hello" {
		t.Fatal(status, body, err)
	}
	address := strings.TrimPrefix(p.url, "https://localhost")
	var crowd []net.Conn
	for i := range 400 {
		conn, err := net.Dial("tcp", "127.0.0.1"+address)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, conn)
		if i < 200 { // these stay; of handshakes that do not go on, the oldest may make room before descriptors run out
			client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost"})
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.stderr.wait(t, "too many open files")
	for range 20 {
		if status, body, err := visit(held, p.url); status != 200 || body != "hello" {
			t.Errorf("who was there before is not served: %d %s %v", status, body, err)
		}
	}
	for _, conn := range crowd {
		conn.Close()
	}
	begun := time.Now()
	eventually(t, func() (string, error) {
		status, body, err := visit(visitor(roots, 5*time.Second), p.url)
		if err == nil && (status != 200 || body != "hello") {
			err = fmt.Errorf("%d %s", status, body)
		}
		return "", err
	})
	t.Logf("new clients are served %s after the crowd has gone", time.Since(begun).Round(time.Millisecond))
	if n := strings.Count(p.stderr.wait(t), "too many open files"); n > 3 {
		t.Errorf("it was said %d times within a minute", n)
	}
}

// memoryGroup makes a control group in which a process and what it caches may have so many bytes, and returns what a shell does to enter it.
func memoryGroup(t *testing.T, limit int) (enter string) {
	t.Helper()
	group, file, value := "/sys/fs/cgroup/memory", "memory.limit_in_bytes", strconv.Itoa(limit) // cgroups, version 1
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		group, file = "/sys/fs/cgroup", "memory.max"
	}
	group = filepath.Join(group, fmt.Sprintf("padlock-%d-%d", os.Getpid(), time.Now().UnixNano()))
	err := os.Mkdir(group, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(group, file), []byte(value), 0o600)
	}
	if err != nil {
		t.Fatalf("a control group is needed: %v", err)
	}
	t.Cleanup(func() { eventually(t, func() (string, error) { return group, os.Remove(group) }) })
	return "echo $$ > " + filepath.Join(group, "cgroup.procs")
}

// In 128 MiB padlock serves 200 clients that send and fetch megabytes, each at its own pace, and is not killed for its memory.
func TestALittleMemory(t *testing.T) {
	works(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, n))
	}))
	defer app.Close()
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	c := program("/bin/sh", p.home, "-c", memoryGroup(t, 128<<20)+`; exec "$0" "$@"`, plain, "--listen", "127.0.0.1:0", "--handshakes", "off", strings.TrimPrefix(app.URL, "http://"))
	c.Env = append(c.Env, "GOMEMLIMIT=100MiB")
	p.run(t, c)
	roots := p.roots(t)
	var clients sync.WaitGroup
	var bad atomic.Int64
	content := make([]byte, 1<<20)
	two := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}, Timeout: time.Minute}
	for i := range 200 {
		clients.Go(func() {
			client := two
			if i%2 == 0 {
				client = visitor(roots, time.Minute)
				defer client.CloseIdleConnections()
			}
			for range 2 {
				response, err := client.Post(p.url, "application/octet-stream", bytes.NewReader(content))
				if err != nil {
					bad.Add(1)
					t.Log(err)
					return
				}
				n, err := io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || n != int64(len(content)) {
					bad.Add(1)
					t.Log(n, err)
				}
			}
		})
	}
	clients.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of 400 requests failed", bad.Load())
	}
	peak := peakMiB(t, p.pid)
	t.Logf("400 MiB each way by 200 clients at once: %d MiB at most", peak)
	if peak > 128 {
		t.Errorf("%d MiB", peak)
	}
}

func peakMiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// 1,500 clients that say nothing, 10,000 in the long form, are held, take little memory, and the next one is served as if they were not
// there. Nor does padlock's end wait for them.
func TestManyIdleClients(t *testing.T) {
	works(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer app.Close()
	p := startBinary(t, plain, "--handshakes", "failures", strings.TrimPrefix(app.URL, "http://"))
	roots := p.roots(t)
	if _, _, err := visit(visitor(roots, time.Minute), p.url); err != nil {
		t.Fatal(err)
	}
	before := rssKiB(t, p.pid)
	clients, most := 1_500, 24<<10 // bytes each, with their share of what padlock needs whoever comes
	if *long {
		clients, most = 9_500, 16<<10 // and as many descriptors of the test's own: the hard limit may be 20,000
	}
	address := "127.0.0.1" + strings.TrimPrefix(p.url, "https://localhost")
	conns := make([]*tls.Conn, clients)
	var all sync.WaitGroup
	var bad atomic.Int64
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < clients; i += 8 {
				protocol := []string{"http/1.1", "h2"}[i%2]
				conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{protocol}, CurvePreferences: []tls.CurveID{tls.X25519}})
				if err == nil && protocol == "h2" {
					err = askInHTTP2(conn, 1)
				} else if err == nil {
					err = askInHTTP1(conn)
				}
				if err != nil {
					bad.Add(1)
					continue
				}
				conns[i] = conn
			}
		})
	}
	all.Wait()
	if bad.Load() > 0 {
		t.Fatalf("%d of %d were not served", bad.Load(), clients)
	}
	perClient := 0
	eventually(t, func() (string, error) { // once they are parked and what they left has been collected
		perClient = (rssKiB(t, p.pid) - before) * 1024 / clients
		if perClient > most {
			return "", fmt.Errorf("%d bytes for each client", perClient)
		}
		return "", nil
	})
	begun := time.Now()
	if status, _, err := visit(visitor(roots, 10*time.Second), p.url); status != 200 {
		t.Error(status, err)
	}
	t.Logf("%d idle clients take %d bytes each; the next one is served in %s", clients, perClient, time.Since(begun).Round(time.Millisecond))
	for _, i := range []int{0, clients/2 + clients/2%2, clients - 2} { // they are still there
		if err := askInHTTP1(conns[i]); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if err := askInHTTP2(conns[i+1], 3); err != nil {
			t.Errorf("client %d: %v", i+1, err)
		}
	}
	begun = time.Now()
	p.stop(t)
	if took := time.Since(begun); took > 10*time.Second { // timeouts.shutdown is 30 s, timeouts.idle 120 s
		t.Errorf("the end took %s with %d idle clients", took, clients)
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// askInHTTP2 asks for the page in a connection of HTTP/2 that is otherwise silent: the client acknowledges nothing.
func askInHTTP2(conn net.Conn, id uint32) error {
	var b []byte
	if id == 1 {
		b = frame([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(frame(b, http2.FrameHeaders, whole, id, asking("GET", "/")...)); err != nil {
		return err
	}
	framer := http2.NewFramer(io.Discard, conn)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if f.Header().StreamID == id && f.Header().Flags.Has(http2.FlagDataEndStream) && f.Header().Type == http2.FrameData {
			return nil
		}
	}
}

func askInHTTP1(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	_, err := io.ReadAtLeast(conn, make([]byte, 1024), 50)
	return err
}

func rssKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// A DNS server that fails, is silent or lies: what was known is used on, a name that was never found is a 502 that says so in the log, and all is
// well again soon after the server is.
func TestDNSThatFails(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer app.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(app.URL, "http://"))
	var mood atomic.Value
	mood.Store("well")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		switch mood.Load() {
		case "silent":
			return
		case "failing":
			answer.Rcode = dns.RcodeServerFailure
		case "garbage":
			_, _ = w.Write([]byte("this is no DNS message at all"))
			return
		default:
			if q.Question[0].Qtype == dns.TypeA {
				record, _ := dns.NewRR(q.Question[0].Name + " 1 IN A 127.0.0.1")
				answer.Answer = append(answer.Answer, record)
			}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer func() { _ = server.ShutdownContext(context.Background()) }()
	file := write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
resolvers: [%q]
timeouts: {connect: 5s}
handshakes: {show: "off"}
access_log: {format: json, output: stderr}
sites:
  - hosts: [localhost]
    routes:
      - {to: ["known.internal:%s"]}
      - {path: /each, to: ["each.internal:%[2]s"], resolve: each}
`, pc.LocalAddr(), port))
	p := startFile(t, filepath.Dir(file))
	client := visitor(p.roots(t), 20*time.Second)
	defer func() {
		if t.Failed() {
			t.Log(p.stderr.wait(t))
		}
	}()
	for _, path := range []string{"/", "/each"} {
		eventually(t, func() (string, error) {
			status, body, err := visit(client, p.url+path)
			if err == nil && status != 200 {
				err = fmt.Errorf("%d %s", status, body)
			}
			return "", err
		})
	}
	for _, trouble := range []string{"failing", "silent", "garbage"} {
		mood.Store(trouble)
		begun := time.Now()
		for time.Since(begun) < 3*time.Second { // longer than the records are valid
			for _, path := range []string{"/", "/each"} {
				if status, body, err := visit(client, p.url+path); status != 200 {
					t.Errorf("%s, %s: %d %s %v", trouble, path, status, body, err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		mood.Store("well")
		begun = time.Now()
		eventually(t, func() (string, error) {
			status, body, err := visit(client, p.url+"/each")
			if err == nil && status != 200 {
				err = fmt.Errorf("%d %s", status, body)
			}
			return "", err
		})
		t.Logf("%s: well again after %s", trouble, time.Since(begun).Round(time.Millisecond))
	}
}
