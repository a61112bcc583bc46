//go:build e2e

package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// long asks for the long form of each test that has one: make test-long.
var long = flag.Bool("long", false, "more of everything, for a longer time")

// The lanes say how much runs at once. A test that says nothing has the machine to itself, but for TestIdentity, which
// leaves it the processors: its promise is a time, or a processor's share.
var (
	waiting  = &lane{4 * runtime.GOMAXPROCS(0)} // tests that wait for a server, a clock or a browser most of the time
	working  = &lane{max(1, runtime.GOMAXPROCS(0)/2)}
	flooding = &lane{1} // floods, which take whatever the others leave

	// labels is held by tests whose padlock serves every container with a label, and by those that label containers.
	labels sync.Mutex
)

// longest are the tests that begin before all others of their lane, in this order, so that none is left for the end.
var longest = []string{
	"TestKilledAtEveryStepOfAnOrder", "TestEveryDiagnosisWithARealClient", "TestTwoNodesRenewAtOnceOnASlowStore", "TestAStorageThatComesBackEmpty",
	"TestRenewalUnderLoad", "TestTheCertsCommandsAgainstACA", "TestAFirstVisitShowsCompleteHandshakesAlone", "TestAnyDamagedFileOfTheStorageIsMended",
	"TestAFullAndAReadOnlyStorage", "TestACAThatSendsTheWrongCertificate", "TestNoSecretIsWritten", "TestTheImageIsSmallAndReproducible",
	"TestARelease", "TestReloadAfterReloadFailsNoRequest", "TestDeploysUnderLoadFailNoRequest", "TestNoPathGetsToWhatIsProtected", "TestTestsslFindsNothingToMend", "TestReloadUnderLoadFailsNoRequest",
	"TestFloodsOfHTTP2", "TestFloodsOfHTTP3", "TestAFailingRenewalIsRepeatedUntilItIsMended", "TestAutocertByHTTP", "TestExampleComposeTwoNodesWithRedis",
	"TestWebSocketSuite", "TestWildcardByDNS", "TestSudoWorksForTheUserWhoRanIt", "TestAStolenRootKeyCannotImpersonateABank",
	"TestTrustRenewReplacesTheRootEverywhere", "TestContainersComeAndGoUnderLoad", "TestFloodsOfTLS",
}

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

// lane is how many tests of a kind may begin. The entrance guards it.
type lane struct{ room int }

// entrant is a test that waits until it may begin.
type entrant struct {
	name      string
	lane      *lane
	resources []*sync.Mutex
	turn      chan struct{} // closed when it may
}

// entrance lets tests begin one after the other, so that each sees what the one before it keeps busy.
var entrance = struct {
	open     sync.Once
	mu       sync.Mutex
	entrants []*entrant
	changed  chan struct{} // somebody has come, or gone
}{changed: make(chan struct{}, 1)}

// enter lets the test go on in parallel with others, once what it needs is free and its lane has room.
func enter(t *testing.T, lane *lane, resources []*sync.Mutex) {
	t.Helper()
	t.Parallel()
	inAdvance()
	t.Attr("turn", "waits") // internal/testrun counts the time from "comes" on
	defer t.Attr("turn", "comes")

	v := &entrant{t.Name(), lane, resources, make(chan struct{})}
	changeEntrance(func() { entrance.entrants = append(entrance.entrants, v) })
	entrance.open.Do(func() { go admitAll() })
	<-v.turn
	t.Cleanup(func() {
		changeEntrance(func() { v.lane.room++ })
	})
	for _, resource := range resources {
		t.Cleanup(resource.Unlock) // before the room is given back
	}
}

func changeEntrance(change func()) {
	entrance.mu.Lock()
	defer entrance.mu.Unlock()
	change()
	select {
	case entrance.changed <- struct{}{}:
	default:
	}
}

// admitAll lets one test after the other begin. Those that run in parallel come together, so that by the first look all
// are there.
func admitAll() {
	for {
		awaitProcessors()
		if !admitOne() {
			<-entrance.changed
		}
	}
}

// admitOne lets the first test begin whose lane has room and whose resources are free, and reports whether there is
// one.
func admitOne() bool {
	entrance.mu.Lock()
	defer entrance.mu.Unlock()

	rank := func(v *entrant) int {
		if at := slices.Index(longest, v.name); at >= 0 {
			return at
		}
		return len(longest)
	}
	slices.SortStableFunc(entrance.entrants, func(a, b *entrant) int { return rank(a) - rank(b) })

	for i, v := range entrance.entrants {
		if v.lane.room == 0 || !lockAll(v.resources) {
			continue
		}
		v.lane.room--
		entrance.entrants = slices.Delete(entrance.entrants, i, i+1)
		close(v.turn)
		return true
	}
	return false
}

// lockAll locks all resources, or none.
func lockAll(resources []*sync.Mutex) bool {
	for i, resource := range resources {
		if !resource.TryLock() {
			for _, locked := range resources[:i] {
				locked.Unlock()
			}
			return false
		}
	}
	return true
}

const (
	settled      = 300 * time.Millisecond // what a test begins with shows by then
	mostPatience = 30 * time.Second       // others may keep the machine busy for as long as they like
)

// awaitProcessors returns when no more than two threads for each processor want to run. A slow machine thus runs fewer
// tests at once, which all have the time that they measure. What is nice does not count: it leaves the processors to
// the tests, and waits for none.
func awaitProcessors() {
	if isNice("/proc/self") {
		return
	}
	nice := niceProcesses() // once, as to look at every process takes milliseconds
	for end := time.Now().Add(mostPatience); time.Now().Before(end); {
		if runnable(settled, nice) <= 2*float64(runtime.GOMAXPROCS(0)) {
			return
		}
	}
}

// runnable is how many threads of this machine ran or waited for a processor, on the average over some time; 0 where
// that cannot be known. Threads of nice processes are left out.
func runnable(over time.Duration, nice []string) float64 {
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
		for _, process := range nice {
			total -= runningThreads(process)
		}
	}
	return float64(total) / looks
}

// niceProcesses are the directories below /proc of the processes that leave processors to others.
func niceProcesses() (found []string) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if process := "/proc/" + entry.Name(); process[len("/proc/")] <= '9' && isNice(process) {
			found = append(found, process)
		}
	}
	return found
}

func isNice(process string) bool {
	fields := statOf(process + "/stat")
	return len(fields) > 16 && fields[16] != "0" && !strings.HasPrefix(fields[16], "-")
}

// runningThreads is how many threads of a process run or wait for a processor.
func runningThreads(process string) (n int) {
	threads, _ := os.ReadDir(process + "/task")
	for _, thread := range threads {
		if fields := statOf(process + "/task/" + thread.Name() + "/stat"); len(fields) > 0 && fields[0] == "R" {
			n++
		}
	}
	return n
}

// statOf is what stands behind a thread's name in proc_pid_stat(5): its state is the first field, its niceness the
// seventeenth.
func statOf(file string) []string {
	text, _ := os.ReadFile(file)
	at := strings.LastIndex(string(text), ") ")
	if at < 0 {
		return nil // it has ended
	}
	return strings.Fields(string(text[at+2:]))
}

// Every test that begins before others exists.
func TestTheLongestTestsAreThere(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, name := range longest {
		if !strings.Contains(all.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("%s is no test", name)
		}
	}
}
