package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Content that nobody has begun to send goes to another target when the first cannot be reached, also if it was read to be kept (buffer); content that was begun goes to
// none, and the answer says that targets are to blame, and not the client.
func TestContentGoesToAnotherTargetWholeOrToNone(t *testing.T) {
	t.Parallel()
	// Read first: over HTTP/1.1, package net/http reads no more once a response has begun.
	echo := func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		_, _ = w.Write(content)
	}
	for scheme, live := range map[string]string{"http": backend(t, echo), "h2c": h2cBackend(t, echo)} {
		dead := listen(t)
		dead.Close()
		dying := []string{dies(t), dies(t)}
		e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {path: /dead, to: [%q, %q], passive_health: {failures: 1000}, retry: {attempts: 2, budget: 1}}
      - {path: /dead/kept, to: [%[1]q, %[2]q], buffer: {request: 64KiB}, body_limit: 1MiB, passive_health: {failures: 1000}, retry: {attempts: 2, budget: 1}}
      - {path: /dying, to: [%[3]q, %[4]q], passive_health: {failures: 1000}, retry: {attempts: 2, budget: 1}}
`, scheme+"://"+dead.Addr().String(), live, scheme+"://"+dying[0], scheme+"://"+dying[1])

		for name, client := range e.everyClient(t) {
			client.Timeout = time.Minute
			// Content that is kept has been read, and not been sent; the second is larger than what is kept.
			for _, path := range []string{"/dead", "/dead/kept", "/dead/kept/large"} {
				for n := range 4 {
					content := fmt.Sprint("content ", n)
					if strings.HasSuffix(path, "/large") {
						content = strings.Repeat(content, 10_000)
					}
					response, got := send(t, client, "POST", path, strings.NewReader(content))
					if response.StatusCode != 200 || got != content {
						t.Errorf("%s: %s: %s: content for a target that is not there, and one that is: %s %.100s", scheme, name, path, response.Status, got)
					}
				}
			}
			for _, method := range []string{"PUT", "POST"} {
				withheld, end := io.Pipe()
				if response, got := send(t, client, method, "/dying", withheld); response.StatusCode != 502 {
					t.Errorf("%s: %s: %s of content that does not come, for targets that end: %s %.100s", scheme, name, method, response.Status, got)
				}
				end.Close()
			}
		}
	}
}

// dies ends each connection when something has come.
func dies(t *testing.T) string {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadAtLeast(c, make([]byte, 4096), 40) // more than HTTP/2's preface
			c.Close()
		}
	}()
	return l.Addr().String()
}

func send(t *testing.T, client *http.Client, method, path string, content io.Reader) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, "https://localhost"+path, content)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(got)
}
