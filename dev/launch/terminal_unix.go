//go:build unix

package launch

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is the terminal in which this program runs. An app gets a terminal of its own, with the keys and the size of
// this one. The keys are read in one place, so that none is lost when an app is started again, and only while this
// program is in the foreground: what is started with & does not stop because it touches the terminal.
type Terminal struct {
	tty     *os.File
	signals chan os.Signal

	mu       sync.Mutex
	changed  *sync.Cond  // app
	app      *attached   // that gets the keys; nil: none
	before   *term.State // of the terminal, which is raw; nil: it is not
	readOnce sync.Once
}

// attached is an app that has the terminal.
type attached struct {
	outer       *os.File // of the app's own terminal
	leader      int      // the process that was started
	mixed       bool     // what the app prints does not all go through its terminal
	interrupted atomic.Bool
}

// OpenTerminal follows the size of a terminal, and whether this program is in its foreground, until Close.
func OpenTerminal(tty *os.File) *Terminal {
	t := &Terminal{tty: tty, signals: make(chan os.Signal, 1)}
	t.changed = sync.NewCond(&t.mu)
	signal.Notify(t.signals, syscall.SIGWINCH, syscall.SIGCONT)
	go func() {
		for range t.signals {
			t.resume()
		}
	}()
	return t
}

// Close leaves the terminal as it was. What reads the keys ends with the program: a read of a terminal cannot be broken
// off.
func (t *Terminal) Close() {
	signal.Stop(t.signals)
	close(t.signals)
	t.attach(nil)
}

// attach gives the keys to another app. nil: to none, and the terminal is as it was before the first.
func (t *Terminal) attach(app *attached) {
	t.mu.Lock()
	t.app = app
	if app == nil {
		t.restore()
	}
	t.changed.Broadcast()
	t.mu.Unlock()

	if app != nil {
		t.resume()
		// One goroutine reads for all apps in turn: a read of a terminal cannot be broken off.
		t.readOnce.Do(func() { go t.read() })
	}
}

// resume takes the terminal over if this program is in its foreground, and continues the app if it was stopped.
func (t *Terminal) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.app == nil {
		return
	}
	if t.foreground() {
		t.makeRaw()
	}
	_ = pty.InheritSize(t.tty, t.app.outer) // a terminal without a size is as good
	// The shell continues this program, but not the app, which has a session of its own.
	_ = syscall.Kill(-t.app.leader, syscall.SIGCONT)
}

// restore is called with mu locked. A program in the background would be stopped by it, and its shell has done it
// already.
func (t *Terminal) restore() {
	if t.before != nil && t.foreground() {
		_ = term.Restore(int(t.tty.Fd()), t.before)
	}
	t.before = nil
}

// foreground reports whether this program may use the terminal. One that is not this session's asks for nothing.
func (t *Terminal) foreground() bool {
	group, err := unix.IoctlGetInt(int(t.tty.Fd()), unix.TIOCGPGRP)
	return err != nil || group == syscall.Getpgrp()
}

// glance is how often the terminal is looked at: a shell does not say that it brings a program to the foreground which
// runs already.
const glance = 200 * time.Millisecond

// read passes the keys on. They are waited for without reading, so that keys which no app gets are left to whoever
// comes next.
func (t *Terminal) read() {
	keys := make([]byte, 4<<10)
	for {
		app, ok := t.awaitForeground()
		if !ok {
			time.Sleep(glance)
			continue
		}

		// Polled rather than read: keys that were read for an app that has ended could not be given back to the
		// shell.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.tty.Fd()), Events: unix.POLLIN}}, int(glance.Milliseconds()))
		if n == 0 || err != nil || !t.has(app) {
			continue
		}
		if n, err = t.tty.Read(keys); err != nil {
			return
		}

		t.pass(app, keys[:n])
	}
}

// awaitForeground waits for an app, and reports whether this program is in the foreground. If so, the terminal is raw.
func (t *Terminal) awaitForeground() (app *attached, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.app == nil {
		t.changed.Wait()
	}

	ok = t.foreground()
	switch {
	case !ok:
		// The terminal is the shell's again, in whatever state the shell keeps it.
		t.before = nil
	case t.before == nil:
		t.makeRaw()
	}

	return t.app, ok
}

// has reports whether an app gets the keys still.
func (t *Terminal) has(app *attached) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.app == app && t.foreground()
}

// makeRaw is called with mu locked, in the foreground.
func (t *Terminal) makeRaw() {
	state, err := term.MakeRaw(int(t.tty.Fd()))
	if err != nil {
		return
	}
	if t.before == nil {
		t.before = state
	}
	if t.app.mixed {
		keepLines(t.tty)
	}
}

// keepLines has a raw terminal begin a new line where one ends, for those that print to it and not to the app's.
func keepLines(tty *os.File) {
	if settings, err := unix.IoctlGetTermios(int(tty.Fd()), getTermios); err == nil {
		settings.Oflag |= unix.OPOST
		_ = unix.IoctlSetTermios(int(tty.Fd()), setTermios, settings)
	}
}

// pass gives keys to an app. What Ctrl-C and its like mean is decided by the app's terminal, with one exception: an app
// that leads its session cannot be stopped by a key (POSIX.1-2017, Orphaned Process Group), so Ctrl-Z stops it together
// with this program.
func (t *Terminal) pass(app *attached, keys []byte) {
	interrupt, suspend, known := signalKeys(app.outer)
	if known && bytes.IndexByte(keys, interrupt) >= 0 {
		// An app that ends after Ctrl-C is not started again.
		app.interrupted.Store(true)
	}

	for known {
		at := bytes.IndexByte(keys, suspend)
		if at < 0 || !app.leads() {
			break
		}
		// An app that has ended needs no keys.
		_, _ = app.outer.Write(keys[:at])
		t.suspend(app)
		keys = keys[at+1:]
	}

	_, _ = app.outer.Write(keys)
}

// leads reports whether the app's own process group is in the foreground of its terminal, and not a job of a shell in
// it.
func (a *attached) leads() bool {
	group, err := unix.IoctlGetInt(int(a.outer.Fd()), unix.TIOCGPGRP)
	return err == nil && group == a.leader
}

// signalKeys are the keys that send signals to the app; false: its terminal passes all of them on.
func signalKeys(outer *os.File) (interrupt, suspend byte, ok bool) {
	settings, err := unix.IoctlGetTermios(int(outer.Fd()), getTermios)
	if err != nil || settings.Lflag&unix.ISIG == 0 {
		return 0, 0, false
	}
	return settings.Cc[unix.VINTR], settings.Cc[unix.VSUSP], true
}

// ignored is how long a stop may take that the kernel does not ignore, as it does where no shell waits for this
// program.
const ignored = 100 * time.Millisecond

// suspend stops the app and this program's process group, until a shell continues it.
func (t *Terminal) suspend(app *attached) {
	t.mu.Lock()
	// The shell that comes to the foreground expects the terminal as it was.
	t.restore()
	t.mu.Unlock()

	_ = syscall.Kill(-app.leader, syscall.SIGSTOP)
	_ = syscall.Kill(0, syscall.SIGTSTP)
	time.Sleep(ignored)
	t.resume()
}

// startInTerminal gives the command a terminal of its own. What this program prints to a file or a pipe, the command
// does too.
func startInTerminal(cmd *exec.Cmd, c *Command) (*started, error) {
	outer, inner, err := pty.Open()
	if err != nil {
		return nil, err
	}
	_ = pty.InheritSize(c.Terminal.tty, outer) // a terminal without a size is as good
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inner, c.Stdout, c.Stderr
	shown := io.Writer(c.Terminal.tty) // of keys, if nothing else
	if c.StderrTerminal {
		cmd.Stderr, shown = inner, c.Stderr
	}
	if c.StdoutTerminal {
		cmd.Stdout, shown = inner, c.Stdout
	}

	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.WaitDelay = leftOpen
	err = startBound(cmd)
	// The app has the inner end now. While this program held it too, the end of the app would never be seen.
	inner.Close()
	if err != nil {
		outer.Close()
		return nil, err
	}

	app := &attached{outer: outer, leader: cmd.Process.Pid, mixed: !c.StdoutTerminal || !c.StderrTerminal}
	c.Terminal.attach(app)
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		// The copy goes on until the last process that has the terminal closes it.
		_, _ = io.Copy(shown, outer)
	}()

	return &started{
		interrupted: app.interrupted.Load,
		ended: func() {
			select {
			case <-printed:
			case <-time.After(leftOpen):
			}
			c.Terminal.attach(nil)
			outer.Close()
		},
	}, nil
}
