//go:build e2e

package e2e

import (
	"os"
	"testing"
)

// The program as it is released, with all DNS providers, stays below 51 MB: 0.6 are the encoders of zstd, Brotli and gzip.
func TestTheBinaryStaysSmall(t *testing.T) {
	besides(t)
	info, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > 51e6 {
		t.Errorf("%.1f MB", float64(info.Size())/1e6)
	}
}
