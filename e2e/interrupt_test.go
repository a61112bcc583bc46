//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever presses Ctrl-C waits two seconds at most for what a browser holds open.
func TestAnInterruptEndsWithinSeconds(t *testing.T) {
	besides(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer app.Close()
	p := startBinary(t, plain, strings.TrimPrefix(app.URL, "http://"))
	for _, protocols := range [][]string{{"http/1.1"}, {"h2"}} {
		transport := &http.Transport{ForceAttemptHTTP2: protocols[0] == "h2", TLSClientConfig: &tls.Config{RootCAs: p.roots(t), ServerName: "localhost", NextProtos: protocols}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Get(p.url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if want := map[string]int{"http/1.1": 1, "h2": 2}[protocols[0]]; response.ProtoMajor != want {
			t.Fatalf("%s and not %s", response.Proto, protocols[0])
		}
	}

	begun := time.Now()
	if err := p.end(syscall.SIGINT); err != nil {
		t.Errorf("it ends with %v:\n%s", err, p.stderr.wait(t))
	}
	if took := time.Since(begun); took > 8*time.Second { // on a busy machine; timeouts.shutdown is 30 s
		t.Errorf("the end took %s", took)
	}
	p.stderr.wait(t, "finishing open requests, for 1s at most")
}
