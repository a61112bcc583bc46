// Package discovery finds sites beside those of the configuration. A Source finds them; Merge puts them behind the
// configuration's own. Watcher is the source that reads the labels of containers, through the socket of a container
// engine.
//
//	w := discovery.New(cfg.Docker, log)
//	found, err := w.Look(ctx)                      // once
//	merged, problems := found.Merge(cfg, nil)      // a configuration with the containers' sites behind its own
//	w.Report(problems)
//	w.Run(ctx, func(found *discovery.Found) { … }) // again whenever they may be others
//
// It only ever asks the engine, and bounds what it reads. While the engine is away, its last report stands; so it does
// for a single container that the engine does not report.
package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/internal/mask"
)

// Watcher is the Source that looks at the containers of one engine.
type Watcher struct {
	docker  *config.Docker
	log     *slog.Logger
	pace    pace
	asking  sync.Mutex        // one look at a time
	engine  *engine           // behind asking
	journal journal           // of problems; Report's caller keeps it to itself
	away    bool              // the engine does not answer, which has been said
	at      *place            // behind asking: where padlock was found last
	reports map[string]report // behind asking: by container

	mu      sync.Mutex
	leaving map[string]time.Time // containers that were told to stop, by when
}

// pace says how fast things go.
type pace struct {
	quiet, burst time.Duration // after an event, and at most while events go on
	resync       time.Duration // between full lists that no event asked for
	look         time.Duration // for a full list, with all that it lists
	inspect      time.Duration // for one container
	retry, rest  time.Duration // before the engine is asked again: at first, and at most
}

// stopping is how long a container that was told to stop gets nothing new, if it stops not.
const stopping = 5 * time.Minute

const (
	maxContainers = 2000   // with sites
	maxNamedOfAll = 20_000 // names of all routes of all containers
)

// New watches nothing until Look or Run is called.
func New(docker *config.Docker, log *slog.Logger) *Watcher {
	return &Watcher{
		docker: docker, log: log, engine: newEngine(docker), journal: journal{log: log}, leaving: map[string]time.Time{},
		pace: pace{quiet: 100 * time.Millisecond, burst: time.Second, resync: time.Minute, look: time.Minute, inspect: inspectTimeout, retry: 250 * time.Millisecond, rest: 15 * time.Second},
	}
}

// Report implements Source.
func (w *Watcher) Report(problems []Problem) { w.journal.report(problems) }

// String implements Source.
func (w *Watcher) String() string { return "the container engine " + mask.URL(w.docker.Endpoint) }

// Look asks for all containers, and returns those that want a site. What the engine does not report of one container
// is a problem of that container alone. An error means that the engine reports nothing.
func (w *Watcher) Look(ctx context.Context) (*Found, error) {
	w.asking.Lock()
	defer w.asking.Unlock()
	// Docker, Podman and old versions of both speak different versions of the API.
	if err := w.engine.negotiate(ctx); err != nil {
		return nil, err
	}

	all, err := w.engine.running(ctx, w.docker.Labels)
	if err != nil {
		return nil, err
	}

	looking, looked := context.WithTimeout(ctx, w.pace.inspect)
	at, err := w.engine.place(looking)
	looked()

	switch {
	case err == nil:
		w.at = at
	case w.at == nil:
		return nil, err
	}

	found := &Found{}
	all = slices.DeleteFunc(all, func(c listed) bool {
		if c.vast {
			found.problems = append(found.problems, Problem{
				Owner: c.name(), Message: fmt.Sprintf("the engine says more than %d MiB of it, so its labels are not read, and it is not served", w.engine.maxListed>>20),
				Remedy: "give it fewer labels",
			})
		}
		return c.vast
	})
	// The oldest first: a container that is started later never takes a name away from one that has it.
	slices.SortFunc(all, func(a, b listed) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID)) })
	if len(all) > maxContainers {
		found.problems = append(found.problems, tooMany(all))
		all = all[:maxContainers]
	}

	if err := w.inspectAll(ctx, found, all); err != nil {
		return nil, err
	}

	slices.SortFunc(found.owners, func(a, b *owner) int { return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id)) })
	found.bound(maxNamedOfAll)
	return found, nil
}

// bound leaves out those of the newest that have too many names, so that the oldest are served, and within seconds.
func (f *Found) bound(left int) {
	f.owners = slices.DeleteFunc(f.owners, func(c *owner) bool {
		named := 0
		for _, p := range c.parts {
			named += len(p.hosts)
		}
		if named <= left {
			left -= named
			return false
		}
		f.problems = append(f.problems, Problem{
			Owner: c.name, Message: fmt.Sprintf("the routes of older containers have nearly all of the %d names that padlock serves", maxNamedOfAll), Remedy: "choose among containers with docker.labels",
		})
		return true
	})
}

// tooMany is the problem of the newest of too many containers, which are left out: whoever starts containers must not
// push out others.
func tooMany(all []listed) Problem {
	name := all[maxContainers].name()
	if more := len(all) - maxContainers - 1; more > 0 {
		name += fmt.Sprintf(" and %d newer", more)
	}
	return Problem{
		Owner: name, Message: fmt.Sprintf("%d containers have labels for padlock, and %d is the most that it serves: the newest are left out", len(all), maxContainers),
		Remedy: "choose among them with docker.labels",
	}
}

// report is what the engine has reported of a container.
type report struct {
	about, where *inspected // where lends about its network, or is about itself; both nil: nothing has been reported yet
	reached      reached    // what the list has shown then
	gone         bool
	err          error         // of the last attempt
	again        time.Time     // not before then, after an error
	pause        time.Duration // before the next attempt but one
}

// inspectAll asks for containers, several at a time, and puts each among those that are found. Of one that the engine
// does not report, the report before counts. The error is the engine's, where it reports none for want of an
// answer.
func (w *Watcher) inspectAll(ctx context.Context, found *Found, all []listed) error {
	answers := make([]report, len(all))
	turns := make(chan struct{}, inspections)
	var asking sync.WaitGroup
	for i := range all {
		answers[i] = w.reports[all[i].ID]
		if before := &answers[i]; before.about != before.where || !all[i].same(&before.reached) {
			// The container may be reached in another way since.
			before.about, before.where = nil, nil
		}
		if time.Now().Before(answers[i].again) {
			continue
		}

		// An engine with many containers is not asked for all of them at once.
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			answers[i] = w.ask(ctx, &all[i], answers[i])
		})
	}

	asking.Wait()

	if silent := w.take(found, all, answers); silent > 0 && silent == len(all) {
		return answers[0].err
	}
	return nil
}

// take adds what the containers have answered, and counts those that gave no answer.
func (w *Watcher) take(found *Found, all []listed, answers []report) (silent int) {
	next := map[string]report{}
	for i, c := range all {
		answer := answers[i]
		// Only containers that are listed are remembered, so that those that are gone take no memory.
		next[c.ID] = answer
		if answer.err != nil {
			found.problems = append(found.problems, unreported(c.name(), answer))
			if found.again.IsZero() || answer.again.Before(found.again) {
				found.again = answer.again
			}
			if unanswered(answer.err) {
				silent++
			}
		}

		if answer.gone || answer.about == nil {
			continue
		}
		if state := answer.about.State; state.Running && !state.Paused && !state.Restarting {
			w.add(found, w.at, answer.about, answer.where)
		}
	}

	w.reports = next
	return silent
}

// unanswered reports whether an error is one of the connection, or of the time that an answer takes, rather than an
// answer that is no use.
func unanswered(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unreported is the problem of a container that the engine does not report.
func unreported(name string, answer report) Problem {
	p := Problem{Owner: name, Message: "the engine does not tell of it: " + answer.err.Error(), Remedy: "docker inspect " + name + " shows whether the engine answers; restart the container, or the engine"}
	if answer.about != nil {
		p.Message += "; what it told before counts"
	}
	return p
}

// ask asks the engine for one container, and for the one whose network that uses.
func (w *Watcher) ask(ctx context.Context, c *listed, before report) report {
	ctx, cancel := context.WithTimeout(ctx, w.pace.inspect)
	defer cancel()
	about, err := w.engine.inspect(ctx, c.ID)
	where := about
	if err == nil && about != nil {
		about.ID = c.ID
		// A container may use another's network, whose addresses only the other one has.
		if other, shares := strings.CutPrefix(about.HostConfig.NetworkMode, "container:"); shares && containerID().MatchString(other) {
			lender, failed := w.engine.inspect(ctx, other)
			if err = failed; lender != nil {
				where = lender
			}
		}
	}

	switch {
	case err != nil:
		before.err = err
		// A container that keeps the engine from answering is asked less and less often.
		before.pause = min(max(2*before.pause, w.pace.retry), w.pace.rest)
		before.again = time.Now().Add(before.pause)
		return before
	case about == nil: // it has gone meanwhile
		return report{gone: true}
	}

	return report{about: about, where: where, reached: c.reached}
}

// add puts a container among those that are found, or what keeps it out among the problems. The container where has
// the network, which another may lend.
func (w *Watcher) add(found *Found, at *place, about, where *inspected) {
	c := &owner{kind: "container", id: about.ID, name: about.name(), created: about.Created, leaving: w.isLeaving(about.ID)}
	// Traffic goes to a container once it says that it is ready, as with the engine's own dependencies.
	if health := about.State.Health; health != nil && (health.Status == "starting" || health.Status == "unhealthy") {
		found.problems = append(found.problems, Problem{Owner: c.name, Waiting: true, Message: "its health check says " + health.Status})
		return
	}

	parts, problems := read(c, about.Config.Labels)
	for _, p := range parts {
		if err := p.locate(at, about, where, cmp.Or(p.network, w.docker.Network)); err != nil {
			problems = append(problems, of(err, c.name, p.prefix, "port"))
		}
	}

	found.problems = append(append(found.problems, few(c, c.notices)...), few(c, problems)...)
	if len(problems) == 0 {
		c.parts = parts
		found.owners = append(found.owners, c)
	}
}

// maxProblems is how many of one container are logged: its labels must not fill the log.
const maxProblems = 10

func few(c *owner, problems []Problem) []Problem {
	more := len(problems) - maxProblems
	if more <= 0 {
		return problems
	}
	return append(slices.Clone(problems[:maxProblems]), Problem{
		Owner: c.name, Message: fmt.Sprintf("there is something to say of %d more of its labels", more), Remedy: "correct those that are named first",
	})
}

// locate finds the part's target. The container where has the network, which another may lend.
func (p *part) locate(at *place, about, where *inspected, network string) (err error) {
	port := p.port
	if port == "" {
		if port, err = about.onlyPort(); err != nil {
			return err
		}
	}
	address, err := at.address(where, network, port)
	p.target = config.Target{Scheme: p.scheme, Network: "tcp", Address: address}
	return err
}

// onlyPort is the port that the container exposes, if there is one alone.
func (c *inspected) onlyPort() (string, error) {
	var ports []string
	for exposed := range c.Config.ExposedPorts {
		if port, tcp := strings.CutSuffix(exposed, "/tcp"); tcp && validPort(port) {
			ports = append(ports, port)
		}
	}

	slices.Sort(ports)
	switch len(ports) {
	case 1:
		return ports[0], nil
	case 0:
		return "", trouble("port", "is missing, and the image exposes no TCP port", "add the label with the port on which the container listens")
	}

	return "", trouble("port", "is missing, and the image exposes several: "+strings.Join(ports[:min(len(ports), 10)], ", "), "add the label with one of them")
}

func (w *Watcher) isLeaving(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	until, leaves := w.leaving[id]
	return leaves && time.Now().Before(until)
}

// note remembers of an event what a list would not show: that a container was told to stop.
func (w *Watcher) note(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()

	for id, until := range w.leaving {
		if time.Now().After(until) {
			delete(w.leaving, id)
		}
	}

	switch {
	case e.Type != "container":
	// Between the signal and the end, a container finishes what it has. It should get nothing new.
	case e.Action == "kill" && (e.Actor.Attributes["signal"] == "15" || e.Actor.Attributes["signal"] == "9") && len(w.leaving) < maxContainers:
		w.leaving[e.Actor.ID] = time.Now().Add(stopping)
	case e.Action == "die" || e.Action == "start":
		delete(w.leaving, e.Actor.ID)
	}
}
