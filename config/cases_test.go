package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const caseSeparator = "\n=== "

// A case is a file in testdata/cases: a configuration, and behind "=== json" what is made of it, without what goes without saying, or
// behind "=== errors" exactly what is wrong with it. Those named slip are what people type who know YAML, or another proxy, only a little. UPDATE_CASES=1 writes the second parts anew; read them before they are kept.
func TestConfigurationsAreReadAsTheirCasesSay(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("PORT", "3000")
	t.Setenv("EMPTY", "")
	t.Chdir("testdata/cases")
	files, err := filepath.Glob("*.case")
	slips, _ := filepath.Glob("slip-*.case")
	if err != nil || len(files) < 120 || len(slips) < 60 {
		t.Fatalf("%d cases, %d of them slips, %v", len(files), len(slips), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".case"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(content), caseSeparator)
			got := outcome(t, input+"\n")
			switch {
			case os.Getenv("UPDATE_CASES") == "1":
				if err := os.WriteFile(file, []byte(input+caseSeparator+got), 0o600); err != nil {
					t.Fatal(err)
				}
			case got != want:
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func outcome(t *testing.T, input string) string {
	t.Helper()
	cfg, err := Parse("padlock.yaml", []byte(input))
	var wrong Errors
	if errors.As(err, &wrong) {
		return "errors\n" + wrong.Error() + "\n"
	} else if err != nil {
		t.Fatal(err)
	}
	file, err := cfg.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("padlock.yaml", file)
	if err != nil && !strings.Contains(string(file), redaction) {
		t.Errorf("the file that is printed is not valid: %v\n%s", err, file)
	} else if err == nil {
		if second, _ := again.YAML(); !bytes.Equal(second, file) {
			t.Errorf("printed, read and printed again:\n%s\nand at first\n%s", second, file)
		}
	}
	var plain any
	if err := cfg.node().Decode(&plain); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(plain, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return "json\n" + string(text) + "\n"
}

// Whatever is cut off a configuration, what is wrong with the rest is told with a line that it has.
func TestErrorsHaveALineOfTheFile(t *testing.T) {
	t.Chdir("testdata/cases")
	files, _ := filepath.Glob("*.case")
	if len(files) == 0 {
		t.Fatal("no cases")
	}
	const step = 5
	told := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(content), caseSeparator)
		for end := 0; end < len(input); end += step {
			_, err := Parse("padlock.yaml", []byte(input[:end]))
			var wrong Errors
			if errors.As(err, &wrong) {
				told++
			}
			for _, e := range wrong {
				if e.Line < 1 || e.Line > strings.Count(input[:end], "\n")+1 || e.Column < 1 || e.Message == "" {
					t.Errorf("%s: %+v of\n%s", file, e, input[:end])
				}
			}
		}
	}
	if told == 0 {
		t.Error("nothing was wrong")
	}
}
