package certs

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"padlock/certs/acme"
)

func TestPausesBetweenTries(t *testing.T) {
	fault := errors.New("the CA cannot be reached")
	refused := fmt.Errorf("order: %w", &acme.Error{Refused: true})
	limited := func(d time.Duration) error { return &acme.Error{Refused: true, Wait: time.Now().Add(d)} }
	for _, c := range []struct {
		err         error
		failed      int
		least, most time.Duration
	}{
		{fault, 1, 3 * time.Second, 4 * time.Second},
		{fault, 3, 12 * time.Second, 15 * time.Second},
		{fault, 1000, 40 * time.Second, 50 * time.Second}, // so that a CA that comes back is noticed within a minute
		{refused, 1, time.Minute, 75 * time.Second},
		{refused, 1000, time.Hour, 75 * time.Minute},
		{limited(3 * time.Hour), 1, 179 * time.Minute, 181 * time.Minute},
		{limited(-time.Hour), 1, time.Minute, 75 * time.Second},
		{limited(1000 * time.Hour), 1, 12 * time.Hour, 12*time.Hour + time.Minute},
	} {
		for range 50 {
			if got := pause(c.failed, c.err); got < c.least || got > c.most {
				t.Fatalf("%v, %d tries: %s", c.err, c.failed, got)
			}
		}
	}
}
