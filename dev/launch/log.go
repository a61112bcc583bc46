package launch

import (
	"context"
	"io"
	"os"
	"sync"
	"time"
)

// MaxLog is how much of an app's output is kept at least, in bytes, and read at most. The files hold up to twice as
// much.
const MaxLog = 10 << 20

// Log keeps the last of an app's output in a file, and what came before it in another, whose name ends in .1. It is
// safe for use from many goroutines.
type Log struct {
	name string

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog begins a log anew.
func OpenLog(name string) (*Log, error) {
	if err := os.Remove(name + ".1"); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l := &Log{name: name}
	return l, l.begin()
}

func (l *Log) begin() (err error) {
	if err := os.Remove(l.name); err != nil && !os.IsNotExist(err) {
		return err
	}
	l.file, err = os.OpenFile(l.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	l.size = 0
	return err
}

// Name is the log's file.
func (l *Log) Name() string { return l.name }

// Write never fails: an app does not stop because its output cannot be kept.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.file != nil && l.size+int64(len(p)) > MaxLog {
		l.file.Close()
		l.file = nil
		if os.Rename(l.name, l.name+".1") == nil {
			_ = l.begin() // without a file nothing is kept
		}
	}

	if l.file != nil {
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}

	return len(p), nil
}

// Close ends the log. The files stay.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// ReadLog returns what a log has kept, at most the last max bytes.
func ReadLog(name string, max int64) ([]byte, error) {
	last, err := tail(name, max)
	if err != nil || int64(len(last)) == max {
		return last, err
	}
	before, err := tail(name+".1", max-int64(len(last)))
	if os.IsNotExist(err) {
		return last, nil
	}
	return append(before, last...), err
}

func tail(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > max {
		if _, err := f.Seek(-max, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, max))
}

// FollowLog writes what comes to a log from now on, until ctx ends.
func FollowLog(ctx context.Context, name string, w io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}

	for {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}

		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}

		// A full log is renamed, and another one begins under its name.
		if next, err := os.Open(name); err == nil {
			if sameFile(f, next) {
				next.Close()
				continue
			}

			_, err = io.Copy(w, f) // the rest of the one before
			f.Close()
			if f = next; err != nil {
				return err
			}
		}
	}
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	other, failed := b.Stat()
	return err == nil && failed == nil && os.SameFile(one, other)
}
