package servicetest

import (
	"testing"
	"time"
)

// Until asks again until there is no error; what is asked for is on its way.
func Until(t testing.TB, ask func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}

		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("in vain: %v", err)
		}
	}
}
