package dev

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/dev/launch"
	"padlock/internal/lazy"
	"padlock/internal/netname"
)

//go:embed waiting.html
var waitingPage string

//go:embed apps.html
var appsPage string

var (
	waiting = page("waiting", waitingPage)
	list    = page("apps", appsPage)
)

// page parses a page for the first who looks at it.
func page(name, text string) func() *template.Template {
	return sync.OnceValue(func() *template.Template { return template.Must(template.New(name).Parse(text)) })
}

// What a browser is shown of an app's output.
const (
	shownLines = 20
	shownBytes = 16 << 10
)

// WaitingField is a header field in every answer that is given for an app that does not listen.
const WaitingField = "Padlock-Waiting"

// ServePages answers for apps that do not listen, and lists all at localhost, on a socket to which the proxy forwards.
// It returns when ctx ends.
func (h *Hub) ServePages(ctx context.Context) error {
	path := filepath.Join(h.dir, pagesName)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}

	server := &http.Server{Handler: http.HandlerFunc(h.page), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}

	return nil
}

// situation is what the pages show of an app.
type situation struct {
	Name    string   `json:"name"`
	Command string   `json:"command"`
	Dir     string   `json:"directory"`
	Waiting string   `json:"waiting_for"`
	Output  []string `json:"output"`
}

func (h *Hub) page(w http.ResponseWriter, r *http.Request) {
	// The app may listen when the next request comes.
	w.Header().Set("Cache-Control", "no-store")
	app := h.of(r.Host)
	if app == nil {
		h.answerList(w, r)
		return
	}

	about := situation{Name: app.Name, Command: app.Command, Dir: app.Dir, Waiting: app.Waiting, Output: output(app.Log)}
	w.Header().Set(WaitingField, "1")
	w.Header().Set("Retry-After", "1")
	if !wantsPage(r) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(about)
		return
	}

	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = waiting().Execute(w, about)
}

// answerList lists the apps; at a name that none of them has it says so.
func (h *Hub) answerList(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r)
	status := http.StatusOK
	if host != "localhost" {
		status = http.StatusNotFound
	}

	apps := h.list()
	if !wantsPage(r) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"apps": apps})
		return
	}

	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = list().Execute(w, map[string]any{"Host": host, "Known": host == "localhost", "Apps": apps})
}

// wantsPage reports whether a person looks at the answer.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	name, _ := config.CanonicalHost(host)
	return name
}

// of is the app that a host belongs to.
func (h *Hub) of(host string) *App {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}

	name, _ := config.CanonicalHost(host)
	h.mu.Lock()
	defer h.mu.Unlock()

	for _, pattern := range []string{name, netname.Wildcard(name)} {
		for _, c := range h.apps {
			if slices.Contains(c.app.Hosts, pattern) {
				return c.app
			}
		}
	}

	return nil
}

// control is what a terminal obeys and a page does not show (ECMA-48).
var control = lazy.Regexp("\x1b(\\[[0-?]*[ -/]*[@-~]|\\][^\a\x1b]*(\a|\x1b\\\\)|[@-Z\\\\-_])|[\x00-\x08\x0b-\x1f\x7f]")

// output is the end of a log, without what a terminal would obey.
func output(name string) []string {
	if name == "" {
		return []string{}
	}

	text, err := launch.ReadLog(name, shownBytes)
	if err != nil {
		return []string{}
	}
	// The limit may have cut a character in two.
	plain := control().ReplaceAllString(strings.ToValidUTF8(string(text), "�"), "")
	if plain = strings.TrimRight(plain, "\n"); plain == "" {
		return []string{}
	}
	lines := strings.Split(plain, "\n")
	return lines[max(0, len(lines)-shownLines):]
}
