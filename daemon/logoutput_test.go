//go:build linux

package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"padlock/config"
	"padlock/internal/servicetest"
)

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
	if len(lines) != len(want) || o.Lost() != 7 {
		t.Fatalf("%d lost:\n%s", o.Lost(), &told)
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
	defer log.late.Close()
	write := func(line string) error {
		if _, err := log.late.Write([]byte(line)); err != nil {
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
