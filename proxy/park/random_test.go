//go:build linux

package park

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever meets whatever, each parked connection comes back once: woken, expired, or taken back. Nothing is left behind, and none
// is woken for another that has its descriptor now.
func TestEachParkedConnectionComesBackOnce(t *testing.T) {
	const workers, rounds = 64, 60
	l := lot(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var owners, waking sync.WaitGroup
	var parks, returns atomic.Int64

	stop := make(chan struct{})
	var disturbing sync.WaitGroup
	disturbing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				l.Expire(rand.N(3))
			}
		}
	})

	for range workers {
		owners.Go(func() {
			for range rounds {
				far, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				near, err := listener.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				parkAtRandom(t, l, near, far, &parks, &returns, &waking)
			}
		})
	}

	owners.Wait()
	waking.Wait()
	close(stop)
	disturbing.Wait()
	if parks.Load() != returns.Load() || parks.Load() == 0 {
		t.Errorf("%d were parked, %d came back", parks.Load(), returns.Load())
	}
	if n := l.Parked(); n != 0 || l.byTime.Len() != 0 {
		t.Errorf("%d are left, %d of them in the list", n, l.byTime.Len())
	}
}

// parkAtRandom parks a connection a few times. Its ends may belong to different connections; only near's descriptor counts.
func parkAtRandom(t *testing.T, l *Lot, near, far net.Conn, parks, returns *atomic.Int64, waking *sync.WaitGroup) {
	defer near.Close()
	defer far.Close()
	for range 1 + rand.N(3) {
		back := make(chan struct{})
		var once atomic.Bool
		waking.Add(1)
		parked := l.Park(near, time.Duration(rand.N(2000))*time.Millisecond, func(bool) {
			defer waking.Done()
			if !once.CompareAndSwap(false, true) {
				t.Error("woken twice, or after it was taken back")
			}
			returns.Add(1)
			close(back)
		})
		if !parked {
			t.Error("not parked")
			waking.Done()
			return
		}
		parks.Add(1)

		switch rand.N(4) {
		case 0: // something comes while we take it back
			go func() { _, _ = far.Write([]byte("x")) }()
		case 1:
			far.Close()
		case 2:
			time.Sleep(time.Duration(rand.N(300)) * time.Microsecond)
		}
		if rand.N(2) == 0 && l.Unpark(near) {
			once.Store(true)
			returns.Add(1)
			waking.Done()
			continue
		}
		l.Expire(1) // perhaps it, perhaps another
		select {
		case <-back:
		case <-time.After(20 * time.Second):
			t.Error("never woken")
			return
		}
	}
}

// A connection that is closed while it is parked, against the rules, costs the next with its descriptor nothing.
func TestADescriptorThatIsUsedAgainIsAnotherConnection(t *testing.T) {
	l := lot(t)
	number := func(c net.Conn) (found int) {
		withDescriptor(c, func(fd int) { found = fd })
		return found
	}
	again := 0
	for range 50 {
		stale, _ := pair(t)
		first := make(chan bool, 1)
		l.Park(stale, time.Minute, func(expired bool) { first <- expired })
		old := number(stale)
		stale.Close()
		one, other := pair(t)
		near, far := one, other
		switch old {
		case number(one):
		case number(other):
			near, far = other, one
		default: // somebody else was faster
			l.Expire(1)
			<-first
			continue
		}
		again++

		woken := make(chan bool, 1)
		if !l.Park(near, time.Minute, func(expired bool) { woken <- expired }) {
			t.Fatal("not parked")
		}
		within(t, first, true)
		_, _ = far.Write([]byte("x"))
		within(t, woken, false)
		if l.byTime.Len() != 0 || len(l.parked) != 0 {
			t.Fatalf("%d in the list, %d parked", l.byTime.Len(), len(l.parked))
		}
	}
	if again == 0 {
		t.Error("no descriptor was used again")
	}
}
