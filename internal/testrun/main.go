// Command testrun runs padlock's tests and shows what it does: a line for each package and for each end-to-end test
// with its time, a heartbeat while nothing ends, the output of what fails, and one summary line.
//
//	go run ./internal/testrun                every promise: lint, the packages, the program
//	go run ./internal/testrun -level long    what takes an hour: run it before a release
//	go run ./internal/testrun -run TestSoak  one test of any level
//
// The exit code is 1 if anything fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	level := flag.String("level", "test", "test: every promise; long: what takes an hour")
	run := flag.String("run", "", "run only the tests whose name matches this regular expression, of any level")
	list := flag.Int("slowest", 0, "list that many of the slowest tests at the end")
	flag.Parse()

	if err := start(ctx, os.Stdout, *level, *run, *list); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
}

// start runs the steps that the flags ask for, one after the other, and returns an error if any of them fails.
func start(ctx context.Context, stdout io.Writer, level, run string, slowest int) error {
	dir, err := os.MkdirTemp("", "padlock-tests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	steps, err := plan(level, run, dir)
	if err != nil {
		return err
	}

	r := newReporter(stdout)
	defer r.close()
	return perform(ctx, r, steps, slowest)
}

// perform runs steps, and returns an error if any of them fails.
func perform(ctx context.Context, r *reporter, steps []step, slowest int) error {
	var aside sync.WaitGroup
	defer aside.Wait()

	ended := map[string]chan struct{}{}
	for _, s := range steps {
		end := make(chan struct{})
		ended[s.name] = end
		before := make([]chan struct{}, len(s.after))
		for i, name := range s.after {
			before[i] = ended[name]
		}

		run := func() {
			defer close(end)
			for _, one := range before {
				<-one
			}
			if ctx.Err() == nil {
				r.step(ctx, s)
			}
		}
		if s.aside {
			aside.Go(run)
		} else {
			run()
		}
	}

	aside.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.summary(slowest)
}

// step is one command.
type step struct {
	name  string
	args  []string
	dir   string // where it runs; "" is the module's root
	env   []string
	after []string // names of steps before it that have to end first
	aside bool     // it runs beside the steps that follow; what it prints is shown if it fails, or if it has tests
	nice  int      // how much it leaves processors to others
	tests bool     // it prints the events of go test -json
	plain bool     // it is a test program, whose output has to be turned into events
	each  bool     // every test of it has a line of its own, not only every package
}

// trimmed has a command compile into the build cache of servicetest.BuildPlain, with file names that are the same in
// every copy of the source: what one has compiled, others find.
func trimmed() ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return []string{"GOFLAGS=-trimpath -buildvcs=false", "GOCACHE=" + filepath.Join(cache, "padlock-tests", "go-build")}, nil
}

// plan returns the steps of a level, or those that run the tests of one name. What it has built lies in dir.
func plan(level, run, dir string) ([]step, error) {
	install := step{name: "install", args: []string{"bash", "e2e/install.sh"}}
	if run != "" {
		return one(install, run)
	}

	switch level {
	case "test":
		return promises(dir)
	case "long":
		return long(install)
	}

	return nil, fmt.Errorf("level %q: test or long", level)
}

// The niceness of what runs beside tests that may measure how long something takes.
const (
	unhurried = 5
	leftover  = 10 // the test of identity, which keeps all processors busy for as long as it gets them
)

// sequential packages start no goroutine. The race detector finds nothing in them, and makes what they compute in their
// tests up to ten times as slow.
var sequential = []string{
	"padlock/certs/trust", "padlock/config", "padlock/docs", "padlock/handshake/wire", "padlock/hostinfo", "padlock/internal/ber",
	"padlock/internal/hint", "padlock/internal/lint", "padlock/internal/mask", "padlock/internal/netname", "padlock/internal/pemfile",
	"padlock/internal/phc", "padlock/internal/revocation", "padlock/internal/shape", "padlock/proxy/paths",
}

// partlySequential packages run both ways: they have tests that are left out with the race detector.
var partlySequential = []string{"padlock/proxy/quota"}

// withoutDebugger leaves out what only debuggers read. Only programs with the
// race detector do without: the others are compiled as releases are.
const withoutDebugger = "-gcflags=all=-dwarf=false"

// promises is everything: what installs, lint, the packages, the program. Two compilers run beside each other only
// where they share nothing, as they would compile the same: one has the race detector, and one has not. Tests leave
// processors idle while they wait, and lint and the test of identity take these.
func promises(dir string) ([]step, error) {
	raced, err := trimmed()
	if err != nil {
		return nil, err
	}
	plain := append(slices.Clone(raced), "CGO_ENABLED=0")

	// The linters get one processor, so that the others stay free for tests.
	lint := append(slices.Clone(plain), "GOMAXPROCS=1", "GOGC=400", "GOMEMLIMIT=3GiB")

	listed, err := exec.Command("go", "list", "padlock/...").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages: %w", err)
	}
	concurrent := slices.DeleteFunc(strings.Fields(string(listed)), func(one string) bool { return slices.Contains(sequential, one) })

	// The clients of the program have no race detector, which would slow them down: the program has.
	clients, padlock, released := filepath.Join(dir, "e2e.test"), filepath.Join(dir, "padlock"), filepath.Join(dir, "padlock-plain")
	program := func(name string, more ...string) step {
		return step{
			name: name, args: append([]string{clients, "-test.v=test2json", "-test.timeout=75m"}, more...), dir: "e2e",
			env: []string{"E2E_RACED=" + padlock, "E2E_PLAIN=" + released}, after: []string{"install", "install from source", "build a release"}, tests: true, plain: true, each: true,
		}
	}
	identity := program("identity", "-test.run=^TestIdentity$")
	// Beside the packages, which never leave a processor idle, its requests would wait for longer than clients do.
	identity.aside, identity.nice, identity.after = true, leftover, []string{"build a release", "packages"}

	return []step{
		{name: "install", args: []string{"bash", "e2e/install.sh", "debian"}, aside: true},
		{name: "gofmt", args: []string{"sh", "-c", `files=$(gofmt -l .); [ -z "$files" ] || { echo "run gofmt -w on:"; echo "$files"; exit 1; }`}},
		{name: "go mod tidy", args: []string{"go", "mod", "tidy", "-diff"}, env: lint, aside: true, nice: unhurried},
		{name: "build the clients", args: []string{"go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-tags", "e2e", "-o", clients, "./e2e"}, env: plain, aside: true},
		{name: "build the program", args: []string{"go", "build", "-race", withoutDebugger, "-tags", "poison", "-ldflags=-s -w", "-o", padlock, "./cmd/padlock"}, env: raced},
		// As e2e does, and the Dockerfile.
		{name: "build a release", args: []string{"go", "build", "-ldflags=-s -w -X main.version=1.2.3-test", "-o", released, "./cmd/padlock"},
			env: plain, after: []string{"build the clients"}, aside: true},
		{name: "install from source", args: []string{"bash", "e2e/install.sh", "source"}, env: plain, after: []string{"build a release"},
			aside: true, nice: unhurried},
		{name: "lint", args: []string{"go", "run", "./internal/lint"}, env: lint,
			after: []string{"build a release"}, aside: true, nice: unhurried},
		{name: "sequential packages", args: slices.Concat([]string{"go", "test", "-json", "-vet=off"}, sequential, partlySequential), env: plain,
			after: []string{"lint"}, aside: true, nice: unhurried, tests: true},
		// Some wait most of the time, and proxy's for longest.
		{name: "packages", args: goTest(append([]string{"-vet=off", withoutDebugger, "-ldflags=-s -w", "-timeout=20m", "-p=4", "./proxy"}, concurrent...)...), env: raced,
			after: []string{"install", "build the clients"}, tests: true},
		identity,
		program("program", "-test.skip=^TestIdentity$"),
	}, nil
}

func goTest(args ...string) []string {
	return append([]string{"go", "test", "-race", "-json"}, args...)
}

// long is what takes too long for every change: the same promises with more of everything, and for a longer time.
func long(install step) ([]step, error) {
	steps := []step{
		install,
		{name: "packages, long", args: goTest("-count=1", "-run", "TestNothingIsLost", "-timeout", "20m", "./proxy", "-mixed", "100000"), tests: true, each: true},
		{name: "program, long", args: goTest("-count=1", "-tags", "e2e", "-timeout", "60m", "./e2e",
			"-long", "-floods", "10s", "-soak", "4m", "-identity", "200000", "-identity-whole"), tests: true, each: true},
	}

	targets, err := functions(`^func (Fuzz\w+)\(`)
	if err != nil {
		return nil, err
	}

	for _, f := range targets {
		steps = append(steps, step{name: f.name, args: []string{"go", "test", "-run", "XXX", "-fuzz", "^" + f.name + "$",
			"-fuzztime", fuzzTime(), "-fuzzminimizetime", "2s", f.dir}})
	}

	return steps, nil
}

// fuzzTime is for how long each target is fuzzed.
func fuzzTime() string {
	if d := os.Getenv("FUZZTIME"); d != "" {
		return d
	}
	return "60s"
}

// one runs the tests of a name wherever they are, each in its long form.
func one(install step, run string) ([]step, error) {
	// What follows the first slash is the name of a subtest.
	first, _, _ := strings.Cut(run, "/")
	pattern, err := regexp.Compile(first)
	if err != nil {
		return nil, err
	}

	tests, err := functions(`^func (Test\w+)\(`)
	if err != nil {
		return nil, err
	}

	var steps []step
	for _, f := range tests {
		if !pattern.MatchString(f.name) || slices.ContainsFunc(steps, func(s step) bool { return s.name == f.dir }) {
			continue
		}
		args := goTest("-count=1", "-v", "-tags", "e2e", "-timeout", "60m", "-run", run, f.dir)
		if f.dir == "./e2e" {
			steps = append(steps, install)
			args = append(args, "-long")
		}

		steps = append(steps, step{name: f.dir, args: args, tests: true, each: true})
	}

	if len(steps) == 0 {
		return nil, fmt.Errorf("no test has a name that matches %q", run)
	}

	return steps, nil
}

// function is a test or a fuzz target, and the folder of its package.
type function struct{ name, dir string }

// functions finds the functions of test files whose first line matches a pattern, in alphabetical order.
func functions(pattern string) ([]function, error) {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*_test.go").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the test files: %w", err)
	}

	line := regexp.MustCompile("(?m)" + pattern)
	var found []function
	for file := range strings.Lines(string(out)) {
		file = strings.TrimSpace(file)
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			// The file is deleted, and the deletion is not committed yet.
			continue
		} else if err != nil {
			return nil, err
		}

		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			found = append(found, function{m[1], "./" + filepath.ToSlash(filepath.Dir(file))})
		}
	}

	slices.SortFunc(found, func(a, b function) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

// heartbeat is how long the reporter is silent at most.
const heartbeat = 30 * time.Second
