//go:build e2e

package e2e

import (
	"os"
	"testing"
)

// The program as it is released stays below 55 MB. Most of it are clients of others: Redis, PostgreSQL and the APIs of DNS
// providers.
func TestTheBinaryStaysSmall(t *testing.T) {
	besides(t)
	info, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > 55e6 {
		t.Errorf("%.1f MB", float64(info.Size())/1e6)
	}
}
