package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/proxy"
	"padlock/proxy/upstream"
)

// DeployRequest is what padlock deploy asks the running padlock for.
type DeployRequest struct {
	Host     string        `json:"host"`
	Path     string        `json:"path,omitempty"` // of the routes; "": all that forward
	To       []string      `json:"to,omitempty"`
	Rollback bool          `json:"rollback,omitempty"` // to the targets before, instead of To
	Health   string        `json:"health,omitempty"`   // path; "": the route's, else /up
	Timeout  time.Duration `json:"timeout"`            // for the new targets to become healthy
	Observe  time.Duration `json:"observe"`            // of their health after the switch
	Drain    time.Duration `json:"drain"`              // for the old targets to finish
	Pause    bool          `json:"pause,omitempty"`    // both versions never have requests at the same time
}

// DeployResult is how a deploy has ended; it is the exit code of padlock deploy.
type DeployResult int

const (
	DeployDone       DeployResult = 0
	DeployFailed     DeployResult = 1 // before the switch: nothing has changed
	DeployRolledBack DeployResult = 3 // after the switch: the old targets have the requests again
	DeployBusy       DeployResult = 4 // another deploy of the site is under way
	DeployLost       DeployResult = 5 // padlock has ended before the deploy had
)

// DeployStep is a line of the answer to a DeployRequest. The last one is Over.
type DeployStep struct {
	Text   string       `json:"text"`
	Over   bool         `json:"over,omitempty"`
	Result DeployResult `json:"result"`
}

const (
	maxPause     = 30 * time.Second // for which requests are held
	maxHeld      = 1000             // requests of a route that are held at once
	probeEvery   = 250 * time.Millisecond
	probeTimeout = 2 * time.Second
	probesFailed = 3 // in a row, after which a switch is taken back
	defaultProbe = "/up"
)

// deployer runs deploys: one of a site at a time. It is safe for use from many goroutines.
type deployer struct {
	r       *reloader
	mu      sync.Mutex
	running map[string]time.Time // by the first host of the site, since when
}

// deploy is one of them.
type deploy struct {
	r      *reloader
	q      *DeployRequest
	say    func(format string, args ...any)
	health config.Health

	order  Deployed        // what is served after the switch
	before []Deployed      // that it takes the place of
	probe  *upstream.Group // the new targets
	move   *proxy.Turnover // from the old ones
	routes []proxy.RouteAt // at their places
	hosts  []string        // of the site
	from   []string        // the old targets
	like   config.Upstream // how the first route reaches its targets
}

// deployFailed is an error after which a result is what the command has come to.
type deployFailed struct {
	error
	result DeployResult
}

// begin reserves a site, for one deploy at a time.
func (p *deployer) begin(site string) (end func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if since, busy := p.running[site]; busy {
		return nil, deployFailed{fmt.Errorf("another deploy of %s is under way, for %s: wait until it has ended", site, time.Since(since).Round(time.Second)), DeployBusy}
	}
	if p.running == nil {
		p.running = map[string]time.Time{}
	}
	p.running[site] = time.Now()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, site)
	}, nil
}

// underway are the deploys that run, in words.
func (p *deployer) underway() (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for site, since := range p.running {
		lines = append(lines, fmt.Sprintf("a deploy of %s is under way since %s", site, since.UTC().Format(time.RFC3339)))
	}
	slices.Sort(lines)
	return lines
}

// run is one deploy. Until the switch ctx ends it; after that only the end of padlock does.
func (p *deployer) run(ctx context.Context, q *DeployRequest, say func(format string, args ...any)) error {
	ended, err := p.r.apart.command()
	if err != nil {
		return err
	}
	defer ended()

	shown := p.r.shown.Load()
	site, name, err := siteOf(shown.plain, q.Host)
	if err != nil {
		return err
	}
	q.Host = name
	// /api and /api/ are the same, and a slash alone stands for routes without a path.
	if trimmed := strings.TrimSuffix(q.Path, "/"); trimmed != "" {
		q.Path = trimmed
	}
	end, err := p.begin(site.Hosts[0])
	if err != nil {
		return err
	}
	defer end()

	d := &deploy{r: p.r, q: q, say: say}
	if err := d.prepare(shown); err != nil {
		return err
	}
	if d.probe, err = p.r.server.Candidate(&d.like); err != nil {
		return err
	}
	defer d.probe.Close()

	if err := d.awaitHealth(ctx); err != nil {
		return err
	}
	if err := d.change(ctx); err != nil {
		return err
	}
	return d.settle()
}

// prepare finds the routes, and checks what they are to have.
func (d *deploy) prepare(shown *shown) error {
	site, places, err := d.find(shown.plain)
	if err != nil {
		return err
	}
	first := &site.Routes[places[0].Route]
	d.routes, d.hosts = places, site.Hosts
	d.order = Deployed{Host: d.q.Host, Path: d.q.Path, Was: targetsOf(first), To: d.q.To}

	// What the routes have now, by whichever deploy.
	d.from = targetsOf(&shown.o.Over(shown.plain).Sites[places[0].Site].Routes[places[0].Route])
	d.order.Before = d.from
	d.before = shown.o.replacedBy(&d.order, d.hosts)

	if d.q.Rollback {
		last := slices.IndexFunc(d.before, func(one Deployed) bool { return one.Path == d.order.Path && slices.Equal(one.Was, d.order.Was) })
		if last < 0 {
			return refuse("there is nothing to go back to: %s has no deploy that counts", d.order.name())
		}
		d.order.To = d.before[last].Before
		d.q.Health = cmp.Or(d.q.Health, d.before[last].Health)
	}
	return d.check(shown.plain, site, first)
}

// find are the site and the places of the routes that are to have other targets: all with the same.
func (d *deploy) find(cfg *config.Config) (site *config.Site, places []proxy.RouteAt, err error) {
	site, _, err = siteOf(cfg, d.q.Host)
	if err != nil {
		return nil, nil, err
	}
	if site.TCP != nil {
		return nil, nil, refuse("%s forwards TCP, whose connections cannot be moved: change its targets in the configuration", d.q.Host)
	}

	at := slices.IndexFunc(cfg.Sites, func(s config.Site) bool { return &s.Hosts[0] == &site.Hosts[0] })
	var paths []string // of routes that have different targets
	var was []string
	several := false
	for i := range site.Routes {
		r := &site.Routes[i]
		if len(r.To) == 0 || !isPath(d.q.Path, r) {
			continue
		}
		if named := d.q.Host + cmp.Or(r.Path+r.Exact, "/"); !slices.Contains(paths, named) {
			paths = append(paths, named)
		}
		if len(places) > 0 && !slices.Equal(targetsOf(r), was) {
			several = true
			continue
		}
		was = targetsOf(r)
		places = append(places, proxy.RouteAt{Site: at, Route: i})
	}

	switch {
	case len(places) == 0 && d.q.Path != "":
		return nil, nil, refuse("no route of %s with the path %s forwards requests", d.q.Host, d.q.Path)
	case len(places) == 0:
		return nil, nil, refuse("no route of %s forwards requests", d.q.Host)
	case several && len(paths) == 1:
		return nil, nil, refuse("the routes of %s have different targets and no path that tells them apart: change the targets in the configuration, and run padlock reload", paths[0])
	case several:
		return nil, nil, refuse("the routes of %s have different targets: name one, %s", d.q.Host, strings.Join(paths, " or "))
	}
	return site, places, nil
}

// check has the configuration's own rules judge the routes with their new targets.
func (d *deploy) check(cfg *config.Config, site *config.Site, first *config.Route) error {
	if len(d.order.To) == 0 {
		return refuse("a deploy needs targets")
	}
	to, err := backends(d.order.To)
	if err != nil {
		return refuse("%w", err)
	}
	d.order.To = nil
	for _, b := range to {
		d.order.To = append(d.order.To, b.Target.String())
	}

	probe, with := *cfg, *site
	probe.Sites = nil
	with.Hosts, with.Routes = slices.Clone(site.Hosts), slices.Clone(site.Routes)
	for _, at := range d.routes {
		r := &with.Routes[at.Route]
		r.To = slices.Clone(to)
		d.warnOfMirror(r)
	}
	if _, err := probe.With(with); err != nil {
		return refuse("the routes cannot have these targets: %w", err)
	}

	d.like = first.Upstream
	d.like.To = to
	d.health = config.Health{Path: defaultProbe, Status: "200-399", Timeout: probeTimeout}
	if first.Health != nil {
		d.health = *first.Health
		d.health.Timeout = min(d.health.Timeout, probeTimeout)
	}
	d.health.Path = cmp.Or(d.q.Health, d.health.Path)
	if !strings.HasPrefix(d.health.Path, "/") || strings.ContainsFunc(d.health.Path, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		return refuse("health: %q is not a path such as /up", d.health.Path)
	}
	d.order.Health = d.health.Path
	return nil
}

// warnOfMirror says where a new target has got copies of a route's requests so far.
func (d *deploy) warnOfMirror(r *config.Route) {
	if r.Mirror == nil {
		return
	}
	for _, b := range r.Mirror.To {
		if slices.Contains(d.order.To, b.Target.String()) {
			d.say("warning: %s is also a mirror of %s, and will get its requests twice: take mirror out of the configuration", b.Target, d.q.Host+cmp.Or(r.Path+r.Exact, "/"))
		}
	}
}

// awaitHealth returns when the new targets are healthy.
func (d *deploy) awaitHealth(ctx context.Context) error {
	d.say("waiting for %s to answer %s", strings.Join(d.order.To, ", "), d.health.Path)
	ctx, cancel := context.WithTimeout(ctx, d.q.Timeout)
	defer cancel()
	defer context.AfterFunc(d.r.tasks.ctx, cancel)()

	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	var last error
	for {
		err := d.probe.Probe(ctx, d.health)
		if err == nil {
			return nil
		}
		// An error at the end is our own doing.
		if ctx.Err() == nil || last == nil {
			last = err
		}

		select {
		case <-ticker.C:
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return errInterrupted
			}
			return fmt.Errorf("the new targets did not become healthy within %s, and nothing has changed: %w", d.q.Timeout, last)
		}
	}
}

// change switches, at one moment for all requests. No reload comes in between.
func (d *deploy) change(ctx context.Context) error {
	return d.r.change(func() error {
		// What the command was asked for has been found in a configuration that may be another by now.
		_, places, err := d.find(d.r.plain)
		if err != nil || !slices.Equal(places, d.routes) || !slices.Equal(targetsOf(&d.r.plain.Sites[places[0].Site].Routes[places[0].Route]), d.order.Was) {
			return errors.Join(errors.New("the configuration has changed meanwhile; nothing else has"), err)
		}
		if ctx.Err() != nil {
			return errInterrupted
		}

		d.move = d.r.server.Turnover(d.routes)
		if d.q.Pause {
			if err := d.pause(ctx); err != nil {
				return err
			}
		}
		if err := d.r.overrideNow(func(_ *config.Config, o *Overrides) error { o.put(d.order, d.hosts); return nil }); err != nil {
			d.move.Abandon()
			return err
		}
		d.move.Switch()
		d.say("switched from %s to %s", strings.Join(d.from, ", "), strings.Join(d.order.To, ", "))
		return nil
	})
}

// put has a deploy of a site, which has these hosts, in the place of those before.
func (o *Overrides) put(d Deployed, hosts []string) {
	o.remove(&d, hosts)
	d.At = time.Now().UTC().Truncate(time.Second)
	o.Deploys = append(o.Deploys, d)
}

// replacedBy are the deploys that another takes the place of, by whichever host of the site: that of the same routes,
// and with one of all routes those of some.
func (o *Overrides) replacedBy(d *Deployed, hosts []string) (all []Deployed) {
	for _, other := range o.Deploys {
		if d.replaces(&other, hosts) {
			all = append(all, other)
		}
	}
	return all
}

func (o *Overrides) remove(d *Deployed, hosts []string) {
	o.Deploys = slices.DeleteFunc(o.Deploys, func(other Deployed) bool { return d.replaces(&other, hosts) })
}

func (d *Deployed) replaces(other *Deployed, hosts []string) bool {
	return slices.Contains(hosts, other.Host) && (d.Path == "" || d.Path == other.Path)
}

// pause holds new requests until the old targets have finished theirs.
func (d *deploy) pause(ctx context.Context) error {
	d.say("holding new requests until %s has finished", strings.Join(d.from, ", "))
	d.move.Hold(maxHeld)
	ctx, cancel := context.WithTimeout(ctx, maxPause)
	defer cancel()
	defer context.AfterFunc(d.r.tasks.ctx, cancel)()

	ended := false
	for {
		requests, tunnels := d.move.Open()
		switch {
		case requests+tunnels == 0 && !d.r.besideAnother():
			return nil
		case requests == 0 && !ended:
			d.move.EndTunnels()
			ended = true
		}

		select {
		case <-time.After(drainLook):
		case <-ctx.Done():
			d.move.Abandon()
			switch {
			case !errors.Is(ctx.Err(), context.DeadlineExceeded):
				return errInterrupted
			case requests+tunnels == 0:
				return fmt.Errorf("the padlock before the last restart still has connections after %s, and perhaps requests of the old targets; the requests that were held have gone on to these, and nothing has changed", maxPause)
			}
			return fmt.Errorf("%d requests and %d WebSockets of the old targets have not ended within %s; the requests that were held have gone on to them, and nothing has changed", requests, tunnels, maxPause)
		}
	}
}

var errInterrupted = errors.New("the deploy was interrupted before the switch; nothing has changed")

const drainLook = 20 * time.Millisecond // between looks at what is open

// settle waits for the old targets, and watches the new ones. It switches back if these fail.
func (d *deploy) settle() error {
	ctx := d.r.tasks.ctx
	failed := 0
	began, probed := time.Now(), time.Now()
	for {
		// A check that has failed needs others that say whether it was the only one.
		observing := time.Since(began) < d.q.Observe || failed > 0
		if observing && time.Since(probed) >= min(probeEvery, d.q.Observe/4) {
			err := d.probe.Probe(ctx, d.health)
			if failed++; err == nil {
				failed = 0
			}
			if failed >= probesFailed && ctx.Err() == nil {
				return d.rollBack(err)
			}
			probed = time.Now()
		}

		requests, tunnels := d.move.Open()
		switch {
		case observing:
		case requests+tunnels == 0 && !d.r.besideAnother():
			d.say("%s has finished its requests", strings.Join(d.from, ", "))
			return nil
		case requests+tunnels == 0 && time.Since(began) >= d.q.Drain:
			d.say("after %s the padlock before the last restart still has connections, and perhaps requests of %s", d.q.Drain, strings.Join(d.from, ", "))
			return nil
		case time.Since(began) >= d.q.Drain:
			d.move.EndTunnels()
			d.say("after %s %s still had %d requests, and %d WebSockets, which are closed", d.q.Drain, strings.Join(d.from, ", "), requests, tunnels)
			return nil
		}

		select {
		case <-time.After(drainLook):
		case <-ctx.Done():
			return deployFailed{fmt.Errorf("padlock ends: %s has the requests, and nobody has watched it to the end", strings.Join(d.order.To, ", ")), DeployLost}
		}
	}
}

// rollBack gives the requests to the old targets again.
func (d *deploy) rollBack(why error) error {
	err := d.r.change(func() error {
		// A reload may have moved the routes since, or have taken them away.
		_, places, gone := d.find(d.r.plain)
		back := d.r.server.Turnover(places)
		if err := d.r.overrideNow(func(_ *config.Config, o *Overrides) error {
			o.remove(&d.order, d.hosts)
			o.Deploys = append(o.Deploys, d.before...)
			return nil
		}); err != nil {
			return err
		}
		if gone == nil {
			back.Switch()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the new targets have failed (%w), and the old ones could not be put back: %w", why, err)
	}
	return deployFailed{fmt.Errorf("the new targets have failed after the switch, and %s has the requests again: %w", strings.Join(d.from, ", "), why), DeployRolledBack}
}

// serveDeploy answers padlock deploy, a line for each step.
func (r *reloader) serveDeploy(w http.ResponseWriter, request *http.Request) {
	q := &DeployRequest{Timeout: 30 * time.Second, Observe: 5 * time.Second, Drain: 30 * time.Second}
	if err := json.NewDecoder(http.MaxBytesReader(w, request.Body, maxCommand)).Decode(q); err != nil {
		http.Error(w, "what the command asks cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}

	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	step := func(s DeployStep) {
		_ = lines.Encode(s)
		_ = http.NewResponseController(w).Flush()
	}
	err := r.deploys.run(request.Context(), q, func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		r.log.Info("deploy", "site", q.Host+q.Path, "step", text)
		step(DeployStep{Text: text})
	})

	last := DeployStep{Over: true, Text: q.Host + q.Path + " is deployed"}
	if err != nil {
		last.Text, last.Result = err.Error(), DeployFailed
		if failed := (deployFailed{}); errors.As(err, &failed) {
			last.Result = failed.result
		}
		r.log.Warn("a deploy has failed", "site", q.Host+q.Path, "reason", err)
	}
	step(last)
}
