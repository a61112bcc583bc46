// Package park waits for idle connections without a goroutine or a buffer for each.
//
//	lot, err := park.New()
//	lot.Park(conn, time.Minute, func(expired bool) { … })
package park

import (
	"container/list"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Lot watches parked connections with one epoll descriptor, which the runtime's own poller watches in turn: no thread
// waits. It is safe for use from many goroutines.
type Lot struct {
	epoll *os.File
	raw   syscall.RawConn
	fd    int

	mu      sync.Mutex
	parked  map[int32]*entry // by descriptor
	byTime  list.List        // of *entry, the next to expire first where all wait equally long
	serial  int32            // tells an entry from an earlier one with the same descriptor
	timer   *time.Timer
	collect collections
	done    chan struct{}
}

type entry struct {
	fd, serial int32
	expires    time.Time
	wake       func(expired bool)
	place      *list.Element
}

const sweepEvery = time.Second

// New returns an empty lot; Close ends it.
func New() (*Lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}

	// os.NewFile registers only non-blocking descriptors with the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("setting O_NONBLOCK: %w", err)
	}

	l := &Lot{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, parked: map[int32]*entry{}, done: make(chan struct{})}
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		l.epoll.Close()
		return nil, err
	}

	l.mu.Lock()
	l.timer = time.AfterFunc(sweepEvery, l.sweep)
	l.mu.Unlock()
	go l.watch()
	return l, nil
}

// Close ends watching. What is parked stays where it is.
func (l *Lot) Close() error {
	l.mu.Lock()
	l.timer.Stop()
	l.timer = nil
	l.mu.Unlock()
	// The lock is not held, as watch may be about to take it.
	err := l.epoll.Close()
	<-l.done
	return err
}

// Park calls wake once, in a goroutine of its own: when c can be read or has failed, or, with expired, when idle is
// over. It reports false, and never calls wake, where c has no descriptor. Nobody may close c before wake is called or
// Unpark reports true.
func (l *Lot) Park(c net.Conn, idle time.Duration, wake func(expired bool)) bool {
	parked := false
	withDescriptor(c, func(fd int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer == nil {
			return
		}
		// A connection was closed without being unparked, and its descriptor is another's now.
		if stale := l.parked[int32(fd)]; stale != nil {
			l.expire(stale)
		}

		l.serial++
		e := &entry{fd: int32(fd), serial: l.serial, expires: time.Now().Add(idle), wake: wake}
		// One shot: a connection wakes once, even when its client sends more before it is removed. The serial
		// number in the padding tells a late event from one for a new connection with the same descriptor.
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: e.fd, Pad: e.serial}
		// Bytes that have come before are reported as well, so nothing is lost between the last read and this call.
		if unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event) != nil {
			return
		}

		e.place = l.byTime.PushBack(e)
		l.parked[e.fd] = e
		l.collect.parked++
		parked = true
	})
	return parked
}

// Unpark takes c back. It reports false where c is not parked, or wake is on its way.
func (l *Lot) Unpark(c net.Conn) bool {
	found := false
	withDescriptor(c, func(fd int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if e := l.parked[int32(fd)]; e != nil {
			l.remove(e)
			found = true
		}
	})
	return found
}

// Wake expires c, as if its time was over. It reports false where c is not parked, or wake is on its way.
func (l *Lot) Wake(c net.Conn) bool {
	found := false
	withDescriptor(c, func(fd int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if e := l.parked[int32(fd)]; e != nil {
			l.expire(e)
			found = true
		}
	})
	return found
}

// Expire wakes those that are the next to expire, at most n, as if their time was over.
func (l *Lot) Expire(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for front := l.byTime.Front(); front != nil && n > 0; front = l.byTime.Front() {
		l.expire(front.Value.(*entry))
		n--
	}
}

// expire is called with the lock held.
func (l *Lot) expire(e *entry) {
	l.remove(e)
	// A goroutine, as wake may park the connection again, which takes the lock.
	go e.wake(true)
}

// Parked is how many connections are parked.
func (l *Lot) Parked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}

func (l *Lot) remove(e *entry) {
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, int(e.fd), nil)
	delete(l.parked, e.fd)
	l.byTime.Remove(e.place)
}

// watch wakes what can be read.
func (l *Lot) watch() {
	defer close(l.done)
	var events [128]unix.EpollEvent

	// The epoll descriptor becomes readable when one of its own does. The runtime's poller waits for that, so no
	// thread blocks here.
	_ = l.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events[:], 0)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				// Reporting false goes back to the poller. It is edge-triggered, so everything must have been taken
				// before.
				return err != nil && err != unix.EAGAIN
			}
			l.ready(events[:n])
		}
	})
}

func (l *Lot) ready(events []unix.EpollEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		if e := l.parked[events[i].Fd]; e != nil && e.serial == events[i].Pad {
			l.remove(e)
			go e.wake(false)
		}
	}
}

// sweep wakes what has waited for long enough, and collects garbage after many have been parked.
func (l *Lot) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		return
	}

	now := time.Now()
	for front := l.byTime.Front(); front != nil && !front.Value.(*entry).expires.After(now); front = l.byTime.Front() {
		l.expire(front.Value.(*entry))
	}

	if l.collect.due(now) {
		// Collecting takes a while, which nobody should wait for under the lock.
		go l.free()
	}

	l.timer.Reset(sweepEvery)
}

// free collects garbage, and gives its memory back.
func (l *Lot) free() {
	began := time.Now()
	debug.FreeOSMemory()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.collect.took = time.Since(began)
}

// withDescriptor looks through wrappers for the socket.
func withDescriptor(c net.Conn, use func(fd int)) {
	for {
		if socket, ok := c.(syscall.Conn); ok {
			if raw, err := socket.SyscallConn(); err == nil {
				// Control keeps the descriptor from being closed, and its number from being reused, while it is in
				// use.
				_ = raw.Control(func(fd uintptr) { use(int(fd)) })
			}
			return
		}

		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		c = wrapper.NetConn()
	}
}
