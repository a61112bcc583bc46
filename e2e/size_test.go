//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The program as it is released, with all DNS providers, stays below 50 MB.
func TestTheBinaryStaysSmall(t *testing.T) {
	works(t)
	file := filepath.Join(t.TempDir(), "padlock")
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "../cmd/padlock")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > 50e6 {
		t.Errorf("%.1f MB", float64(info.Size())/1e6)
	}
}
