package discovery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/config"
)

// crowdOf is an engine of many containers, which takes its time, and of which some do not behave.
type crowdOf struct {
	count int
	slow  time.Duration

	mu      sync.Mutex
	bad     map[int]func(http.ResponseWriter, *http.Request)
	address map[int]string // other than 10.0.0.2
	asked   map[int]int
}

func (c *crowdOf) set(i int, bad func(http.ResponseWriter, *http.Request), address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad == nil {
		c.bad, c.address = map[int]func(http.ResponseWriter, *http.Request){}, map[int]string{}
	}
	c.bad[i], c.address[i] = bad, address
}

func (c *crowdOf) networks(i int) map[string]*attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := c.address[i]
	if address == "" {
		address = "10.0.0.2"
	}
	return map[string]*attachment{"n": {"n", address, ""}}
}

func (c *crowdOf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/_ping":
		w.Header().Set("Api-Version", "1.41")
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		var all []listed
		for i := c.count - 1; i >= 0; i-- { // the newest first, as engines do
			l := listed{ID: fmt.Sprintf("%064x", i), Names: []string{fmt.Sprint("/c", i)}, Created: int64(1000 + i), Labels: map[string]string{"padlock.host": fmt.Sprintf("%d.test", i)}}
			l.NetworkSettings.Networks = c.networks(i)
			all = append(all, l)
		}
		_ = json.NewEncoder(w).Encode(all)
	default:
		var i int
		_, _ = fmt.Sscanf(r.URL.Path, "/v1.41/containers/%x/json", &i)
		time.Sleep(c.slow)
		c.mu.Lock()
		bad := c.bad[i]
		if c.asked == nil {
			c.asked = map[int]int{}
		}
		c.asked[i]++
		c.mu.Unlock()
		if bad != nil {
			bad(w, r)
			return
		}
		about := &inspected{Name: fmt.Sprint("/c", i), Created: time.Unix(int64(1000+i), 0)}
		about.State.Running = true
		about.Config.Labels = map[string]string{"padlock.host": fmt.Sprintf("%d.test", i), "padlock.port": "80"}
		about.NetworkSettings.Networks = c.networks(i)
		_ = json.NewEncoder(w).Encode(about)
	}
}

// misbehaviours are ways in which an engine does not tell of a container.
var misbehaviours = map[string]func(http.ResponseWriter, *http.Request){
	"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"hangs in between": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	},
	"fails": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "driver failed", http.StatusInternalServerError)
	},
	"breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"rubbish":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
	"has no end": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat(" ", 1<<20+1))
	},
}

func (f *Found) hosts() (all []string) {
	for _, c := range f.owners {
		all = append(all, c.parts[0].hosts...)
	}
	return all
}

// Whatever the engine does about one container, the others are served, and the one is named. It is served when the engine tells of it again; what
// was told before counts meanwhile, as long as it has its address.
func TestOneContainerDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	for name, bad := range misbehaviours {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &crowdOf{count: 4}
			e.set(1, bad, "")
			w := New(answering(t, e), slog.New(slog.DiscardHandler))
			w.engine.maxInspect = 1 << 20
			w.pace.inspect, w.pace.retry, w.pace.rest = time.Second, time.Millisecond, time.Millisecond // a busy machine takes a while for what has no end
			look := func(what string, problem string, want ...string) {
				t.Helper()
				time.Sleep(2 * time.Millisecond) // until it is asked again
				found, err := w.Look(t.Context())
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if got := found.hosts(); !slices.Equal(got, want) {
					t.Errorf("%s: %v, not %v", what, got, want)
				}
				if told := fmt.Sprint(found.problems); (problem == "") != (len(found.problems) == 0) || !strings.Contains(told, problem) || problem != "" && (found.problems[0].Owner != "c1" || found.again.IsZero()) {
					t.Errorf("%s: %v", what, told)
				}
			}
			look("at first", "the engine does not tell of it", "0.test", "2.test", "3.test")
			e.set(1, nil, "")
			look("well again", "", "0.test", "1.test", "2.test", "3.test")
			e.set(1, bad, "")
			look("bad again", "what it told before counts", "0.test", "1.test", "2.test", "3.test")
			e.set(1, bad, "10.0.0.9")
			look("bad, and elsewhere", "the engine does not tell of it", "0.test", "2.test", "3.test")
			e.set(1, nil, "10.0.0.9")
			look("well, and elsewhere", "", "0.test", "1.test", "2.test", "3.test")
		})
	}
}

// One that hangs is not waited for each time that something happens.
func TestAContainerThatHangsIsAskedAboutLessAndLess(t *testing.T) {
	t.Parallel()
	e := &crowdOf{count: 2}
	e.set(1, misbehaviours["hangs"], "")
	w := New(answering(t, e), slog.New(slog.DiscardHandler))
	w.pace.inspect, w.pace.retry, w.pace.rest = 50*time.Millisecond, time.Hour, time.Hour
	for range 5 {
		if found, err := w.Look(t.Context()); err != nil || len(found.problems) != 1 || len(found.owners) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked[1] != 1 || e.asked[0] != 5 {
		t.Errorf("asked %v times", e.asked)
	}
}

// Two thousand containers are found within seconds though the engine takes 44 ms for each and one hangs; one more leaves out the newest.
func TestThousandsOfContainersAreFoundWithinSeconds(t *testing.T) {
	t.Parallel()
	e := &crowdOf{count: maxContainers + 2, slow: 44 * time.Millisecond}
	e.set(7, misbehaviours["hangs"], "")
	w := New(answering(t, e), slog.New(slog.DiscardHandler))
	w.pace.inspect = 8 * time.Second // a busy machine answers late
	start := time.Now()
	found, err := w.Look(t.Context())
	took := time.Since(start)
	if err != nil || len(found.owners) != maxContainers-1 || took > 30*time.Second {
		t.Fatalf("%s, %+v, %v", took, len(found.owners), err)
	}
	t.Logf("%d containers in %s", len(found.owners), took)
	hosts := found.hosts()
	if hosts[0] != "0.test" || hosts[len(hosts)-1] != fmt.Sprintf("%d.test", maxContainers-1) {
		t.Errorf("from %s to %s", hosts[0], hosts[len(hosts)-1])
	}
	if len(found.problems) != 2 || found.problems[0].Owner != fmt.Sprintf("c%d and 1 newer", maxContainers) || !strings.Contains(found.problems[0].Message, "2002 containers have labels for padlock, and 2000 is the most") ||
		found.problems[1].Owner != "c7" {
		t.Errorf("%+v", found.problems)
	}

	start = time.Now()
	found.owners[100].parts[0].www = "add" // which collides with the next
	found.owners[101].parts[0].hosts = []string{"www." + found.owners[100].parts[0].hosts[0]}
	merged, problems := found.Merge(base(t, "docker: on"), nil)
	if took := time.Since(start); len(merged.Sites) != maxContainers-2 || len(problems) != 3 || took > 30*time.Second {
		t.Errorf("merged within %s: %d sites, %v", took, len(merged.Sites), problems)
	} else {
		t.Logf("merged, with one that does not fit, in %s", took)
	}
}

// A container's labels stand in the list of all, and in each of its events: one that has more of them than padlock reads is left out by itself.
func TestLabelsOfOneContainerDoNotHideTheOthers(t *testing.T) {
	t.Parallel()
	const good, other, vast = "aa", "bb", "cc"
	about := func(id string) string { return strings.Repeat(id, 32) }
	inspection := func(host string) string {
		return `{"Name":"/` + host + `","State":{"Running":true},"Config":{"Labels":{"padlock.host":"` + host + `.test","padlock.port":"80"}},"NetworkSettings":{"Networks":{"n":{"IPAddress":"10.0.0.2"}}}}`
	}
	for name, labels := range map[string]string{
		"many":           `"x":"` + strings.Repeat("y", 3<<20) + `"`,
		"braces in text": `"x":"` + strings.Repeat(`}]\"`, 1<<20) + `"`,
		"of padlock":     `"padlock.host":"vast.test","padlock.path":"` + strings.Repeat("y", 3<<20) + `"`,
	} {
		e := answers{
			"/_ping":                                "OK",
			"/containers/" + about(good) + "/json":  inspection("good"),
			"/containers/" + about(other) + "/json": inspection("other"),
			"/containers/json": ` [ {"Id":"` + about(vast) + `","Names":["/vast"],"Labels":{` + labels + `}},
				{"Id":"` + about(good) + `","Created":1,"Labels":{"padlock.host":"good.test"}} , {"Id":"` + about(other) + `","Created":2,"Labels":{"padlock.host":"x"},"Ports":[]},{"Id":"` + about("dd") + `","Labels":{"x":"y"}}]`,
		}
		w := New(answering(t, e), slog.New(slog.DiscardHandler))
		w.engine.maxListed = 1 << 20
		found, err := w.Look(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := found.hosts(); !slices.Equal(got, []string{"good.test", "other.test"}) {
			t.Errorf("%s: %v", name, got)
		}
		if len(found.problems) != 1 || found.problems[0].Owner != "vast" || !strings.Contains(found.problems[0].Message, "1 MiB") {
			t.Errorf("%s: %v", name, found.problems)
		}
	}
}

func TestTheListOfContainersIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"[]": "", " [ ] ": "", "null": "", `[{}]`: "{}", `[{"a":[1,{"b":"]}"}]},{"c":"\\\""}]`: `{"a":[1,{"b":"]}"}]} {"c":"\\\""}`,
		`[{"a":"` + strings.Repeat("b", 200) + `"}, {"c":1}]`: `{"a":"` + strings.Repeat("b", 100-6) + `… {"c":1}`,
		"": "error", "[": "error", "{}": "error", "[1]": "error", "[{}": "error", "[{},]": "error", "[{} {}]": "error", `[{"a":"}]`: "error", strings.Repeat(" ", 101): "error",
	} {
		var got []string
		err := eachElement(bufio.NewReader(strings.NewReader(text)), 100, func(element []byte, whole bool) error {
			if !whole {
				element = append(element, "…"...)
			}
			got = append(got, string(element))
			return nil
		})
		if joined := strings.Join(got, " "); (err != nil) != (want == "error") || err == nil && joined != want {
			t.Errorf("%.40q: %q, %v", text, joined, err)
		}
	}
}

// An event that is longer than padlock reads is one all the same, and others follow it.
func TestALongEventEndsNoStream(t *testing.T) {
	t.Parallel()
	long := `{"Type":"container","Action":"start","Actor":{"Attributes":{"x":"` + strings.Repeat("y", maxEvent) + `"}}}`
	e := newEngine(answering(t, answers{"/_ping": "OK", "/events": long + "\n" + `{"Type":"container","Action":"die"}` + "\n"}))
	var actions []string
	err := e.events(t.Context(), func() {}, func(e event) { actions = append(actions, e.Action) })
	if err == nil || !strings.Contains(err.Error(), "has ended the stream") || !slices.Equal(actions, []string{"", "die"}) {
		t.Errorf("%q, %v", actions, err)
	}
}

// What one container may have of names is bounded, and so is what all have: the newest are left out. A container with many labels that are wrong fills no log.
func TestNamesAndProblemsOfContainersAreBounded(t *testing.T) {
	labels := map[string]string{}
	for i := range 11 {
		var hosts []string
		for j := range maxHosts {
			hosts = append(hosts, fmt.Sprintf("%d.%d.test", j, i))
		}
		labels[fmt.Sprintf("padlock.routes.r%d.host", i)] = strings.Join(hosts, ",")
	}
	if _, problems := read(&owner{name: "c"}, labels); len(problems) != 1 || !strings.Contains(problems[0].Message, "1100 names in all") {
		t.Error(problems)
	}
	delete(labels, "padlock.routes.r10.host")
	parts, problems := read(&owner{name: "c"}, labels)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	found := &Found{}
	for i := range maxNamedOfAll/maxNamed + 1 {
		found.owners = append(found.owners, &owner{name: fmt.Sprint(i), parts: parts})
	}
	found.bound(maxNamedOfAll)
	if len(found.owners) != maxNamedOfAll/maxNamed || len(found.problems) != 1 || found.problems[0].Owner != fmt.Sprint(maxNamedOfAll/maxNamed) {
		t.Errorf("%d, %v", len(found.owners), found.problems)
	}

	about := &inspected{Name: "/c"}
	about.Config.Labels = map[string]string{"padlock.host": "a.test"}
	for i := range 400 {
		about.Config.Labels[fmt.Sprint("padlock.wrong", i)] = "x"
	}
	found = &Found{}
	New(&config.Docker{}, slog.New(slog.DiscardHandler)).add(found, &place{}, about, about)
	if len(found.problems) != maxProblems+1 || len(found.owners) != 0 {
		t.Errorf("%d problems, %d owners", len(found.problems), len(found.owners))
	}
}
