// Package discovery finds sites in the labels of containers, through the socket of a container engine.
//
//	w := discovery.New(cfg.Docker, log)
//	found, err := w.Look(ctx)                      // once
//	merged, problems := found.Merge(cfg, nil)      // a configuration with the containers' sites behind its own
//	w.Tell(problems)
//	w.Run(ctx, func(found *discovery.Found) { … }) // again whenever they may be others
//
// It only ever asks the engine, and bounds what it reads. While the engine is away, what it told last stands.
package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
)

// Watcher looks at the containers of one engine.
type Watcher struct {
	docker  *config.Docker
	log     *slog.Logger
	pace    pace
	asking  sync.Mutex // one look at a time
	engine  *engine    // behind asking
	journal journal    // of problems; Tell's caller keeps it to itself
	away    bool       // the engine does not answer, which has been said

	mu      sync.Mutex
	leaving map[string]time.Time // containers that were told to stop, by when
}

// pace says how fast things go.
type pace struct {
	quiet, burst time.Duration // after an event, and at most while events go on
	resync       time.Duration // between full lists that no event asked for
	look         time.Duration // for a full list
	retry, rest  time.Duration // before the engine is asked again: at first, and at most
}

// stopping is how long a container that was told to stop gets nothing new, if it stops not.
const stopping = 5 * time.Minute

const maxContainers = 2000 // with sites

// New watches nothing until Look or Run is called.
func New(docker *config.Docker, log *slog.Logger) *Watcher {
	return &Watcher{
		docker: docker, log: log, engine: newEngine(docker), journal: journal{log: log}, leaving: map[string]time.Time{},
		pace: pace{quiet: 100 * time.Millisecond, burst: time.Second, resync: time.Minute, look: time.Minute, retry: 250 * time.Millisecond, rest: 15 * time.Second},
	}
}

// Tell logs problems that it has not been told of before. It is not to be called by two goroutines at a time.
func (w *Watcher) Tell(problems []Problem) { w.journal.tell(problems) }

// Look asks for all containers, and returns those that want a site.
func (w *Watcher) Look(ctx context.Context) (*Found, error) {
	w.asking.Lock()
	defer w.asking.Unlock()
	if err := w.engine.negotiate(ctx); err != nil {
		return nil, err
	}
	all, err := w.engine.running(ctx, w.docker.Labels)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c listed) bool { return !wants(c.Labels) })
	if len(all) > maxContainers {
		return nil, fmt.Errorf("%d containers have labels for padlock, and %d is the most that it looks at: docker.labels chooses among them", len(all), maxContainers)
	}
	at, err := w.engine.place(ctx)
	if err != nil {
		return nil, err
	}
	found := &Found{}
	for _, c := range all {
		about, err := w.engine.inspect(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		if about == nil || !about.State.Running || about.State.Paused || about.State.Restarting {
			continue // it has gone meanwhile
		}
		about.ID = c.ID
		if err := w.add(ctx, found, at, about); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found.containers, func(a, b *container) int { return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id)) })
	return found, nil
}

// add puts a container among those that are found, or what keeps it out among the problems.
func (w *Watcher) add(ctx context.Context, found *Found, at *place, about *inspected) error {
	c := &container{id: about.ID, name: about.name(), created: about.Created, leaving: w.isLeaving(about.ID)}
	if health := about.State.Health; health != nil && (health.Status == "starting" || health.Status == "unhealthy") {
		found.problems = append(found.problems, Problem{Container: c.name, Waiting: true, Message: "its health check says " + health.Status})
		return nil
	}
	parts, problems := read(c, about.Config.Labels)
	where := about
	if id, shares := strings.CutPrefix(about.HostConfig.NetworkMode, "container:"); shares && containerID.MatchString(id) {
		other, err := w.engine.inspect(ctx, id)
		if err != nil {
			return err
		}
		if other != nil {
			where = other
		}
	}
	for _, p := range parts {
		if err := p.locate(at, about, where, cmp.Or(p.network, w.docker.Network)); err != nil {
			problems = append(problems, of(err, c.name, p.prefix, "port"))
		}
	}
	found.problems = append(found.problems, problems...)
	if len(problems) == 0 {
		c.parts = parts
		found.containers = append(found.containers, c)
	}
	return nil
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
	until, told := w.leaving[id]
	return told && time.Now().Before(until)
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
	case e.Action == "kill" && (e.Actor.Attributes["signal"] == "15" || e.Actor.Attributes["signal"] == "9") && len(w.leaving) < maxContainers:
		w.leaving[e.Actor.ID] = time.Now().Add(stopping)
	case e.Action == "die" || e.Action == "start":
		delete(w.leaving, e.Actor.ID)
	}
}
