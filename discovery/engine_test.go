package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/config"
)

// The real engine is asked in e2e/. Here are engines that misbehave, and ones that keep a test's time.

// answering listens on a socket as an engine does.
func answering(t *testing.T, handler http.Handler) *config.Docker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return &config.Docker{Endpoint: "unix:" + path}
}

type answers map[string]string // by path, without the version

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v1.41"); ok {
		path = rest
	}
	text, ok := a[path]
	if !ok {
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Api-Version", "1.41")
	_, _ = io.WriteString(w, text)
}

func TestAnEngineThatMisbehavesIsNotBelieved(t *testing.T) {
	t.Parallel()
	one := `[{"Id":"` + strings.Repeat("ab", 32) + `","Labels":{"padlock.host":"a.test"}}]`
	for name, c := range map[string]struct {
		engine http.Handler
		want   string
	}{
		"no JSON":          {answers{"/_ping": "OK", "/containers/json": "<html>"}, "GET /containers/json: what answers is no container engine"},
		"another shape":    {answers{"/_ping": "OK", "/containers/json": `{"a":1}`}, "what answers is no container engine"},
		"a path for an id": {answers{"/_ping": "OK", "/containers/json": `[{"Id":"../../images"}]`}, `"../../images" is not the identifier of a container`},
		"no end":           {answers{"/_ping": "OK", "/containers/json": strings.Repeat(" ", 1<<20+1)}, "the engine answers with more than"},
		"silence":          {silent(one), "context deadline exceeded"},
		"an old version":   {versioned("1.23"), "the engine speaks version 1.23 of its interface, and padlock 1.24 and later"},
		"an odd version":   {versioned("2.x"), `the engine speaks version "2.x"`},
		"another place": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}), "302 Found"},
		"a refusal": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("no\x1b[31m", 5000), http.StatusForbidden)
		}), "GET /containers/json: 403 Forbidden: no"},
	} {
		w := New(answering(t, c.engine), slog.New(slog.DiscardHandler))
		w.pace.inspect, w.engine.maxListed = 200*time.Millisecond, 1<<20
		_, err := w.Look(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 5000 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

// silent lists containers, and says nothing about any.
func silent(list string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/json") {
			_, _ = io.WriteString(w, list)
		} else if r.URL.Path != "/_ping" {
			<-r.Context().Done()
		}
	})
}

func versioned(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", version) })
}

func TestTheVersionIsOneThatBothSidesKnow(t *testing.T) {
	for version, want := range map[string]string{"1.24": "/v1.24", "1.41": "/v1.41", "1.99": "/v1.51", "": ""} {
		var e *engine
		if version == "" { // a socket proxy lets only the list through
			e = newEngine(answering(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Forbidden", http.StatusForbidden) })))
		} else {
			e = newEngine(answering(t, versioned(version)))
		}
		if err := e.negotiate(t.Context()); err != nil || e.base != want {
			t.Errorf("%q: %q, %v", version, e.base, err)
		}
	}
}

func TestAContainerThatGoesWhileItIsLookedAtIsPassedOver(t *testing.T) {
	found, err := New(answering(t, answers{"/_ping": "OK", "/containers/json": `[{"Id":"` + strings.Repeat("ab", 32) + `","Labels":{"padlock.host":"a.test"}}]`}), nil).Look(t.Context())
	if err != nil || len(found.owners)+len(found.problems) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// engineOf is an engine of containers that come and go.
type engineOf struct {
	mu      sync.Mutex
	hosts   []string
	away    bool
	lists   int
	streams map[int]chan string
	next    int
}

func (e *engineOf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	away, hosts := e.away, e.hosts
	if strings.HasSuffix(r.URL.Path, "/containers/json") {
		e.lists++
	}
	e.mu.Unlock()
	switch {
	case away:
		panic(http.ErrAbortHandler)
	case r.URL.Path == "/_ping":
		w.Header().Set("Api-Version", "1.41")
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		var all []listed
		for i, host := range hosts {
			all = append(all, listed{ID: fmt.Sprintf("%064x", i), Labels: map[string]string{"padlock.host": host}})
		}
		_ = json.NewEncoder(w).Encode(all)
	case strings.HasSuffix(r.URL.Path, "/json"):
		var i int
		_, _ = fmt.Sscanf(r.URL.Path, "/v1.41/containers/%x/json", &i)
		about := &inspected{Name: fmt.Sprint("/c", i)}
		about.State.Running = true
		about.Config.Labels = map[string]string{"padlock.host": hosts[i], "padlock.port": "80"}
		about.NetworkSettings.Networks = map[string]*attachment{"n": {"n", "10.0.0.2", ""}}
		_ = json.NewEncoder(w).Encode(about)
	default:
		e.stream(w, r)
	}
}

func (e *engineOf) stream(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string, 100)
	e.mu.Lock()
	e.next++
	number := e.next
	e.streams[number] = lines
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.streams, number)
		e.mu.Unlock()
	}()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, open := <-lines:
			if !open {
				return
			}
			_, _ = io.WriteString(w, line)
			w.(http.Flusher).Flush()
		}
	}
}

// set changes what there is, and says so unless the event is "".
func (e *engineOf) set(event string, hosts ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts = hosts
	for _, s := range e.streams {
		if event != "" {
			s <- event
		}
	}
}

// leave ends every stream, and answers nobody until it is told otherwise.
func (e *engineOf) leave(away bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = away
	for number, s := range e.streams {
		close(s)
		delete(e.streams, number)
	}
}

const started = `{"Type":"container","Action":"start","Actor":{"ID":"x"}}` + "\n"

// shared is a log that a test reads while it is written.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// following runs a watcher at a test's pace; wait returns once it has found these hosts.
func following(t *testing.T, e *engineOf, change func(*pace)) (wait func(hosts ...string), log *shared) {
	t.Helper()
	log = &shared{}
	e.streams = map[int]chan string{}
	w := New(answering(t, e), slog.New(slog.NewTextHandler(log, nil)))
	w.pace = pace{quiet: 5 * time.Millisecond, burst: 50 * time.Millisecond, resync: time.Hour, look: 20 * time.Second, inspect: time.Second, retry: 5 * time.Millisecond, rest: 50 * time.Millisecond}
	if change != nil {
		change(&w.pace)
	}
	ctx, cancel := context.WithCancel(t.Context())
	states := make(chan string, 1000)
	var running sync.WaitGroup
	running.Go(func() {
		w.Run(ctx, func(f *Found) {
			var hosts []string
			for _, c := range f.owners {
				hosts = append(hosts, c.parts[0].hosts...)
			}
			states <- strings.Join(hosts, " ")
		})
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return func(hosts ...string) {
		t.Helper()
		want, timeout := strings.Join(hosts, " "), time.After(20*time.Second)
		for last := "(nothing)"; ; {
			select {
			case last = <-states:
				if last == want {
					return
				}
			case <-timeout:
				t.Fatalf("found %s, never %s\n%s", last, want, log)
			}
		}
	}, log
}

func TestContainersAreFollowedWhileTheEngineComesAndGoes(t *testing.T) {
	e := &engineOf{hosts: []string{"a.test"}}
	wait, log := following(t, e, nil)
	wait("a.test")
	e.set(started, "a.test", "b.test")
	wait("a.test", "b.test")
	e.leave(false) // a proxy in between may end the stream at any time
	e.set("", "b.test")
	wait("b.test")
	if log.String() != "" {
		t.Errorf("a stream that ended is nobody's business:\n%s", log)
	}
	e.leave(true)
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "does not answer"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was said")
		}
	}
	e.set("", "c.test")
	e.leave(false)
	wait("c.test")
	if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "answers again") != 1 {
		t.Errorf("said:\n%s", text)
	}
}

func TestWhatNoEventTellsIsFoundInTime(t *testing.T) {
	e := &engineOf{}
	wait, _ := following(t, e, func(p *pace) { p.resync = 20 * time.Millisecond })
	wait()
	e.set("", "a.test")
	wait("a.test")
}

func TestAStormOfEventsIsOneLook(t *testing.T) {
	e := &engineOf{}
	wait, _ := following(t, e, func(p *pace) { p.quiet, p.burst = 200*time.Millisecond, time.Minute })
	wait()
	for i := range 50 {
		e.set(started, fmt.Sprintf("%d.test", i))
	}
	wait("49.test")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lists > 4 {
		t.Errorf("%d lists for 50 events", e.lists)
	}
}

// What is no event ends the stream, and a new one brings everything again. What has no end is an event like any other.
func TestAStreamOfRubbishIsLeft(t *testing.T) {
	for _, rubbish := range []string{"rubbish\n", strings.Repeat("x", maxEvent+1)} {
		e := &engineOf{}
		wait, _ := following(t, e, nil)
		wait()
		e.set(rubbish, "a.test")
		wait("a.test")
	}
}
