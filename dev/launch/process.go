package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// Command is what Start runs.
type Command struct {
	Args []string
	Dir  string
	Env  []string // all of it
	Port int      // that the app is given

	Stdin  *os.File // nil: nothing
	Stdout io.Writer
	Stderr io.Writer

	// nil: the app has none; else its standard input is a terminal of its own that stands for this one.
	Terminal       *Terminal
	StdoutTerminal bool // and so is its standard output
	StderrTerminal bool // and so is its standard error; what it prints there goes to Stdout, if that is a terminal
}

// Process is an app that runs. Its methods are safe for use from many goroutines.
type Process struct {
	cmd     *exec.Cmd
	port    int
	started *started
	debug   []uint16 // ports that the command gives to a debugger

	looking sync.Mutex
	found   socket // on the app's port; zero: none is known

	done chan struct{}
	err  error // after done
}

// started is what depends on whether a process has a terminal.
type started struct {
	interrupted func() bool // whether somebody has typed Ctrl-C
	ended       func()      // is called after the process has ended
}

// StartError is the error of a program that does not start.
type StartError struct {
	Program string
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("starting %s: %v", e.Program, e.Err) }

func (e *StartError) Unwrap() error { return e.Err }

// ErrNotFound is the error where the command's program does not exist.
var ErrNotFound = exec.ErrNotFound

// Start runs a command as a process group of its own.
func Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	p := &Process{cmd: cmd, port: c.Port, debug: debugPorts(described(c.Args, c.Env)), done: make(chan struct{})}

	var err error
	if c.Terminal != nil {
		p.started, err = startInTerminal(cmd, &c)
	} else {
		if c.Stdin != nil {
			cmd.Stdin = c.Stdin
		}
		cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
		p.started = &started{interrupted: func() bool { return false }, ended: func() {}}
		err = startInGroup(cmd)
	}

	if err != nil {
		return nil, &StartError{c.Args[0], err}
	}

	go func() {
		p.err = cmd.Wait()
		// npm and its like end before the servers that they have started, which would keep the port.
		endRest(cmd.Process.Pid)
		p.started.ended()
		close(p.done)
	}()

	return p, nil
}

// PID is the process that was started.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Interrupted reports whether somebody has typed Ctrl-C for the app.
func (p *Process) Interrupted() bool { return p.started.interrupted() }

// Done is closed when the process has ended, and what it has left in its group.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end, and returns the exit code: 128 and the signal's number where a signal has ended it.
func (p *Process) Wait() int {
	<-p.done
	var exit *exec.ExitError
	switch {
	case p.err == nil, errors.Is(p.err, exec.ErrWaitDelay):
		return p.cmd.ProcessState.ExitCode()
	case errors.As(p.err, &exit):
		return exitCode(exit)
	}
	return 1
}

// Signal passes a signal on to the whole process group.
func (p *Process) Signal(s os.Signal) { signalGroup(p.cmd.Process, s) }

// stopGrace is how long a process may take to end after it is asked to.
const stopGrace = 10 * time.Second

// Stop asks the whole process group to end, and ends it if it has not done so within ten seconds, or when ctx ends.
func (p *Process) Stop(ctx context.Context, signal os.Signal) {
	signalGroup(p.cmd.Process, signal)
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	// Whatever the app has left running ends with it.
	killGroup(p.cmd.Process)
}

// Listening is where the app listens: on its port, else wherever one of its processes does. It is false while it does
// not listen.
func (p *Process) Listening() (netip.AddrPort, bool) {
	p.looking.Lock()
	defer p.looking.Unlock()
	// A look at the known socket is cheap. The tables of all sockets, each second, are not.
	if p.found.open() {
		return reachable(p.found.address), true
	}

	p.found = socket{}
	var own []netip.AddrPort
	debug := slices.Concat(debuggers, p.debug)
	for _, s := range socketsOf(p.PID()) {
		own = append(own, s.address)
		switch given := int(s.address.Port()) == p.port; {
		case given && p.found.file == "":
			p.found = s
		case !given:
			debug = append(debug, debugPorts(commandOf(s.pid))...)
		}
	}

	return choose(p.port, own, debug, func() []netip.AddrPort { return onPort(p.port) })
}

// Tracked reports whether the next Listening looks at one socket alone, unless that is closed.
func (p *Process) Tracked() bool {
	p.looking.Lock()
	defer p.looking.Unlock()
	return p.found.file != ""
}

// socket is one on which a process listens.
type socket struct {
	address    netip.AddrPort
	file, link string // in /proc, and what that is while the socket is open; "": not known
	pid        int    // of a process that has it; 0: not known
}

func (s *socket) open() bool {
	if s.file == "" {
		return false
	}
	link, err := os.Readlink(s.file)
	return err == nil && link == s.link
}

// choose prefers the port that the app was given, by one of its processes or by others of its user or root's, as that of
// a container is the engine's. Node.js and others also listen for a debugger, which must not be served as the app.
func choose(port int, own []netip.AddrPort, debug []uint16, others func() []netip.AddrPort) (netip.AddrPort, bool) {
	given := func(a netip.AddrPort) bool { return int(a.Port()) == port }
	// Reached through the socket that was found, as it may listen on IPv6 alone.
	if at := slices.IndexFunc(own, given); at >= 0 {
		return reachable(own[at]), true
	}
	if len(own) == 0 {
		return best(others())
	}
	return best(slices.DeleteFunc(slices.Clone(own), func(a netip.AddrPort) bool { return slices.Contains(debug, a.Port()) }))
}

// best prefers loopback to all addresses, and IPv4.
func best(all []netip.AddrPort) (netip.AddrPort, bool) {
	if len(all) == 0 {
		return netip.AddrPort{}, false
	}

	rank := func(a netip.AddrPort) int {
		switch {
		case a.Addr().IsLoopback() && a.Addr().Is4():
			return 0
		case a.Addr().IsLoopback(), a.Addr().IsUnspecified():
			return 1
		}
		return 2
	}
	return reachable(slices.MinFunc(all, func(a, b netip.AddrPort) int { return rank(a) - rank(b) })), true
}

// reachable is where a socket that listens on all addresses is reached from this machine.
func reachable(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsUnspecified() {
		return a
	}
	// Sockets for all of IPv6 take IPv4, unless they refuse it.
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
}

// OnPort is where this user or root listens on a port. On Linux the kernel says whose a socket is; elsewhere anybody's is
// taken.
func OnPort(port int) (netip.AddrPort, bool) { return best(onPort(port)) }

// prefixed writes lines behind a prefix, so that several apps share a terminal.
type prefixed struct {
	w      io.Writer
	prefix string
	lines  *sync.Mutex // of all that write to w
	rest   []byte
}

// Prefixed is a writer of whole lines, each behind a prefix. All that share w share lines.
func Prefixed(w io.Writer, prefix string, lines *sync.Mutex) io.WriteCloser {
	return &prefixed{w: w, prefix: prefix, lines: lines}
}

// maxLine is how much of a line is kept back until its end comes, in bytes.
const maxLine = 8 << 10

func (p *prefixed) Write(text []byte) (int, error) {
	p.lines.Lock()
	defer p.lines.Unlock()
	p.rest = append(p.rest, text...)
	for len(p.rest) > 0 {
		end := slices.Index(p.rest, '\n')
		// A line waits for its end, so that lines of several apps do not mix. A progress bar without line ends must
		// not wait for ever.
		if end < 0 && len(p.rest) < maxLine {
			break
		}
		if end < 0 {
			end = len(p.rest) - 1
		}
		if _, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, trimmed(p.rest[:end+1])); err != nil {
			return 0, err
		}
		p.rest = p.rest[end+1:]
	}

	return len(text), nil
}

// Close writes what is left of a line without an end.
func (p *prefixed) Close() error {
	p.lines.Lock()
	defer p.lines.Unlock()
	if len(p.rest) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, trimmed(p.rest))
	p.rest = nil
	return err
}

func trimmed(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}
