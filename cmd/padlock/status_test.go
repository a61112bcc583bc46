package main

import (
	"strings"
	"testing"

	"padlock/console"
)

// The version of a build of the source is "dev", and padlock dev is a command: the line must not read as if that served.
func TestTheStatusNamesNoCommand(t *testing.T) {
	var out strings.Builder
	if err := printStatus(&out, &console.Status{Version: "dev", Ready: true, Uptime: 65, Connections: 3}); err != nil {
		t.Fatal(err)
	}
	if line, _, _ := strings.Cut(out.String(), "\n"); line != "padlock serves, since 1m5s; 3 open connections; version dev" {
		t.Errorf("%q", line)
	}
}
