package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"padlock/handshake"
)

// Check is one client that is to meet the endpoints.
type Check struct {
	Command  []string // with placeholders; see Placeholders
	Only     string   // patterns of Choose; "": all
	Jobs     int      // clients at once; a client that sends no server name is run alone
	Timeout  time.Duration
	Env      []string                               // beside the program's own
	Progress func(done, of int, r *Result)          // may be nil; called by one goroutine at a time
	client   func(context.Context, *Endpoint) error // instead of a command, for tests
}

// Report is what a client did at the endpoints.
type Report struct {
	Command  []string
	Controls []Result
	Results  []Result // in the order of Endpoints
	Failed   string   // why nothing could be concluded; "": it could
	Remedy   string
	Stopped  int // how many endpoints were left when the check was interrupted; 0: it was not
	Took     time.Duration
	Strict   bool // whether every verdict but OK is a failure
}

// Placeholders are what a command may have in braces.
var Placeholders = []struct{ Name, Meaning string }{
	{"url", "https://NAME.lab.localhost:PORT/"},
	{"host", "NAME.lab.localhost"},
	{"port", "the port"},
	{"root", "the file of the lab's root certificate (PEM)"},
	{"address", "the address that the name leads to, 127.0.0.1"},
	{"connect", "ADDRESS:PORT, for openssl s_client -connect"},
	{"resolve", "HOST:PORT:ADDRESS, for curl --resolve"},
}

// Directs reports whether a command has a placeholder that tells the client where to go.
func Directs(command []string) bool {
	for _, arg := range command {
		for _, name := range []string{"url", "host", "port", "connect", "resolve"} {
			if strings.Contains(arg, "{"+name+"}") {
				return true
			}
		}
	}
	return false
}

// Count counts the endpoints with a verdict.
func (r *Report) Count(v Verdict) (n int) {
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Check runs a client against the controls and, if it does well there, against the endpoints. If the context ends, the
// report has what was found until then.
func (l *Lab) Check(ctx context.Context, c Check) (*Report, error) {
	start := time.Now()
	selected, err := l.choose(c.Only)
	if err != nil {
		return nil, err
	}
	root, clean, err := l.rootFile()
	if err != nil {
		return nil, err
	}
	defer clean()

	k := &checker{lab: l, check: c, root: root, total: len(selected) + len(controls), alone: true}
	report := &Report{Command: c.Command}
	for _, e := range l.endpoints[:len(controls)] {
		r := k.run(ctx, e, calibration{})
		if ctx.Err() != nil {
			report.Stopped = len(selected)
			return report, nil
		}
		report.Controls = append(report.Controls, r)
		k.tell(&r)
	}

	var tells calibration
	report.Failed, report.Remedy, tells = l.controlled(report.Controls)
	k.alone = c.Jobs <= 1 || nameless(report.Controls)
	// Others can reach a lab that does not listen on loopback alone.
	k.from = clientSources(report.Controls)
	if report.Failed == "" {
		k.runAll(ctx, selected, tells, report)
	}
	report.Took = time.Since(start)
	return report, nil
}

// nameless reports whether a client sends no server name, so that only its time tells which endpoint it means.
func nameless(controls []Result) bool {
	for _, r := range controls {
		for _, v := range r.Visits {
			if v.SNI == "" {
				return true
			}
		}
	}
	return false
}

// choose are the endpoints that match, and those that they are compared with.
func (l *Lab) choose(patterns string) (selected []*Endpoint, err error) {
	all, err := Choose(patterns)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, e := range all {
		wanted[e.Name], wanted[e.basis] = true, true
	}
	for _, e := range l.endpoints[len(controls):] {
		if wanted[e.Name] {
			selected = append(selected, e)
			delete(wanted, e.Name)
		}
	}
	for _, e := range all {
		if wanted[e.Name] {
			selected = append(selected, l.endpoint(e.Hostname()))
		}
	}
	return selected, nil
}

// controlled concludes from the controls whether and how the client can be judged.
func (l *Lab) controlled(results []Result) (failed, remedy string, c calibration) {
	for _, r := range results {
		name := r.Endpoint.Hostname()
		switch {
		case r.Outcome.Failed != "":
			return "the command could not be run: " + r.Outcome.Failed, "check that the program is installed, and give it behind --", c
		case r.Endpoint.Expect == MustRefuse:
			// Whatever happens there, it calibrates only.
			if r.Outcome.Exit == 0 {
				c.mute = cmp.Or(c.mute, "it is 0 at "+name+", too, where the connection is closed")
			}
		case len(r.Visits) == 0 && r.Outcome.stray != "":
			return "the client made no connection to " + name + ": " + r.Outcome.stray, "have it request {url}, which is https and has that name; or {host} and {port}", c
		case len(r.Visits) == 0:
			if l.Elsewhere() {
				return "the client made no connection to " + name + quoted(r.Outcome),
					"names below localhost lead to " + addressHost + ", and the lab is at " + l.Address() + ": give the client the address, as curl --resolve {resolve} does, or leave --listen out", c
			}
			return "the client made no connection to " + name + quoted(r.Outcome),
				"if it cannot resolve names below localhost, run: padlock hosts add $(padlock lab --names); or give it the address, as curl --resolve {resolve} does", c
		case r.Verdict == Unclear && r.Outcome.Killed:
			return "the client was still busy with " + name + " at the time limit", "have it end by itself once it has its answer, or give it more time, as with --timeout 60s", c
		case !anyVisit(r.Visits, hasData):
			return "the client refuses " + name + ", which has no fault: " + r.Reason,
				"have it trust {root}, as curl --cacert {root} does, and send a request: a client that sends nothing shows nothing", c
		case r.Outcome.Exit != 0:
			c.mute = cmp.Or(c.mute, fmt.Sprintf("it is %d at %s, too, which has no fault%s", r.Outcome.Exit, name, quoted(r.Outcome)))
		}
	}
	return "", "", c
}

// rootFile is where the command finds the root.
func (l *Lab) rootFile() (name string, clean func(), err error) {
	dir, err := os.MkdirTemp("", "padlock-lab-")
	if err != nil {
		return "", nil, err
	}
	name = dir + string(os.PathSeparator) + "root.pem"
	return name, func() { _ = os.RemoveAll(dir) }, os.WriteFile(name, l.Root(), 0o644)
}

// checker runs one client.
type checker struct {
	lab   *Lab
	check Check
	root  string
	total int
	alone bool // one client at a time, so that one without a server name is known
	from  sources

	mu   sync.Mutex
	done int
}

func (k *checker) tell(r *Result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done++
	if k.check.Progress != nil {
		k.check.Progress(k.done, k.total, r)
	}
}

func (k *checker) runAll(ctx context.Context, endpoints []*Endpoint, c calibration, report *Report) {
	results := make([]*Result, len(endpoints))
	jobs := k.check.Jobs
	if k.alone {
		jobs = 1
	}
	var work sync.WaitGroup
	turns := make(chan struct{}, jobs)
	for i, e := range endpoints {
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-turns }()
			r := k.run(ctx, e, c)
			// A client that was interrupted has shown nothing.
			if ctx.Err() == nil {
				results[i] = &r
				k.tell(&r)
			}
		})
	}
	work.Wait()

	all := map[string]*Result{}
	for _, r := range results {
		if r != nil {
			all[r.Endpoint.Name] = r
		}
	}
	compare(all)
	for _, r := range results {
		if r != nil {
			report.Results = append(report.Results, *r)
		}
	}
	report.Stopped = len(endpoints) - len(report.Results)
}

// settleTimeout is how long connections may stay open once the client has ended.
const settleTimeout = 3 * time.Second

// run runs the client against one endpoint.
func (k *checker) run(ctx context.Context, e *Endpoint, c calibration) Result {
	if k.alone {
		k.lab.setCurrent(e)
		defer k.lab.setCurrent(nil)
	}
	// Certificates that take long to make are made before the client waits for them.
	if e.raw == nil && e.rogue == nil {
		if _, err := k.lab.certificate(e, nil); err != nil {
			return Result{Endpoint: e, Expected: e.Expect, Verdict: Unclear, Reason: "the lab cannot make its certificate: " + err.Error()}
		}
	}

	since := time.Now()
	outcome := k.command(ctx, e)
	settled, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	visits := k.lab.settle(settled, e.Name, since, k.from, nil)
	if len(visits) == 0 && k.alone {
		outcome.stray = k.lab.visits.astray(since, k.from)
	}
	// A client with several addresses may have come by one that the controls have not shown.
	if others, _, _ := k.lab.visits.of(e.Name, since, nil); len(visits) == 0 && len(others) > 0 {
		outcome.stray = "it made no connection from where it came before; another came from " + others[0].source
	}
	return judge(e, visits, outcome, c)
}

func (l *Lab) setCurrent(e *Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = e
}

// settle waits until all visits to an endpoint from there are over, or one of them is enough; nil: none is.
func (l *Lab) settle(ctx context.Context, endpoint string, since time.Time, from sources, enough func(Visit) bool) []Visit {
	for {
		visits, over, changed := l.visits.of(endpoint, since, from)
		if over || enough != nil && anyVisit(visits, enough) {
			return visits
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return visits
		}
	}
}

// maxOutput of a client is kept, its end.
const maxOutput = 4 << 10

// command runs the client once.
func (k *checker) command(ctx context.Context, e *Endpoint) Outcome {
	timed, cancel := context.WithTimeout(ctx, k.check.Timeout)
	defer cancel()
	if k.check.client != nil {
		return k.inProcess(timed, e)
	}
	args := k.arguments(e)
	command := exec.CommandContext(timed, args[0], args[1:]...)
	mark := "PADLOCK_LAB_CLIENT=" + rand.Text()
	command.Env = append(append(direct(os.Environ(), k.lab.Address()), k.check.Env...), mark)
	var output tail
	command.Stdout, command.Stderr = &output, &output
	// A shell's children keep its output open when it is killed.
	command.WaitDelay = time.Second
	ownGroup(command)

	start := time.Now()
	err := command.Run()
	o := Outcome{Duration: time.Since(start), Output: printable(output.String()), Killed: timed.Err() != nil && ctx.Err() == nil}
	endGroup(command)
	endMarked(mark)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		o.Exit = exit.ExitCode()
		if !o.Killed {
			o.Signal = crash(exit.ProcessState)
		}
	} else if err != nil && !o.Killed && !errors.Is(err, exec.ErrWaitDelay) {
		o.Failed, o.Exit = err.Error(), -1
	}
	return o
}

// direct has clients that obey such variables come to the lab themselves, and not by way of a proxy.
func direct(environment []string, address string) []string {
	own := "localhost,.localhost," + addressHost + ",::1," + address
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		value := own
		if others := os.Getenv(name); others != "" {
			value = others + "," + own
		}
		environment = append(environment, name+"="+value)
	}
	return environment
}

// inProcess runs a client that is a function.
func (k *checker) inProcess(ctx context.Context, e *Endpoint) (o Outcome) {
	start := time.Now()
	err := k.check.client(ctx, e)
	o.Duration, o.Killed = time.Since(start), ctx.Err() != nil
	if err != nil {
		o.Exit, o.Output = 1, err.Error()
	}
	return o
}

func (k *checker) arguments(e *Endpoint) (args []string) {
	host, address := e.Hostname(), k.lab.Address()
	replacer := strings.NewReplacer(
		"{url}", k.lab.URL(e), "{host}", host, "{port}", k.lab.port, "{root}", k.root, "{address}", address,
		"{connect}", net.JoinHostPort(address, k.lab.port), "{resolve}", host+":"+k.lab.port+":"+address,
	)
	for _, arg := range k.check.Command {
		args = append(args, replacer.Replace(arg))
	}
	return args
}

// printable is a client's output without what would disturb a terminal.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = handshake.Escape(strings.TrimRight(line, "\r"))
	}
	return strings.Join(lines, "\n")
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - maxOutput; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// DefaultJobs suits clients that send a server name.
func DefaultJobs() int { return max(2, runtime.NumCPU()) }
