package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// reporter prints what happens. Its methods may be called by several goroutines.
type reporter struct {
	began time.Time
	at    processors // when it began
	stop  chan struct{}

	mu      sync.Mutex
	out     io.Writer
	said    time.Time   // when the last line was printed
	doing   []*progress // the steps that are under way, in the order in which they began
	results []result
	broken  []string // steps that failed
}

// progress is what is known of a step that is under way.
type progress struct {
	step
	running map[string]time.Time
	turns   map[string]time.Time     // when tests began that have waited for it
	output  map[string]*bytes.Buffer // of tests and packages that have not ended
}

// result is how a test ended.
type result struct {
	name   string
	action string // pass, fail or skip
	took   time.Duration
	sub    bool // it is a part of another test
}

func newReporter(out io.Writer) *reporter {
	r := &reporter{began: time.Now(), at: processorsNow(), stop: make(chan struct{}), out: out, said: time.Now()}
	go r.beat()
	return r
}

func (r *reporter) close() { close(r.stop) }

// beat says what is under way when nothing else has been said for a while.
func (r *reporter) beat() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()

	before := r.at
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}

		r.mu.Lock()
		if time.Since(r.said) >= heartbeat {
			now := processorsNow()
			r.line("  ... %s%s", r.underWay(), now.since(before))
			before = now
		}
		r.mu.Unlock()
	}
}

// underWay lists the steps that run, and of each the tests, the longest first. The caller holds the lock.
func (r *reporter) underWay() string {
	var steps []string
	for _, p := range r.doing {
		steps = append(steps, p.name+p.underWay())
	}
	return strings.Join(steps, "; ")
}

func (p *progress) underWay() string {
	names := slices.SortedFunc(maps.Keys(p.running), func(a, b string) int { return p.running[a].Compare(p.running[b]) })

	var b strings.Builder
	for i, name := range names {
		if i == 6 {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		fmt.Fprintf(&b, " · %s %.0f s", name, time.Since(p.running[name]).Seconds())
	}

	return b.String()
}

// line prints a line behind the time since the start. The caller holds the lock.
func (r *reporter) line(format string, args ...any) {
	r.said = time.Now()
	since := time.Since(r.began).Round(time.Second)
	fmt.Fprintf(r.out, "%3d:%02d  %s\n", int(since.Minutes()), int(since.Seconds())%60, fmt.Sprintf(format, args...))
}

// step runs a command to its end. Later steps run whatever comes of it, so that one run finds all that is wrong.
func (r *reporter) step(ctx context.Context, s step) {
	began := time.Now()
	p := &progress{s, map[string]time.Time{}, map[string]time.Time{}, map[string]*bytes.Buffer{}}
	r.mu.Lock()
	r.doing = append(r.doing, p)
	r.line("%s: %s", s.name, shown(s.args))
	r.mu.Unlock()

	args := s.args
	if s.nice > 0 {
		args = append([]string{"nice", "-n", strconv.Itoa(s.nice)}, args...)
	}

	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Dir, c.Env = s.dir, append(os.Environ(), s.env...)
	// After SIGINT, tests can still end the servers that they have started.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = time.Minute
	err := r.run(c, p)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.doing = slices.DeleteFunc(r.doing, func(one *progress) bool { return one == p })
	verdict := "ok"
	if err != nil {
		verdict = fmt.Sprintf("FAILED (%v)", err)
		r.broken = append(r.broken, s.name)
		r.unfinished(p)
	}

	r.line("%s: %s, %.0f s%s", s.name, verdict, time.Since(began).Seconds(), cpuTime(c))
}

// cpuTime is what a command and the processes that it has waited for have used.
func cpuTime(c *exec.Cmd) string {
	if c.ProcessState == nil {
		return "" // it has not begun
	}
	return fmt.Sprintf(", %.0f s of CPU time", (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds())
}

// unfinished prints what tests have written that have not ended: a panic ends all of them. The caller holds the lock.
func (r *reporter) unfinished(p *progress) {
	for name, output := range p.output {
		text := output.Bytes()
		// The panic explains the end, wherever it stands in the output.
		if at := max(bytes.Index(text, []byte("panic: ")), bytes.Index(text, []byte("fatal error: ")), 0); len(text) > most {
			text = text[min(at, len(text)-most):][:most]
		}
		r.line("  unfinished: %s", name)
		_, _ = r.out.Write(text)
	}
}

// most is how many bytes are printed of what an unfinished test has written.
const most = 20_000

// shown is a command as somebody would type it, cut where it is long.
func shown(args []string) string {
	text := strings.Join(args, " ")
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return text
}

func (r *reporter) run(c *exec.Cmd, p *progress) error {
	switch {
	case p.plain:
		return r.runPlain(c, p)
	case p.aside && !p.tests:
		return r.runAside(c)
	}
	return r.follow(c, p, nil)
}

// runAside runs a command whose output would stand among that of others. It is printed if the command fails.
func (r *reporter) runAside(c *exec.Cmd) error {
	output, err := c.CombinedOutput()
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, _ = r.out.Write(output)
	}
	return err
}

// runPlain runs a test program, whose output it turns into the events of go test -json. test2json does not run the
// program itself: whatever it runs ignores SIGINT, and so would the servers that tests end.
func (r *reporter) runPlain(c *exec.Cmd, p *progress) error {
	// The go command builds the tool when it is first asked for, which may take longer than what the program says is waited for.
	tool, err := exec.Command("go", "tool", "-n", "test2json").Output()
	if err != nil {
		return fmt.Errorf("go tool -n test2json: %w", err)
	}
	output, input, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	c.Stdout, c.Stderr = input, input
	err = c.Start()
	// The program has a copy of its own. With this one open, its output would never end.
	input.Close()
	if err != nil {
		return err
	}

	ended, over := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- c.Wait()
		// A process that the test has started and left behind may keep the output open: it is read for a moment longer.
		time.Sleep(lastWords)
		close(over)
	}()

	to := exec.Command(strings.TrimSpace(string(tool)), "-t", "-p", "padlock/"+p.dir)
	to.Stdin, to.WaitDelay = output, time.Second
	err = r.follow(to, p, over)
	return errors.Join(<-ended, err)
}

// lastWords is how long the output of a test program is read after its end.
const lastWords = 10 * time.Second

// follow runs a command and reads what it prints, to its end or until over is closed.
func (r *reporter) follow(c *exec.Cmd, p *progress, over <-chan struct{}) error {
	pipe, err := c.StdoutPipe()
	if err != nil {
		return err
	}

	var complaints bytes.Buffer
	// The go command writes what does not compile to its own stderr, and not as an event.
	c.Stderr = &complaints
	if !p.tests {
		c.Stderr = c.Stdout
	}

	if err := c.Start(); err != nil {
		return err
	}

	done := make(chan struct{})
	defer close(done)

	go func() {
		select {
		case <-over:
			_ = c.Process.Kill()
			_ = pipe.Close()
		case <-done:
		}
	}()

	// Not a Scanner, as a line of output may have any length.
	lines := bufio.NewReader(pipe)
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 {
			r.read(p, text)
		}
		if err != nil {
			break
		}
	}

	err = c.Wait()
	if err != nil && complaints.Len() > 0 {
		r.mu.Lock()
		fmt.Fprintf(r.out, "%s", complaints.Bytes())
		r.mu.Unlock()
	}

	return err
}

// event is one of go test -json: go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string

	Key, Value string // of an attribute
}

// A test that waits until others make room says so by this attribute, with one of these values. It takes no time
// until it has begun.
const (
	turn  = "turn"
	waits = "waits"
	comes = "comes"
)

func (r *reporter) read(p *progress, text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()

	var e event
	if !p.tests || json.Unmarshal(text, &e) != nil {
		r.said = time.Now()
		_, _ = r.out.Write(text)
		return
	}

	name := strings.TrimPrefix(e.Package, "padlock/")
	if e.Test != "" {
		name += " " + e.Test
	}

	switch e.Action {
	case "run", "cont":
		if !strings.Contains(e.Test, "/") {
			p.running[name] = time.Now()
		}
	// A paused test waits for its turn, and takes no time meanwhile.
	case "pause":
		delete(p.running, name)
	case "attr":
		switch {
		case e.Key == turn && e.Value == waits:
			delete(p.running, name)
		case e.Key == turn && e.Value == comes:
			p.running[name], p.turns[name] = time.Now(), time.Now()
		}
	case "output", "build-output":
		if p.output[name] == nil {
			p.output[name] = &bytes.Buffer{}
		}
		p.output[name].WriteString(e.Output)
	case "pass", "fail", "skip":
		r.ended(p, name, e)
	}
}

// ended prints how a test or a package ended, and what a failed one wrote. The caller holds the lock.
func (r *reporter) ended(p *progress, name string, e event) {
	delete(p.running, name)
	output := p.output[name]
	delete(p.output, name)
	took := time.Duration(e.Elapsed * float64(time.Second))
	if at, ok := p.turns[name]; ok {
		took = time.Since(at)
	}

	sub := strings.Contains(e.Test, "/")
	if e.Test != "" {
		r.results = append(r.results, result{name, e.Action, took, sub})
	}
	if output != nil && (e.Action == "fail" || e.Action == "skip" && e.Test != "") {
		_, _ = r.out.Write(output.Bytes())
	}

	switch {
	case e.Test == "" && e.Action == "skip": // a package without tests
	case e.Action == "fail":
		r.line("  FAIL  %s  %.1f s", name, took.Seconds())
	case e.Test == "" || p.each && !sub:
		r.line("  %s  %s  %.1f s", e.Action, name, took.Seconds())
	}
}

// summary prints the closing line, and returns an error if anything failed.
func (r *reporter) summary(slowest int) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	counts := map[string]int{}
	for _, x := range r.results {
		counts[x.action]++
		if x.action == "fail" {
			r.line("failed: %s", x.name)
		}
	}

	for _, name := range r.broken {
		r.line("step failed: %s", name)
	}

	r.slowest(slowest)
	r.line("in all %s%s", time.Since(r.began).Round(time.Second), processorsNow().since(r.at))
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	if len(r.broken) > 0 || counts["fail"] > 0 {
		return errors.New("not all passed")
	}

	return nil
}

// slowest lists the tests that took longest. The caller holds the lock.
func (r *reporter) slowest(n int) {
	top := slices.DeleteFunc(slices.Clone(r.results), func(x result) bool { return x.sub })
	slices.SortFunc(top, func(a, b result) int { return int(b.took - a.took) })
	for _, x := range top[:min(n, len(top))] {
		fmt.Fprintf(r.out, "%8.1f s  %s\n", x.took.Seconds(), x.name)
	}
}
