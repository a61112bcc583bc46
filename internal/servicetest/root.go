package servicetest

import (
	"os"
	"testing"
)

// Root leaves a test out that only root can run. With CI=true the test fails instead.
func Root(t testing.TB) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("only root can make files of another user, or be another user")
	default:
		t.Skip("only root can make files of another user, or be another user")
	}
}
