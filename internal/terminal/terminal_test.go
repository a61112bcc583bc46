package terminal

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// What is said goes on below its own text, whatever the width; a command stays whole.
func TestWhatIsSaidFitsTheTerminal(t *testing.T) {
	text := "for browsers outside, run once on the host: " + Unbroken("docker exec 0123456789ab padlock trust --print") + " (local CA 01:23)"
	for width, want := range map[int]string{
		0: "padlock: for browsers outside, run once on the host: docker exec 0123456789ab padlock trust --print (local CA 01:23)\n",
		60: "padlock: for browsers outside, run once on the host:\n" +
			"         docker exec 0123456789ab padlock trust --print\n" +
			"         (local CA 01:23)\n",
		30: "padlock: for browsers outside,\n         run once on the host:\n         docker exec 0123456789ab padlock trust --print\n         (local CA 01:23)\n",
	} {
		if got := said(text, width); got != want {
			t.Errorf("%d columns:\n%s", width, got)
		}
	}
}

// The log is for programs, and for a person where one reads it: then without control characters or secrets.
func TestTheLogOnATerminalIsInSentences(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(LogHandler(&out, nil))
	log.Warn("this is for programs")
	if !strings.HasPrefix(out.String(), "time=") {
		t.Errorf("%s", &out)
	}

	out.Reset()
	log = slog.New(NewSentences(&out)).With("site", "localhost")
	log.Warn("the target is gone", "error", errors.New("dial redis://u:secret@127.0.0.1: \x1b[2J"), "empty", "")
	log.WithGroup("a").Info("fine", "n", 3)
	want := "padlock: warning: the target is gone · site: localhost · error: "
	if got := out.String(); !strings.HasPrefix(got, want) || strings.Contains(got, "secret") || strings.Contains(got, "\x1b") ||
		!strings.HasSuffix(got, "\npadlock: fine · site: localhost · a.n: 3\n") {
		t.Errorf("%q", got)
	}
}
