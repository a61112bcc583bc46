package proxy_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// namesOfVariables are a gateway's variables as fields: some targets take another path, query, host or method from them than padlock has
// judged.
var namesOfVariables = []string{
	"Script-Name", "Path-Info", "Path-Translated", "Request-Uri", "Request-Url", "Request-Method", "Query-String", "Script-Filename", "Script-Url",
	"Server-Name", "Server-Port", "Remote-Addr", "Remote-User", "Auth-Type", "Https", "Document-Uri", "Document-Root", "Unencoded-Url",
}

// namesOfOtherRequests are the fields of proxies that rewrite a request.
var namesOfOtherRequests = []string{
	"X-Script-Name", "X-Path-Info", "X-Original-Url", "X-Original-Uri", "X-Original-Path", "X-Rewrite-Url", "X-Rewrite-Uri", "X-Request-Uri",
	"X-Envoy-Original-Path", "X-Host", "X-Http-Host-Override",
}

// namesOfOtherMethods are fields by which some targets take another method.
var namesOfOtherMethods = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Method"}

// spellings are a field's name as targets of CGI's kind may read it, the plain one first.
func spellings(name string) []string {
	all := []string{name}
	for _, mark := range []string{"_", "."} {
		if strings.Contains(name, "-") {
			all = append(all, strings.ReplaceAll(name, "-", mark), strings.ToUpper(strings.ReplaceAll(name, "-", mark)))
		}
	}
	return all
}

// forge sends a POST with fields in its head, and others announced and sent behind its content.
func forge(t *testing.T, client *http.Client, url string, head, behind []string) int {
	t.Helper()
	request, err := http.NewRequest("POST", url, strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = -1
	request.Trailer = http.Header{"X-Sum": {"7"}}
	for _, name := range head {
		request.Header[name] = []string{"FORGED"}
	}
	for _, name := range behind {
		request.Trailer[name] = []string{"FORGED"}
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode
}

// No target hears from a client that it asked for something else than what the rules have judged: in the head, behind the content or in
// the announcement of that, under every spelling, by every protocol. gunicorn takes SCRIPT_NAME under that very name, so that it is no
// matter of aliases.
func TestNoFieldOfAClientNamesAnotherRequest(t *testing.T) {
	t.Parallel()
	r := record(t)
	for _, drop := range []string{"drop_known", "keep", "drop"} {
		e := startFile(t, "underscores_in_headers: %s\nsites: [{hosts: [localhost], routes: [{to: %q, headers: {request: {set: {Path_Info: OURS}}}}]}]", drop, r.url())
		for front, client := range e.everyClient(t) {
			for i, name := range slices.Concat(namesOfVariables, namesOfOtherRequests) {
				head, behind := spellings(name), spellings(name)
				if drop == "keep" && i >= len(namesOfVariables) { // aliases are kept, and variables are none
					head = head[:1]
				}
				status := forge(t, client, "https://localhost/", head, behind)
				got := r.take()
				if lower := strings.ToLower(got); status != 200 || strings.Contains(got, "FORGED") || strings.Contains(lower, "trailer: "+strings.ToLower(name)) || strings.Count(lower, "\r\ntrailer: x-sum\r\n") != 1 {
					t.Errorf("%s: %s: %s: %d, and the target got\n%s", drop, front, name, status, got)
				}
				if !strings.Contains(got, "\r\nPath_Info: OURS\r\n") {
					t.Errorf("%s: %s: %s: a rule's field is gone:\n%s", drop, front, name, got)
				}
			}
		}
	}

	// A trusted proxy tells of what it has rewritten, by the plain name alone.
	e := startFile(t, "trusted_proxies: [127.0.0.1]\nsites: [{hosts: [localhost], routes: [{to: %q}]}]", r.url())
	for _, name := range slices.Concat(namesOfVariables, namesOfOtherRequests) {
		e.sayFields(t, "X-Forwarded-For: 6.6.6.6", name+": KEPT", "SCRIPT_NAME: FORGED", "X_Script_Name: FORGED")
		if got := r.take(); !strings.Contains(got, "\r\n"+name+": KEPT\r\n") || strings.Contains(got, "FORGED") {
			t.Errorf("of a trusted proxy: %s: the target got\n%s", name, got)
		}
	}
}

// A method that differs from a registered or a configured one by its letters' case alone is refused, as many frameworks take it for that
// one; and where routes go by methods, no field says that another is meant.
func TestNoMethodGoesAroundARule(t *testing.T) {
	t.Parallel()
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method) })
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %[1]q}
      - {path: /w, methods: [DELETE, PUT, PURGE], deny: ["0.0.0.0/0", "::/0"], to: %[1]q}
  - {hosts: [free.localhost], routes: [{to: %[1]q}]}
`, app)
	for front, client := range e.everyClient(t) {
		for method, want := range map[string]int{
			"DELETE": 403, "PURGE": 403, "POST": 200, "REPORT": 200, "PURGER": 200, "sing": 200,
			"delete": 501, "Delete": 501, "dELETE": 501, "pUT": 501, "purge": 501, "Purge": 501, "get": 501, "Propfind": 501, "m-search": 200,
		} {
			response, body := fetch(t, client, method, "https://localhost/w")
			if response.StatusCode != want || want == 200 && body != method {
				t.Errorf("%s: %s: %d %q", front, method, response.StatusCode, body)
			}
		}
	}
	for front, send := range e.fronts(t) {
		for method, want := range map[string]string{"get": "501", "Post": "501", "patch": "501", "purge": "200"} {
			fields := []string{":method", method, ":scheme", "https", ":authority", "free.localhost", ":path", "/"}
			if o := send(forged{fields: fields}); o.status != want {
				t.Errorf("%s: %s: %+v", front, method, o)
			}
		}
	}
	for _, method := range []string{"get", "Head", "connect", "Trace"} {
		if answer := e.say(t, method+" / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 501 ") {
			t.Errorf("h1: %s: %.40q", method, answer)
		}
	}

	r := record(t)
	for routes, kept := range map[string]bool{"{to: %[1]q}": true, "{to: %[1]q}, {path: /w, methods: [DELETE], deny: [127.0.0.1], to: %[1]q}": false} {
		e := startFile(t, "sites: [{hosts: [localhost], routes: ["+routes+"]}]", r.url())
		for front, client := range e.everyClient(t) {
			for _, name := range namesOfOtherMethods {
				for where, status := range map[string]int{
					"head":   forge(t, client, "https://localhost/w", []string{name}, nil),
					"behind": forge(t, client, "https://localhost/w", nil, []string{name}),
				} {
					if status != 200 {
						t.Errorf("%s: %s %s: %d", front, name, where, status)
					}
				}
				if got := r.take(); strings.Count(got, "FORGED") != map[bool]int{true: 2}[kept] {
					t.Errorf("%s: %s: kept is not %v:\n%s", front, name, kept, got)
				}
				if !kept {
					forge(t, client, "https://localhost/w", spellings(name), spellings(name))
					if got := r.take(); strings.Contains(got, "FORGED") || strings.Contains(strings.ToLower(got), "trailer: "+strings.ToLower(name)) {
						t.Errorf("%s: an alias of %s:\n%s", front, name, got)
					}
				}
			}
		}
	}
}
