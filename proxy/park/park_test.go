//go:build linux

package park

import (
	"net"
	"testing"
	"time"
)

func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func lot(t *testing.T) *Lot {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func within(t *testing.T, woken chan bool, expired bool) {
	t.Helper()
	select {
	case got := <-woken:
		if got != expired {
			t.Errorf("expired: %v", got)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("never woken")
	}
}

// A parked connection is woken by a byte, again and again, by its end, and by the end of its time.
func TestAParkedConnectionIsWoken(t *testing.T) {
	l := lot(t)
	near, far := pair(t)
	woken := make(chan bool, 1)
	wake := func(expired bool) { woken <- expired }
	for range 3 {
		if !l.Park(near, time.Minute, wake) {
			t.Fatal("not parked")
		}
		_, _ = far.Write([]byte("x"))
		within(t, woken, false)
		var p [1]byte
		_, _ = near.Read(p[:])
	}
	l.Park(near, time.Millisecond, wake)
	within(t, woken, true)
	l.Park(near, time.Minute, wake)
	far.Close()
	within(t, woken, false)
	if n := l.Parked(); n != 0 {
		t.Errorf("%d left behind", n)
	}
}

// What has come before parking wakes at once; who takes a connection back is not woken.
func TestParkingMissesNothing(t *testing.T) {
	l := lot(t)
	near, far := pair(t)
	woken := make(chan bool, 1)
	_, _ = far.Write([]byte("x"))
	l.Park(near, time.Minute, func(expired bool) { woken <- expired })
	within(t, woken, false)
	var p [1]byte
	_, _ = near.Read(p[:])
	l.Park(near, time.Minute, func(expired bool) { woken <- expired })
	if !l.Unpark(near) || l.Unpark(near) {
		t.Error("a connection is taken back once")
	}
	_, _ = far.Write([]byte("x"))
	select {
	case <-woken:
		t.Error("woken after it was taken back")
	case <-time.After(50 * time.Millisecond):
	}
	a, _ := net.Pipe()
	if l.Park(a, time.Minute, nil) {
		t.Error("a pipe has no descriptor")
	}
}

// Where room is needed, those that have waited longest go first.
func TestTheLongestParkedGoFirst(t *testing.T) {
	l := lot(t)
	woken := make(chan int, 3)
	for i := range 3 {
		near, _ := pair(t)
		l.Park(near, time.Minute, func(expired bool) {
			if !expired {
				t.Error("woken by something else")
			}
			woken <- i
		})
	}
	l.Expire(1)
	if first := <-woken; first != 0 {
		t.Errorf("number %d has gone first", first)
	}
	l.Expire(5)
	if second, third := <-woken, <-woken; second+third != 3 || l.Parked() != 0 {
		t.Errorf("then %d and %d; %d are left", second, third, l.Parked())
	}
}
