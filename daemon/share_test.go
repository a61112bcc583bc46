package daemon

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

// A client keeps its side of percent when padlock has started anew, and at another node of the same storage, whatever else the configuration
// has: also where no target is sticky.
func TestAClientKeepsItsShareAfterARestart(t *testing.T) {
	const file = `
listen: {https: ["127.0.0.1:0"], http: []}
storage: STORAGE
admin: {address: "127.0.0.1:0"}
handshakes: {show: "off"}
sites: [{hosts: [localhost], routes: [{percent: 50, respond: {body: one}}, {respond: {body: other}}]}]
`
	r := runFile(t, file)
	draw := func(r *running, cookie *http.Cookie) (drawn *http.Cookie) {
		t.Helper()
		request, err := http.NewRequest("GET", "https://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != nil {
			request.AddCookie(cookie)
		}
		client := r.client(false, nil)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		for _, c := range response.Cookies() {
			drawn = c
		}
		return drawn
	}

	cookie := draw(r, nil)
	if cookie == nil || draw(r, cookie) != nil {
		t.Fatalf("the number %v", cookie)
	}
	// Another node, which begins to use percent with a reload.
	other := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: r.roots, stderr: &servicetest.Buffer{}}
	shared := strings.ReplaceAll(file, "STORAGE", filepath.Dir(r.file))
	other.write(t, strings.Replace(shared, "percent: 50, ", "path: /nowhere, ", 1))
	other.start(t, io.Discard, other.stderr)
	t.Cleanup(func() {
		if err := other.end(t); err != nil {
			t.Error(err)
		}
	})
	other.write(t, shared)
	other.reload(t)
	servicetest.Until(t, func() error { // the key comes from the storage
		if again := draw(other, cookie); again != nil {
			return fmt.Errorf("a client with the number %s gets %s", cookie.Value, again.Value)
		}
		return nil
	})

	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	r.start(t, io.Discard, r.stderr)
	if again := draw(r, cookie); again != nil {
		t.Errorf("after a restart, a client with the number %s gets %s", cookie.Value, again.Value)
	}
}
