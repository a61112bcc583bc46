//go:build e2e

package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// long asks for the long form of each test that has one: make test-long.
var long = flag.Bool("long", false, "more of everything, for a longer time")

// The lanes say how much runs at once. A test that says nothing has the machine to itself: its promise is a time, or a processor's share.
var (
	waiting  = make(chan struct{}, 4*runtime.GOMAXPROCS(0)) // tests that wait for a server, a clock or a browser most of the time
	working  = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	flooding = make(chan struct{}, 1) // floods, which take whatever the others leave

	// labels is held by tests whose padlock serves every container with a label, and by those that label containers.
	labels sync.Mutex
)

// beside leaves it to the lanes how many tests run at once, where -parallel does not say.
func beside() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", "1000")
	}
}

// besides lets a test that mostly waits run beside others. The resources are its own until it ends.
func besides(t *testing.T, resources ...*sync.Mutex) {
	t.Helper()
	enter(t, waiting, resources)
}

// works lets a test that keeps a processor busy run beside those that mostly wait.
func works(t *testing.T, resources ...*sync.Mutex) {
	t.Helper()
	enter(t, working, resources)
}

// floods lets a test that floods padlock run beside others.
func floods(t *testing.T) {
	t.Helper()
	enter(t, flooding, nil)
}

// inAdvance begins what takes long and several tests wait for, unless only some tests are run. Those that have the machine to themselves are over.
var inAdvance = sync.OnceFunc(func() {
	if flag.Lookup("test.run").Value.String() == "" {
		go func() { _ = buildImage() }() // an error is told by those that need the image
	}
})

// enter lets the test go on in parallel with others, once what it needs is free and its lane has room.
func enter(t *testing.T, lane chan struct{}, resources []*sync.Mutex) {
	t.Helper()
	t.Parallel()
	inAdvance()
	t.Attr("turn", "waits") // internal/testrun counts the time from "comes" on
	defer t.Attr("turn", "comes")
	for _, resource := range resources {
		resource.Lock()
		t.Cleanup(resource.Unlock)
	}
	lane <- struct{}{}
	t.Cleanup(func() { <-lane })

	awaitProcessors()
}

// entrance is held by the test that enters, so that each sees what the one before it keeps busy.
var entrance sync.Mutex

const (
	settled      = 300 * time.Millisecond // what a test begins with shows by then
	mostPatience = 30 * time.Second       // others may keep the machine busy for as long as they like
)

// awaitProcessors returns when no more than two threads for each processor want to run. A slow machine thus runs fewer tests at once,
// which all have the time that they measure.
func awaitProcessors() {
	entrance.Lock()
	defer entrance.Unlock()

	for end := time.Now().Add(mostPatience); time.Now().Before(end); {
		if runnable(settled) <= 2*float64(runtime.GOMAXPROCS(0)) {
			return
		}
	}
}

// runnable is how many threads of this machine ran or waited for a processor, on the average over some time; 0 where that cannot be known.
func runnable(over time.Duration) float64 {
	const looks = 10
	total := 0
	for range looks {
		time.Sleep(over / looks)
		text, _ := os.ReadFile("/proc/loadavg") // proc_loadavg(5): the fourth field is runnable/existing
		fields := strings.Fields(string(text))
		if len(fields) < 4 {
			return 0
		}
		count, _, _ := strings.Cut(fields[3], "/")
		n, err := strconv.Atoi(count)
		if err != nil {
			return 0
		}
		total += n - 1 // without the one that asks
	}
	return float64(total) / looks
}
