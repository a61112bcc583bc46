package daemon

import (
	"strings"
	"testing"

	"padlock/config"
)

// parsed is a configuration, in whose text DIR is a directory of the test's own.
func parsed(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("padlock.yaml", []byte(strings.ReplaceAll(text, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
