package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// running is padlock run with a file, in this process.
type running struct {
	file, address string // host:port of HTTPS
	admin         string // http://host:port
	roots         *x509.CertPool
	stderr        *servicetest.Buffer
}

// runFile serves a file, in which the addresses of HTTPS and admin have port 0 and the storage is STORAGE.
func runFile(t *testing.T, content string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{file: filepath.Join(dir, "padlock.yaml"), roots: x509.NewCertPool()}
	r.write(t, content)
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	var stderr servicetest.Buffer
	r.stderr = &stderr
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, []string{"run", "--config", r.file}, strings.NewReader(""), in, &stderr)
		in.Close()
		ended <- code
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("padlock ended with %d:\n%s", code, &stderr)
		}
	})
	lines := bufio.NewScanner(out)
	for (r.address == "" || r.admin == "") && lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "console at "); ok {
			r.admin = at
		} else if _, rest, ok := strings.Cut(lines.Text(), "https://"); ok {
			name, _, _ := strings.Cut(rest, " ")
			r.address = "127.0.0.1" + name[strings.LastIndexByte(name, ':'):]
		}
	}
	if r.address == "" || r.admin == "" {
		t.Fatalf("padlock does not serve:\n%s", &stderr)
	}
	go func() {
		for lines.Scan() {
		}
	}()
	pem, err := os.ReadFile(filepath.Join(dir, "localca", "root.pem"))
	switch {
	case errors.Is(err, fs.ErrNotExist): // no site needs it
	case err != nil || !r.roots.AppendCertsFromPEM(pem):
		t.Fatal(err)
	}
	return r
}

func (r *running) write(t *testing.T, content string) {
	t.Helper()
	content = strings.ReplaceAll(content, "STORAGE", filepath.Dir(r.file))
	if err := os.WriteFile(r.file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload has the file read again.
func (r *running) reload(t *testing.T) {
	t.Helper()
	response, err := http.Post(r.admin+"/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != 200 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
}

func (r *running) tls() *tls.Config { return &tls.Config{RootCAs: r.roots, ServerName: "localhost"} }

// until asks again until there is no error; what is asked for is on its way.
func until(t *testing.T, ask func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal(fmt.Errorf("in vain: %w", err))
		}
	}
}
