package daemon

import (
	"errors"
	"os"
	"sync"

	"padlock/handshake"
)

// captureFile is the file of a capture. It is safe for use from many goroutines.
type captureFile struct {
	name string
	to   *handshake.Capture

	mu     sync.Mutex
	open   *os.File // nil: none could be made yet
	closed bool
	ceded  bool // another padlock takes over, and has begun its own under this name
}

// cede has the capture go on in the file that is open, whatever has its name, or no longer.
func (c *captureFile) cede(ceded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ceded = ceded
}

func (c *captureFile) called() string { return c.name }

// reopen goes on in a new file where the one before was moved away, or could not be made. The capture that still has
// its name stays as it is.
func (c *captureFile) reopen() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.ceded || c.inPlace() {
		return nil
	}

	f, err := createPrivate(c.name)
	if err != nil {
		return err
	}
	if err := c.to.Begin(f); err != nil {
		return errors.Join(err, f.Close())
	}

	if c.open != nil {
		_ = c.open.Close() // what was written there is whole
	}

	c.open = f
	return nil
}

// inPlace reports whether the file that is open has the name.
func (c *captureFile) inPlace() bool {
	if c.open == nil {
		return false
	}
	ours, err := c.open.Stat()
	named, failed := os.Lstat(c.name)
	return err == nil && failed == nil && os.SameFile(ours, named)
}

func (c *captureFile) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.open != nil {
		_ = c.open.Close()
	}
}
