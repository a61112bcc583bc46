package proxy_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keyFile has a hashed key of ci, and one of cron as it is.
func keyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.txt")
	write(t, file, fmt.Appendf(nil, "# clients\nci:sha256:%x\ncron: cron-key-0123456789\n", sha256.Sum256([]byte("ci-key-0123456789"))))
	return file
}

// echoing answers with what it learned of the client.
func echoing(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "user %q client %q key %q", r.Header["X-Forwarded-User"], r.Header["X-Client"], r.Header.Get("X-API-Key")+r.Header.Get("Authorization"))
}

// A key that is in the file names its client to the target, the log and rate limits; no other is let in, and no key reaches the log.
func TestAPIKeysNameClients(t *testing.T) {
	t.Parallel()
	e := startFile(t, `
access_log: {headers: [X-My-Key]}
sites:
  - hosts: [localhost]
    api_keys: {file: %[1]q, copy: X-Client}
    routes:
      - {path: /other, api_keys: {file: %[1]q, header: X-My-Key}, to: %[2]q}
      - {to: %[2]q, headers: {response: {set: {X-User: "{user}"}}}}
      - {path: /bearer, api_keys: {file: %[1]q, header: Authorization, forward: true}, rate_limit: {requests: 2, per: 1h, by: user}, to: %[2]q}
`, keyFile(t), backend(t, echoing))
	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			path   string
			fields []string
			status int
			body   string
		}{
			{"/", nil, 401, ""}, {"/", []string{"X-API-Key", "cron-key-012345678"}, 401, ""}, {"/", []string{"X-API-Key", fmt.Sprintf("%x", sha256.Sum256([]byte("ci-key-0123456789")))}, 401, ""},
			{"/", []string{"X_API_Key", "ci-key-0123456789"}, 401, ""}, {"/", []string{"Authorization", "Bearer ci-key-0123456789"}, 401, ""},
			{"/", []string{"X-API-Key", "ci-key-0123456789", "X-Forwarded-User", "root", "X-Client", "root", "x_client", "root"}, 200, `user ["ci"] client ["ci"] key ""`},
			{"/", []string{"x-api-key", "cron-key-0123456789"}, 200, `user ["cron"] client ["cron"] key ""`},
			{"/other", []string{"X-My-Key", "ci-key-0123456789"}, 200, ""}, {"/", []string{"X-My-Key", "ci-key-0123456789"}, 401, ""}, {"/bearer", []string{"X-API-Key", "ci-key-0123456789"}, 401, ""}, {"/bearer", []string{"Authorization", "Basic ci-key-0123456789"}, 401, ""},
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+c.path, c.fields...)
			if response.StatusCode != c.status || c.body != "" && body != c.body || (response.StatusCode == 401) != (response.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s %s %q: %s %s %v", name, c.path, c.fields, response.Status, body, response.Header)
			}
			if c.status == 200 && !strings.Contains(body, response.Header.Get("X-User")) {
				t.Errorf("%s: {user} is %q", name, response.Header.Get("X-User"))
			}
		}
	}
	client := e.clients(t)["h2"]
	for i, want := range []int{200, 200, 429, 200} {
		key := "ci-key-0123456789"
		if i == 3 {
			key = "cron-key-0123456789"
		}
		if response, body := fetch(t, client, "GET", "https://localhost/bearer", "Authorization", "bearer "+key); response.StatusCode != want || want == 200 && !strings.Contains(body, `key "bearer `+key+`"`) {
			t.Errorf("request %d of %s: %s %s", i, key, response.Status, body)
		}
	}
	for _, two := range []string{"X-API-Key: cron-key-0123456789\r\nX-API-Key: x", "X-API-Key: \r\nx-api-key: cron-key-0123456789"} {
		if answer := e.sayFields(t, two); !strings.HasPrefix(answer, "HTTP/1.1 401") {
			t.Errorf("%q: %s", two, answer)
		}
	}
	if err := e.stop(); err != nil { // the log is written whole
		t.Error(err)
	}
	if log := e.access.String(); strings.Contains(log, "key-0123456789") || !strings.Contains(log, `"user":"cron"`) || !strings.Contains(log, "api_keys: the key is not in") {
		t.Errorf("the access log: %s", log)
	}
}

// A key that is taken out of the file lets nobody in any more, without a reload, and ends what it has opened; a file that cannot be read leaves the keys that were there.
func TestAPIKeysFollowTheirFile(t *testing.T) {
	t.Parallel()
	file := keyFile(t)
	opened := make(chan bool, 1)
	e := startFile(t, `sites: [{hosts: [localhost], api_keys: {file: %q}, routes: [{to: %q}]}]`, file, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		opened <- true
		<-r.Context().Done()
	}))
	client := e.clients(t)["h2"]
	get := func(key string) int {
		response, _ := fetch(t, client, "GET", "https://localhost/", "X-API-Key", key)
		return response.StatusCode
	}
	soon := func(what, key string, want int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); get(key) != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: still not %d", what, want)
			}
		}
	}

	ended := make(chan error, 1)
	go func() {
		request, _ := http.NewRequest("GET", "https://localhost/stream", nil)
		request.Header.Set("X-API-Key", "ci-key-0123456789")
		response, err := client.Do(request)
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		ended <- err
	}()
	<-opened
	write(t, file, []byte("cron:cron-key-0123456789\nnew:new-key-00123456789\n"))
	soon("a new key", "new-key-00123456789", 200)
	if get("ci-key-0123456789") != 401 || get("cron-key-0123456789") != 200 {
		t.Error("the keys are not those of the file")
	}
	if err := <-ended; err == nil {
		t.Error("what a key has opened that is gone stays open")
	}

	write(t, file, []byte("cron:cron-key-0123456789\nnew\n"))
	e.soonSaid(t, "keys.txt", "cannot be used")
	if get("new-key-00123456789") != 200 || get("ci-key-0123456789") != 401 {
		t.Error("a damaged file changes who may come")
	}
}
