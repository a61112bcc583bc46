package message

import (
	"context"
	"io"
	"sync"
	"time"
)

// Context is a request's context: it ends when the client goes away. Unlike the context package's, it can close what a
// request waits for without a goroutine or an allocation. The zero value is ready; it is safe for use from many
// goroutines.
type Context struct {
	mu   sync.Mutex
	err  error
	done chan struct{} // made when somebody asks
	held io.Closer
}

var _ context.Context = (*Context)(nil)

// Deadline implements context.Context: there is none.
func (c *Context) Deadline() (at time.Time, ok bool) { return at, false }

// Value implements context.Context: there is none.
func (c *Context) Value(any) any { return nil }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Most requests never ask, and cost no channel.
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Cancel ends the context and closes what is held. It may be called more than once.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}

	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}

	if c.held != nil {
		// Closing happens within the lock, so that nothing is closed after its Release.
		_ = c.held.Close()
		c.held = nil
	}
}

// Hold has closer closed by Cancel until Release; its Close must not wait for anything. Hold reports false, and holds
// nothing, when the context has ended already.
func (c *Context) Hold(closer io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.held = closer
	return true
}

// Release lets go of what is held; it reports false when Cancel came first.
func (c *Context) Release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = nil
	return c.err == nil
}

// Closer makes a function of what a context holds.
type Closer func()

// Close calls the function.
func (c Closer) Close() error {
	c()
	return nil
}

// Pristine reports whether the context has neither ended nor been waited for, so that another request can have it.
func (c *Context) Pristine() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && c.done == nil
}
