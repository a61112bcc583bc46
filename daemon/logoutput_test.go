//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/config"
	"padlock/internal/servicetest"
)

// Logs that cannot be written, as on a full disk or by a pipe that nobody reads, keep nobody waiting: the operation log says so once, and the
// counter knows how much is lost. A device is not renamed when it has had as much as a file may have.
func TestALogThatCannotBeWrittenIsToldAndCounted(t *testing.T) {
	unread := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(unread, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]string{"full": "/dev/full", "pipe that nobody reads": unread} {
		t.Run(name, func(t *testing.T) {
			r := runFile(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: 127.0.0.1:0\nstorage: STORAGE\n"+
				"access_log: {output: %[1]q}\nhandshakes: {output: %[1]q, format: line}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n", place))
			const visits = 5
			for range visits {
				client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: r.tls()}}
				request, _ := http.NewRequest("GET", "https://"+r.address, nil)
				request.Host = "localhost"
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if string(body) != "hello" {
					t.Errorf("%q", body)
				}
			}
			servicetest.Until(t, func() error {
				m, _ := r.scrape(t)
				for _, queue := range []string{"access_log", "handshakes"} {
					if n := m.value("padlock_dropped_total", "queue", queue); n != visits {
						return fmt.Errorf("%s: %v lost", queue, n)
					}
				}
				return nil
			})
			if said := r.stderr.String(); strings.Count(said, "a log cannot be written") != 2 || strings.Count(said, "output="+place) != 2 {
				t.Error(said)
			}
		})
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What is told of a log: the first failure, no others within a minute, and the end of them with all that was lost.
func TestALogThatCanBeWrittenAgainSaysWhatItLacks(t *testing.T) {
	var told servicetest.Buffer
	o := &logOutput{name: "access.log", log: slog.New(slog.NewTextHandler(&told, nil))}
	for range 3 {
		o.report(2, syscall.ENOSPC)
	}
	o.report(0, nil)
	o.report(0, nil)
	o.report(1, errors.New("gone"))
	lines := strings.Split(strings.TrimSpace(told.String()), "\n")
	want := []string{"free some space", `msg="a log can be written again" output=access.log lost=6`, "error=gone lost=1"}
	if len(lines) != len(want) || o.Dropped() != 7 {
		t.Fatalf("%d lost:\n%s", o.Dropped(), &told)
	}
	for i, text := range want {
		if !strings.Contains(lines[i], text) {
			t.Errorf("without %q: %s", text, lines[i])
		}
	}
}

// A pipe is written to again when somebody reads it again.
func TestAPipeIsOpenedAnew(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	var last error
	log, err := openLogFile(name, config.Rotate{MaxSize: 1}, func(_ int, err error) { last = err })
	if err != nil {
		t.Fatal(err)
	}
	defer log.out.Close()
	write := func(line string) error {
		if _, err := log.out.Write([]byte(line)); err != nil {
			t.Error(err)
		}
		if err := log.reopen(); err != nil { // which writes what waits, and keeps nobody waiting without a reader
			t.Error(err)
		}
		return last
	}
	for range 2 {
		if err := write("nobody\n"); !errors.Is(err, syscall.ENXIO) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("without a reader: %v", err)
		}
		reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := write("line\n"); err != nil {
			t.Error(err)
		}
		text := make([]byte, 100)
		if n, err := reader.Read(text); string(text[:n]) != "line\n" {
			t.Errorf("%q, %v", text[:n], err)
		}
		reader.Close()
	}
}
