package proxy_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// pass are the fields of a target's request, in its head and behind its content, that pass for one of some names.
func pass(r *http.Request, names ...string) (found []string) {
	for _, fields := range []http.Header{r.Header, r.Trailer} {
		for name, values := range fields {
			plain := strings.NewReplacer("_", "-", ".", "-").Replace(name)
			if slices.ContainsFunc(names, func(other string) bool { return strings.EqualFold(other, plain) }) {
				found = append(found, name+": "+strings.Join(values, "|"))
			}
		}
	}
	slices.Sort(found)
	return found
}

// What was verified is what a target reads: a field that passes for the one with the key or the token, in its head or
// behind the content, does not get there, nor to the service that is asked.
func TestNothingPassesForACredentialThatWasVerified(t *testing.T) {
	t.Parallel()
	seen, asked := make(chan []string, 1), make(chan []string, 1)
	target := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- pass(r, "X-API-Key", "X-Client")
	})
	service := backend(t, func(_ http.ResponseWriter, r *http.Request) { asked <- pass(r, "X-API-Key", "X-Client") })
	for _, aliases := range []string{"keep", "drop_known"} {
		e := startFile(t, `
underscores_in_headers: %s
sites:
  - hosts: [localhost]
    routes:
      - {path: /taken, api_keys: {file: %[2]q}, to: %[3]q}
      - {path: /kept, api_keys: {file: %[2]q, forward: true}, to: %[3]q}
      - {path: /asked, api_keys: {file: %[2]q, forward: true, copy: X-Client}, forward_auth: {to: %[4]q, uri: /}, to: %[3]q}
`, aliases, keyFile(t), target, service)
		for name, client := range e.everyClient(t) {
			for path, want := range map[string]string{"/taken": "", "/kept": "X-Api-Key: ci-key-0123456789", "/asked": "X-Api-Key: ci-key-0123456789, X-Client: ci"} {
				request, _ := http.NewRequest("POST", "https://localhost"+path, strings.NewReader("content"))
				request.ContentLength = -1
				request.Header = http.Header{"X-Api-Key": {"ci-key-0123456789"}, "X_api_key": {"FORGED"}, "X_API.KEY": {"FORGED"}, "X-Client": {"FORGED"}}
				if path != "/asked" {
					delete(request.Header, "X-Client")
				}
				request.Trailer = http.Header{"X-Api-Key": {"FORGED"}, "X-Api_key": {"FORGED"}}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(name, err)
				}
				response.Body.Close()
				if response.StatusCode != 200 {
					t.Fatalf("%s: %s: %s", name, path, response.Status)
				}
				if got := strings.Join(<-seen, ", "); got != want {
					t.Errorf("%s, %s: the target of %s got %q", name, aliases, path, got)
				}
				if path != "/asked" {
					continue
				}
				if got := strings.Join(<-asked, ", "); got != "X-Api-Key: ci-key-0123456789" {
					t.Errorf("%s, %s: the service got %q", name, aliases, got)
				}
			}
		}
	}
}

// A copy has nothing that opens anything, unless its rule says so: neither what is known to, nor what the configuration
// asks for on whichever route, in any spelling.
func TestAMirrorGetsNoCredential(t *testing.T) {
	t.Parallel()
	copied := make(chan []string, 1)
	secrets := []string{"X-API-Key", "X-My-Key", "X-Auth-Token", "Authorization", "Cookie"}
	mirror := backend(t, func(_ http.ResponseWriter, r *http.Request) { copied <- pass(r, append(secrets, "X-Plain")...) })
	target := backend(t, func(http.ResponseWriter, *http.Request) {})
	e := startFile(t, `
underscores_in_headers: keep
sites:
  - hosts: [localhost]
    routes:
      - {path: /keyed, api_keys: {file: %[1]q, header: X-My-Key, forward: true}, to: %[2]q, mirror: {to: %[3]q}}
      - {path: /all, api_keys: {file: %[1]q, header: X-My-Key, forward: true}, to: %[2]q, mirror: {to: %[3]q, secrets: true}}
      - {to: %[2]q, mirror: {to: %[3]q}}
`, keyFile(t), target, mirror)
	fields := []string{"X-Plain", "plain", "X_My_Key", "ci-key-0123456789"}
	for _, name := range secrets {
		fields = append(fields, name, "ci-key-0123456789")
	}
	for name, client := range e.everyClient(t) {
		for path, want := range map[string]int{"/keyed": 1, "/": 1, "/all": 1 + len(secrets)} {
			if response, body := fetch(t, client, "GET", "https://localhost"+path, fields...); response.StatusCode != 200 {
				t.Fatalf("%s: %s: %s %s", name, path, response.Status, body)
			}
			select {
			case got := <-copied:
				if len(got) != want {
					t.Errorf("%s: the mirror of %s got %q", name, path, got)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: %s is not copied", name, path)
			}
		}
	}
}
