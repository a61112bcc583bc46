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
// behind "=== errors" exactly what is wrong with it. UPDATE_CASES=1 writes the second parts anew; read them before they are kept.
func TestConfigurationsAreReadAsTheirCasesSay(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("PORT", "3000")
	t.Setenv("EMPTY", "")
	t.Chdir("testdata/cases")
	files, err := filepath.Glob("*.case")
	if err != nil || len(files) < 120 {
		t.Fatalf("%d cases, %v", len(files), err)
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
