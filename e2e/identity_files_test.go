//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	idPages = 7 // of each user

	// errorOfSite begins the page of the site's errors; a version follows.
	errorOfSite = "<!doctype html><title>of the site</title>\n"
)

// writeFiles writes files that have their user's marker everywhere, and names the page of errors.
func (h *identity) writeFiles() {
	h.files, h.page = h.t.TempDir(), filepath.Join(h.t.TempDir(), "error.html")
	for _, u := range h.users {
		dir := filepath.Join(h.files, u.marker())
		if err := os.Mkdir(dir, 0o755); err != nil {
			h.t.Fatal(err)
		}
		for n := range idPages {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("page-%d", n)), stamped(u.marker(), pageSize(n)), 0o644); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

func pageSize(n int) int { return n * n * 1500 }

// fileStatus is that of an answer with a file.
func (j *idJob) fileStatus() int {
	switch {
	case j.combo.does(doesSocket) && !j.combo.one():
		return 501 // 200 would open a WebSocket
	case j.method == "GET" || j.method == "HEAD":
		return 200
	}
	return 405
}

// checkFile tells what is wrong with an answer with a file.
func (j *idJob) checkFile(got idGot) string {
	size, content := pageSize(j.number%idPages), string(got.content)
	// Files do not change, so neither do their tags.
	tag := strings.TrimPrefix(got.fields.Get("Etag"), "W/")
	if first, _ := j.user.tags.LoadOrStore(size, tag); tag == "" || first != tag {
		return fmt.Sprintf("the tag %q of a file that has had the tag %q", tag, first)
	}
	if j.method == "HEAD" {
		if length := got.fields.Get("Content-Length"); got.fields.Get("Content-Encoding") == "" && length != strconv.Itoa(size) || content != "" {
			return fmt.Sprintf("a length of %s, not %d, with %d bytes", length, size, len(content))
		}
		return ""
	}
	if at := unstamped(got.content, j.user.marker()); at >= 0 || len(content) != size {
		return fmt.Sprintf("a file of %d bytes, not %d; it differs after %d", len(content), size, at)
	}
	return ""
}

// checkPage tells what is wrong with the page of an error.
func (j *idJob) checkPage(got idGot) string {
	others := got.fields.Get("X-Refused") != "" || got.status == 409 // the service's, and a target's that has no page
	if got.status < 400 || got.call || j.method == "HEAD" || got.fields.Get("X-Site-Response") == "" || others {
		return ""
	}
	if got.status == 404 && strings.Contains(string(got.content), "padlock · request ") {
		return "" // the site's has not come in time
	}
	version, ok := strings.CutPrefix(string(got.content), errorOfSite)
	if n, err := strconv.Atoi(strings.TrimSuffix(version, "\n")); !ok || err != nil || (n == 404) != (got.status == 404) {
		return fmt.Sprintf("an error that has not the site's page: %.100q", got.content)
	}
	return ""
}

// checkIntercepted tells what is wrong with a page that stands for a target's error. The page itself was looked at.
func (j *idJob) checkIntercepted(got idGot) string {
	for name, want := range map[string]string{"X-Target": "", "X-Echo": "", "Www-Authenticate": j.challenge()} {
		if value := strings.Join(got.fields[name], "|"); value != want {
			return fmt.Sprintf("%s of a page: %q, not %q", name, value, want)
		}
	}
	return ""
}

// checkPreflight tells what is wrong with the permission that a browser asks for.
func (j *idJob) checkPreflight(got idGot) string {
	if got.fields.Get("X-Target") != "" || len(got.content) > 0 {
		return "the answer of a target"
	}
	return ""
}

// page is the site's page of an error. Nothing of a request may be in the question for it.
func (s idService) page(w http.ResponseWriter, r *http.Request) {
	if text := dump(r); firstMarker(text) != "" || secretIn(text) != "" || r.RequestURI != "/page/404" {
		s.h.mixed(nil, "pages", "the question for a page", firstMarker(text), text)
	}
	s.h.note("pages")
	w.Header().Set("Content-Type", "text/html")
	_, _ = w.Write([]byte(errorOfSite + "404\n"))
}

// idCounted is what a limit counts together, of one user's.
type idCounted struct{ route, self int }

func (j *idJob) counted() idCounted {
	of := idCounted{route: j.combo.route()}
	if j.combo.limitedBy() == "user" {
		of.self = j.self()
	}
	return of
}

// tally counts what the user has sent to the route.
func (j *idJob) tally() *atomic.Int64 {
	count, _ := j.user.counted.LoadOrStore(j.counted(), new(atomic.Int64))
	return count.(*atomic.Int64)
}

// checkCount tells whether a limit has counted what others have sent. A request that a client sends again counts twice.
func (j *idJob) checkCount(got idGot) string {
	told := got.fields.Get("RateLimit")
	if j.preflighted() && j.combo.limitedBy() == "user" { // browsers do not say whose it is
		return ""
	}
	if (told == "") != j.combo.limit(0) {
		return fmt.Sprintf("RateLimit: %q", told)
	}
	if !j.combo.limit(limitCounts) {
		return ""
	}
	_, left, _ := strings.Cut(told, ";r=")
	if n, err := strconv.ParseInt(left, 10, 64); err != nil || n < most-2*j.tally().Load()-10 {
		return fmt.Sprintf("RateLimit: %q after %d requests", told, j.tally().Load())
	}
	return j.checkLeft(got.fields, left)
}

// idLeft is what one count of a limit has told: each site and route counts by itself.
type idLeft struct {
	of         idCounted
	site       int
	side, left string
}

// checkLeft tells whether more requests were told the same than there are padlocks, of which one was counted elsewhere.
func (j *idJob) checkLeft(fields http.Header, left string) string {
	h := j.user.h
	if time.Since(time.Unix(0, h.began.Load())) > another/2 {
		return "" // one more may be left than before
	}
	is := idLeft{j.counted(), j.combo.site(), fields.Get(idChosenField), left}
	told, _ := j.user.left.LoadOrStore(is, new(atomic.Int64))
	if n := told.(*atomic.Int64).Add(1); n > h.counters.Load() {
		return fmt.Sprintf("%d requests were told that %s are left", n, left)
	}
	return ""
}
