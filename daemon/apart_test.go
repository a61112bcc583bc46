package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"padlock/console"
	"padlock/internal/servicetest"
)

// While another padlock is about to take over, it has read what commands have changed: none changes anything then, and
// each says so.
func TestNoCommandChangesAnythingDuringARestart(t *testing.T) {
	t.Parallel()
	r := &reloader{log: slog.New(slog.DiscardHandler)}
	r.deploys.r = r
	failed, ok := r.apart.restart(t.Context(), r.log, r.deploys.underway)
	if !ok {
		t.Fatal("nothing is under way, and the restart waits")
	}

	const says = "padlock is being restarted, and nothing has changed"
	answer := httptest.NewRecorder()
	r.serveMaintenance(answer, httptest.NewRequest("POST", "/maintenance", strings.NewReader(`{"host": "localhost", "on": true}`)))
	if answer.Code != 503 || answer.Header().Get("Retry-After") == "" || !strings.Contains(answer.Body.String(), says) {
		t.Errorf("maintenance: %d %s", answer.Code, answer.Body)
	}

	answer = httptest.NewRecorder()
	r.serveDeploy(answer, httptest.NewRequest("POST", "/deploy", strings.NewReader(`{"host": "localhost", "to": ["127.0.0.1:1"]}`)))
	if answer.Code != 503 || answer.Header().Get("Retry-After") == "" || !strings.Contains(answer.Body.String(), says) {
		t.Errorf("deploy: %d %s", answer.Code, answer.Body)
	}

	// A reload would be lost: the other padlock has read its file.
	if err := r.reloadByCommand(); !errors.Is(err, console.ErrRestarting) {
		t.Errorf("reload: %v", err)
	}

	failed()
	if end, err := r.apart.command(); err != nil {
		t.Errorf("after a restart that has failed: %v", err)
	} else {
		end()
	}
}

// A restart waits for a command, and says for which; meanwhile others can begin. The end of padlock ends the wait.
func TestARestartWaitsForCommands(t *testing.T) {
	t.Parallel()
	text := &servicetest.Buffer{}
	var a apart
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begin := func() (end func()) {
		end, err := a.command()
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	first := begin()
	done := make(chan bool)
	wait := func(ctx context.Context) {
		_, ok := a.restart(ctx, slog.New(slog.NewTextHandler(text, nil)), func() []string { return []string{"a deploy of www.test"} })
		done <- ok
	}

	go wait(ctx)
	for limit := time.Now().Add(time.Minute); !strings.Contains(text.String(), "a deploy of www.test"); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not wait")
		}
	}
	begin()()
	cancel()
	if <-done {
		t.Error("at the end of padlock, the restart goes on")
	}

	go wait(t.Context())
	second := begin()
	first()
	second()
	if !<-done {
		t.Error("the restart does not begin when the commands have ended")
	}
}
