package servicetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildCache is the build cache of programs that are built as releases are. The stand-in for the image that the
// Dockerfile builds in starts with a copy of it, so that one run of the tests compiles everything twice only: with
// the race detector, and without.
func BuildCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "padlock-tests", "go-build"), nil
}

// BuildPlain builds a program as releases are built, without the race detector. More are arguments of go build.
func BuildPlain(output, pkg string, more ...string) error {
	cache, err := BuildCache()
	if err != nil {
		return err
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", output}, more...)
	c := exec.Command("go", append(args, pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+cache)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}
