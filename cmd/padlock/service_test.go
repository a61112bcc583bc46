package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a path may hold, and each format has a meaning for.
var oddWords = []string{"/bin/true", "dev", "--storage", `/home/o'dd "user"/100% $HOME\x/<&>`}

func TestSystemdReadsTheUnit(t *testing.T) {
	text := systemdUnit(oddWords, []setting{{"storage", oddWords[3]}})
	for _, want := range []string{
		`ExecStart="/bin/true" "dev" "--storage" "/home/o'dd \"user\"/100%% $$HOME\\x/<&>"`,
		`Environment="PADLOCK_STORAGE=/home/o'dd \"user\"/100%% $HOME\\x/<&>"`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("systemd-analyze is missing")
	}
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	file := filepath.Join(t.TempDir(), serviceName+".service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command(analyze, "verify", "--user", file)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	if out, err := verify.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheListOfPropertiesHoldsTheWords(t *testing.T) {
	var words []string
	for decoder := xml.NewDecoder(strings.NewReader(launchdPlist(oddWords, []setting{{"storage", "redis://:secret@store.test"}}))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			words = append(words, string(text))
		}
	}
	if all := strings.Join(words, "\n"); !strings.Contains(all, strings.Join(oddWords, "\n")) || !strings.Contains(all, "PADLOCK_STORAGE\nredis://:secret@store.test") {
		t.Errorf("%q", words)
	}
}
