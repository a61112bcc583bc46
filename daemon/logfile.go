package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"padlock/config"
	"padlock/internal/regular"
)

// logFile is a log in a file, which is rotated when it is large, so that it cannot fill the disk. Other programs may
// rotate it, too: a file that was moved away is written to until reopen is called, and one that was truncated goes on
// at its new end. It is safe for use from many goroutines.
type logFile struct {
	name string
	out  *batchWriter
}

// openLogFile fails where it would only show at the first line. Neither a pipe that nobody reads nor a
// disk that is full now is an error: what is lost is reported when there is something to write.
func openLogFile(name string, rotate config.Rotate, report func(lost int, err error)) (*logFile, error) {
	info, err := regular.Stat(name)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		// To open a pipe and to close it again would end its reader.
		if err := regular.CheckPlace(name); errors.Is(err, regular.ErrPlanted) {
			return nil, fmt.Errorf("opening the log: %w", err)
		}
		return &logFile{name, newBatchWriter(&pipe{name: name, fifo: info.Mode()&fs.ModeNamedPipe != 0}, report)}, nil
	}
	if err := checkLogFile(name); err != nil && !regular.Unwritable(err) {
		return nil, fmt.Errorf("opening the log: %w", err)
	}

	file := &rotatingFile{name: name, limit: int64(rotate.MaxSize) << 20, keep: rotate.Keep}
	return &logFile{name, newBatchWriter(file, report)}, nil
}

// checkLogFile makes the file where it is missing, and keeps it from being read by everybody.
func checkLogFile(name string) error {
	f, err := appendPrivate(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// reopen writes what is left, and goes on in the file that has the name now. Where that cannot be opened, the one
// before stays.
func (f *logFile) reopen() error {
	return f.out.between(func() error {
		if _, ok := f.out.w.(*pipe); !ok {
			if err := checkLogFile(f.name); err != nil {
				return err
			}
		}
		// The next line opens the file again.
		return f.out.w.Close()
	})
}

// called is the file's name.
func (f *logFile) called() string { return f.name }

// logFiles are all files that are written to while padlock runs, and that others may move away: logs and captures.
// The zero value is ready; it is safe for use from many goroutines.
type logFiles struct {
	mu  sync.Mutex
	all []reopened
}

type reopened interface {
	called() string
	reopen() error
}

func (l *logFiles) add(f reopened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f)
}

// cede says to captures whether another padlock has their names, or is about to.
func (l *logFiles) cede(ceded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.all {
		if c, ok := f.(*captureFile); ok {
			c.cede(ceded)
		}
	}
}

// reopenWithin is how long a reload waits for it: a disk may not answer.
const reopenWithin = 2 * time.Second

// reopen has every log go on in the file that has its name now.
func (l *logFiles) reopen(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()

	for _, f := range l.all {
		done := make(chan error, 1)
		go func() { done <- f.reopen() }()
		var err error
		select {
		case err = <-done:
		case <-time.After(reopenWithin):
			err = errors.New("the disk does not answer")
		}

		if err != nil {
			log.Error("a log file cannot be reopened; lines go to the file that was open before", "file", f.called(), "error", err)
		} else {
			log.Info("log file reopened", "file", f.called())
		}
	}
}

// watch reopens the files at each signal, until ctx ends. heard is told of each, before.
func (l *logFiles) watch(ctx context.Context, signals <-chan os.Signal, heard func(os.Signal), log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case signal := <-signals:
			heard(signal)
			l.reopen(log)
		}
	}
}

// startRotation reopens the files at each signal until stopRotation: requests that are finished are logged, too.
func (d *daemon) startRotation(ctx context.Context) error {
	d.rotation = newTasks(context.WithoutCancel(ctx))
	d.rotation.Go(func() { d.logFiles.watch(d.rotation.ctx, d.signals.rotated, d.reloader.successor.heard, d.log) })
	return nil
}

func (d *daemon) stopRotation() { d.rotation.close() }
