package daemon

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"padlock/config"
	"padlock/internal/regular"
)

// logOutput is where the access log or the handshakes go. What cannot be written, as on a full disk, is lost and
// counted, and the operation log says so: at once, once a minute for as long as it lasts, and when it is over. It
// never fails, and is safe for use from many goroutines.
type logOutput struct {
	name   string
	log    *slog.Logger
	w      io.Writer
	close  func()
	stream any // stdout or stderr; nil: it goes to a file

	lost atomic.Uint64 // lines of the access log, or handshakes

	mu     sync.Mutex
	warned time.Time // zero: the last write was whole
	missed uint64    // since then
}

const outputRemind = time.Minute

// newOutput opens a log. A file is rotated, so that it cannot fill the disk. gathered says that whoever writes brings
// many lines at once.
func (d *daemon) newOutput(name string, rotate config.Rotate, gathered bool) (*logOutput, error) {
	o := &logOutput{name: name, log: d.log, close: func() {}}
	switch name {
	case "stderr", "":
		o.name, o.w, o.stream = "stderr", reporting{d.Stderr, gathered, o.report}, d.Stderr
		return o, nil
	case "stdout":
		o.w, o.stream = reporting{d.Stdout, gathered, o.report}, d.Stdout
		return o, nil
	}

	f, err := openLogFile(name, rotate, o.report)
	if err != nil {
		return nil, err
	}
	d.logFiles.add(f)
	f.out.gathered = gathered
	o.w, o.close = f.out, func() { f.out.Close() }
	return o, nil
}

// newAccessLog is nil when it is off.
func (d *daemon) newAccessLog(c config.AccessLog) (*logOutput, error) {
	if c.Format == "off" {
		return nil, nil
	}
	o, err := d.newOutput(c.Output, c.Rotate, true)
	return o, fileError("access_log.output", err)
}

// Write takes whole lines.
func (o *logOutput) Write(p []byte) (int, error) { return o.w.Write(p) }

// writer is nil for what is off.
func (o *logOutput) writer() io.Writer {
	if o == nil {
		return nil
	}
	return o
}

// Dropped counts the lines of the access log, or the handshakes, that were lost.
func (o *logOutput) Dropped() uint64 {
	if o == nil {
		return 0
	}
	return o.lost.Load()
}

// report is called after every write.
func (o *logOutput) report(lost int, err error) {
	o.lost.Add(uint64(lost))
	o.mu.Lock()
	defer o.mu.Unlock()

	switch now := time.Now(); {
	case err != nil:
		o.missed += uint64(lost)
		// A full disk fails every line, and the operation log may be on the same disk.
		if now.Sub(o.warned) < outputRemind {
			return
		}
		o.warned = now
		o.log.Warn("a log cannot be written, and what it should hold is lost", "output", o.name, "error", err, "lost", o.missed, "remedy", remedyOf(err))
	case !o.warned.IsZero():
		o.log.Info("a log can be written again", "output", o.name, "lost", o.missed)
		o.warned, o.missed = time.Time{}, 0
	}
}

func remedyOf(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space there"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return "make it writable"
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.EPIPE):
		return "start what reads it"
	}
	return "name another output"
}

// reporting reports how each write has ended.
type reporting struct {
	w        io.Writer
	gathered bool // many lines a write
	report   func(lost int, err error)
}

func (r reporting) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	r.report(lostLines(p, n, err, r.gathered), err)
	return len(p), nil
}

// lostLines is how many lines a write that has ended with err has not brought, of which n bytes came through; what is
// not gathered counts as one.
func lostLines(p []byte, n int, err error, gathered bool) int {
	switch {
	case err == nil:
		return 0
	case gathered:
		return bytes.Count(p[n:], []byte{'\n'}) // also one that came in part
	}
	return 1
}

// pipe is a log that is no regular file: a named pipe, /dev/stdout, /dev/full. It is never renamed, as rotation would
// do. It is opened when there is something to write, and anew after an error, such as that of a pipe whose reader has
// ended.
type pipe struct {
	name string
	fifo bool

	mu sync.Mutex
	f  *os.File
}

// open opens the pipe, unless it is. It is not for use while another goroutine writes.
func (p *pipe) open() error {
	if p.f != nil {
		return nil
	}
	flags := os.O_WRONLY | os.O_APPEND
	if p.fifo {
		// Without these flags, opening a FIFO waits for a reader.
		flags |= regular.Flags
	}
	f, err := os.OpenFile(p.name, flags, 0)
	if err != nil {
		return err
	}
	if err := regular.CheckWritten(p.name, f); err != nil {
		return errors.Join(err, f.Close())
	}
	p.f = f
	return nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if err := p.open(); err != nil {
		return 0, err
	}

	n, err := p.f.Write(b)
	if err != nil {
		// The next write opens the pipe again, which works once somebody reads it.
		_ = p.f.Close()
		p.f = nil
	}

	return n, err
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		return nil
	}
	err := p.f.Close()
	p.f = nil
	return err
}
