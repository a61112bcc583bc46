//go:build unix

package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"padlock/discovery"
	"padlock/internal/servicetest"
)

// Whoever reads logs and traces, and stops, keeps neither visitors waiting nor padlock from ending within timeouts.shutdown and a second.
// What is lost is counted where somebody reads that.
func TestTheEndWaitsForNoReaderOfLogs(t *testing.T) {
	const patience = time.Second                       // whoever waits for a reader waits for ever
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
			r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), stderr: &servicetest.Buffer{}, roots: x509.NewCertPool()}
			r.write(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: \"off\"\nstorage: STORAGE\ntimeouts: {shutdown: %s}\n%ssites: [{hosts: [localhost], routes: []}]\n", patience, test.keys))
			stdout, out := io.Pipe()
			unread, in := io.Pipe()
			defer stdout.Close()
			defer unread.Close()
			stderr := io.Writer(in)
			if test.stderr {
				stderr = r.stderr
			}
			served := make(chan struct{})
			go func() {
				lines := bufio.NewReader(stdout)
				for {
					if _, err := lines.ReadString('\n'); err != nil {
						return
					}
					select {
					case <-served:
						return // and nobody reads more
					default:
					}
				}
			}()
			r.start(t, out, stderr)

			visit := func() {
				client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}}
				request, _ := http.NewRequest("GET", "https://"+r.address, nil)
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
			if took := time.Since(began); took > 20*time.Second { // they would wait for the reader for ever
				t.Errorf("four pages took %s", took)
			}

			if err := r.end(t); err != nil {
				t.Errorf("it ended with %v: %s", err, r.stderr)
			}
			for _, text := range test.told {
				if said := r.stderr.String(); !strings.Contains(said, text) {
					t.Errorf("without %q: %s", text, said)
				}
			}
		})
	}
}

// A reload that is on its way keeps nobody waiting at the end: neither one of the file, which may be large, nor one that waits for that.
func TestTheEndWaitsForNoReload(t *testing.T) {
	t.Parallel()
	const patience = time.Minute
	source := &apps{changed: make(chan *discovery.Found), found: &discovery.Found{}}
	r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), stderr: &servicetest.Buffer{}, roots: x509.NewCertPool(), sources: []discovery.Source{source}}
	r.write(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: 127.0.0.1:0\nstorage: STORAGE\ntimeouts: {shutdown: %s}\nsites: [{hosts: [localhost], routes: []}]\n", patience))
	reading, read := make(chan struct{}), make(chan struct{})
	r.before = func() error { close(reading); <-read; return errors.New("it could not be read") }
	t.Cleanup(func() { close(read) })
	r.start(t, io.Discard, r.stderr)

	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if response, err := http.Post(r.admin+"/reload", "", nil); err == nil {
			response.Body.Close()
		}
	}()
	<-reading
	source.changed <- &discovery.Found{}

	began := time.Now()
	if err, took := r.end(t), time.Since(began); err != nil || took > patience/4 {
		t.Errorf("it ended with %v after %s: %s", err, took, r.stderr)
	}
	<-answered
}

// A part that hangs is named.
func TestWhatKeepsTheEndWaitingIsNamed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	defer close(release)
	hangs := func() { <-release }
	d := newDeadline(ctx, time.Millisecond)
	err := d.run(ctx, func() error {
		started, err := start(ctx, []part{{"storage", func(context.Context) error { return nil }, hangs}}, d.waitsFor)
		started.close(d.waitsFor)
		return err
	})
	if !errors.Is(err, errNotEnded) || !strings.Contains(err.Error(), "timeouts.shutdown: it still waits for its storage, and ends now without") {
		t.Error(err)
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
