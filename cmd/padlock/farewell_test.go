//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// Whoever reads logs and traces, and stops, keeps neither visitors waiting nor padlock from ending within timeouts.shutdown and a second.
// What is lost is counted where somebody reads that.
func TestTheEndWaitsForNoReaderOfLogs(t *testing.T) {
	const patience = time.Second
	collector, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its queue
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { collector.Close() })
	fifo := fullFIFO(t)
	for name, test := range map[string]struct {
		keys   string
		stderr bool     // is read
		told   []string // on stderr
	}{
		"stderr":              {"handshakes: {format: story}\naccess_log: {format: json, output: stderr}\n", false, nil},
		"stderr, as JSON":     {"handshakes: {format: json}\n", false, nil},
		"stdout":              {"handshakes: {output: stdout}\naccess_log: {format: json}\n", true, []string{"handshakes are not told", "lines of the access log are lost"}},
		"file":                {"handshakes: {output: " + fifo + "}\naccess_log: {format: json, output: " + fifo + "}\n", true, []string{"handshakes are not told"}},
		"stderr and traces":   {fmt.Sprintf("tracing: {endpoint: \"http://%s\", sample: 1}\n", collector.Addr()), false, nil},
		"traces":              {fmt.Sprintf("tracing: {endpoint: \"http://%s\", sample: 1}\n", collector.Addr()), true, nil},
		"the operation log":   {"handshakes: {show: \"off\"}\n", false, nil},
		"nothing of it hangs": {"handshakes: {format: line}\n", true, []string{"localhost"}},
	} {
		t.Run(name, func(t *testing.T) {
			file, _ := yaml(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: \"off\"\nstorage: DIR\ntimeouts: {shutdown: %s}\n%ssites: [{hosts: [localhost], routes: []}]\n", patience, test.keys))
			stdout, out := io.Pipe()
			unread, in := io.Pipe()
			defer stdout.Close()
			defer unread.Close()
			var stderr servicetest.Buffer
			writer := io.Writer(in)
			if test.stderr {
				writer = &stderr
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := make(chan int, 1)
			go func() { ended <- run(ctx, []string{"run", "--config", file}, strings.NewReader(""), out, writer) }()

			address, served := make(chan string, 1), make(chan struct{})
			go func() {
				lines := bufio.NewReader(stdout)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					if _, rest, ok := strings.Cut(line, "https://"); ok {
						first, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
						select {
						case address <- "127.0.0.1" + first[strings.LastIndexByte(first, ':'):]:
						default:
						}
					}
					select {
					case <-served:
						return // and nobody reads more
					default:
					}
				}
			}()
			var at string
			select {
			case at = <-address:
			case code := <-ended:
				t.Fatalf("exit code %d: %s", code, &stderr)
			case <-time.After(20 * time.Second):
				t.Fatalf("it does not serve: %s", &stderr)
			}

			visit := func() {
				client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}}
				request, _ := http.NewRequest("GET", "https://"+at, nil)
				request.Host = "localhost"
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
			}
			visit()
			close(served)
			began := time.Now()
			for range 4 {
				visit()
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("four pages took %s", took)
			}

			began = time.Now()
			cancel()
			select {
			case code := <-ended:
				if took := time.Since(began); code != 0 || took > patience+time.Second+500*time.Millisecond {
					t.Errorf("it ended with %d after %s: %s", code, took, &stderr)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("it does not end: %s", &stderr)
			}
			for _, text := range test.told {
				if said := stderr.String(); !strings.Contains(said, text) {
					t.Errorf("without %q: %s", text, said)
				}
			}
		})
	}
}

// fullFIFO has a reader that never reads.
func fullFIFO(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return name
}
