package deadline

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// source has nothing to read, and runs out of time as often as it is asked.
type source struct{ asked int }

func (s *source) Read([]byte) (int, error) {
	s.asked++
	time.Sleep(time.Millisecond)
	return 0, os.ErrDeadlineExceeded
}

func TestTheConnectionsTimerIsSetOnlyWhenItIsTooLate(t *testing.T) {
	var set []time.Time
	var d Deadline
	d.Init(func(at time.Time) error { set = append(set, at); return nil })
	now := time.Now()
	d.Until(now.Add(time.Minute))
	d.Until(now.Add(time.Hour))
	d.Until(time.Time{})
	d.Until(now.Add(2 * time.Minute))
	if len(set) != 1 || !set[0].Equal(now.Add(time.Minute)) {
		t.Fatalf("set to %v", set)
	}
	if d.Expired() { // the minute's timer has fired
		t.Error("expired before its time")
	}
	if len(set) != 2 || !set[1].Equal(now.Add(2*time.Minute)) {
		t.Fatalf("set to %v", set)
	}
	d.Clear()
	if len(set) != 3 || !set[2].IsZero() {
		t.Fatalf("set to %v", set)
	}
}

func TestReadEndsAtTheLimitThatStands(t *testing.T) {
	var d Deadline
	d.Init(func(time.Time) error { return nil })
	d.Until(time.Now().Add(20 * time.Millisecond))
	s := &source{}
	if _, err := d.Read(s, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || s.asked < 2 {
		t.Errorf("%v after %d reads", err, s.asked)
	}
	d.Until(time.Time{})
	d.Interrupt()
	s.asked = 0
	if _, err := d.Read(s, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || s.asked != 1 {
		t.Errorf("kicked: %v after %d reads", err, s.asked)
	}
	d.Release()
	if d.Expired() {
		t.Error("expired without a limit")
	}
	if _, err := d.Read(eof{}, make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func TestPatienceIsEarned(t *testing.T) {
	const stall = 20 * time.Second
	for _, test := range []struct {
		rate   int
		n      int64
		waited time.Duration
		want   time.Duration
	}{
		{0, 0, time.Hour, stall}, {240, 0, 0, stall}, {240, 0, 5 * time.Second, 15 * time.Second}, {240, 0, 21 * time.Second, -time.Second},
		{240, 2400, 25 * time.Second, 5 * time.Second}, {240, 1 << 30, time.Minute, stall},
	} {
		if got := Patience(stall, test.rate, test.n, test.waited); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}
