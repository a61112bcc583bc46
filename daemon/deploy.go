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
	From     string        `json:"from,omitempty"` // a target of theirs, now or in the file; "": any
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
	site, places, err := d.find(shown)
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

// candidate is a route that the command may mean.
type candidate struct {
	at       proxy.RouteAt
	was, now []string // its targets in the file, and by whichever deploy
	named    string   // in words
}

// find are the site and the places of the routes that are to have other targets: all with the same in the file.
func (d *deploy) find(shown *shown) (site *config.Site, places []proxy.RouteAt, err error) {
	site, _, err = siteOf(shown.plain, d.q.Host)
	if err != nil {
		return nil, nil, err
	}
	if site.TCP != nil {
		return nil, nil, refuse("%s forwards TCP, whose connections cannot be moved: change its targets in the configuration", d.q.Host)
	}

	all := d.candidates(shown, site)
	switch {
	case len(all) == 0 && d.q.Path != "":
		return nil, nil, refuse("no route of %s with the path %s forwards requests", d.q.Host, d.q.Path)
	case len(all) == 0:
		return nil, nil, refuse("no route of %s forwards requests", d.q.Host)
	}

	chosen := all
	if d.q.From != "" {
		from, err := backends([]string{d.q.From})
		if err != nil {
			return nil, nil, refuse("from: %w", err)
		}
		if chosen = having(all, from[0].Target.String()); len(chosen) == 0 {
			return nil, nil, refuse("no route of %s has the target %s; there are\n%s", d.q.Host+d.q.Path, from[0].Target, listedRoutes(all))
		}
	}
	for _, one := range chosen {
		if !slices.Equal(one.was, chosen[0].was) {
			return nil, nil, refuse("the routes of %s have different targets: name one by its path, as %s/api, or by a target that it has, with --from\n%s", d.q.Host+d.q.Path, d.q.Host, listedRoutes(all))
		}
		places = append(places, one.at)
	}
	return site, places, nil
}

// candidates are the routes with the path that the command names.
func (d *deploy) candidates(shown *shown, site *config.Site) (all []candidate) {
	at := slices.IndexFunc(shown.plain.Sites, func(s config.Site) bool { return &s.Hosts[0] == &site.Hosts[0] })
	over := shown.o.Over(shown.plain)
	for i := range site.Routes {
		r := &site.Routes[i]
		if len(r.To) == 0 || !isPath(d.q.Path, r) {
			continue
		}
		one := candidate{at: proxy.RouteAt{Site: at, Route: i}, was: targetsOf(r), now: targetsOf(&over.Sites[at].Routes[i])}
		one.named = d.q.Host + cmp.Or(r.Path+r.Exact, "/")
		if kinds := append(slices.Clone(r.Methods), r.Conditions.Kinds()...); len(kinds) > 0 {
			one.named += " (" + strings.Join(kinds, ", ") + ")"
		}
		one.named += " at " + strings.Join(one.now, ", ")
		if !slices.Equal(one.was, one.now) {
			one.named += ", in the configuration at " + strings.Join(one.was, ", ")
		}
		all = append(all, one)
	}
	return all
}

// having are the candidates with a target, now or in the file; those that have it in both, where others have it in one.
func having(all []candidate, target string) (found []candidate) {
	var both []candidate
	for _, one := range all {
		was, now := slices.Contains(one.was, target), slices.Contains(one.now, target)
		if was || now {
			found = append(found, one)
		}
		if was && now {
			both = append(both, one)
		}
	}
	if len(both) > 0 {
		return both
	}
	return found
}

// listedRoutes are candidates, one a line.
func listedRoutes(all []candidate) string {
	var lines []string
	for _, one := range all {
		lines = append(lines, "  "+one.named)
	}
	return strings.Join(lines, "\n")
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
		_, places, err := d.find(d.r.shown.Load())
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
		if err := d.r.overrideNow(func(_ *config.Config, o *Overrides) error { o.put(&d.order, d.hosts); return nil }); err != nil {
			d.move.Abandon()
			return err
		}
		d.move.Switch()
		d.say("switched from %s to %s", strings.Join(d.from, ", "), strings.Join(d.order.To, ", "))
		return nil
	})
}

// put has a deploy of a site, which has these hosts, in the place of those before.
func (o *Overrides) put(d *Deployed, hosts []string) {
	d.At = time.Now().UTC().Truncate(time.Second)
	o.Deploys = slices.DeleteFunc(o.Deploys, func(other Deployed) bool { return d.replaces(&other, hosts) })
	o.Deploys = append(o.Deploys, *d)
}

// replacedBy are the deploys that another takes the place of, by whichever host of the site: that of the same routes,
// and with one of all routes those of some. Routes that have other targets in the file keep theirs.
func (o *Overrides) replacedBy(d *Deployed, hosts []string) (all []Deployed) {
	for _, other := range o.Deploys {
		if d.replaces(&other, hosts) {
			all = append(all, other)
		}
	}
	return all
}

func (d *Deployed) replaces(other *Deployed, hosts []string) bool {
	return slices.Contains(hosts, other.Host) && (d.Path == "" || d.Path == other.Path) && slices.Equal(d.Was, other.Was)
}

// takeBack undoes put. The file may have the new targets meanwhile, or others.
func (o *Overrides) takeBack(d *Deployed, before []Deployed) {
	o.Deploys = slices.DeleteFunc(o.Deploys, func(other Deployed) bool {
		return other.Host == d.Host && other.Path == d.Path && other.At.Equal(d.At) && slices.Equal(other.To, d.To)
	})
	o.Deploys = append(o.Deploys, before...)
}

// pause holds new requests until the old targets have finished theirs.
func (d *deploy) pause(ctx context.Context) error {
	d.say("holding new requests until %s", phrase(d.from, "has finished", "have finished"))
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
			d.say("%s", phrase(d.from, "has finished its requests", "have finished their requests"))
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
			return deployFailed{fmt.Errorf("padlock ends: %s to the end", phrase(d.order.To, "has the requests, and nobody has watched it", "have the requests, and nobody has watched them")), DeployLost}
		}
	}
}

// phrase says something of one target, or of several.
func phrase(targets []string, one, several string) string {
	if len(targets) == 1 {
		return targets[0] + " " + one
	}
	return strings.Join(targets, ", ") + " " + several
}

// rollBack gives the requests to the old targets again.
func (d *deploy) rollBack(why error) error {
	err := d.r.change(func() error {
		// A reload may have moved the routes since, or have taken them away.
		back := d.r.server.Turnover(d.moved(d.r.plain))
		if err := d.r.overrideNow(func(_ *config.Config, o *Overrides) error { o.takeBack(&d.order, d.before); return nil }); err != nil {
			return err
		}
		back.Switch()
		return nil
	})
	if err != nil {
		return fmt.Errorf("the new targets have failed (%w), and the old ones could not be put back: %w", why, err)
	}
	return deployFailed{fmt.Errorf("the new targets have failed after the switch, and %s the requests again: %w", phrase(d.from, "has", "have"), why), DeployRolledBack}
}

// moved are the places that the routes of the deploy have in another configuration: those that had the same targets, or
// have the new ones.
func (d *deploy) moved(cfg *config.Config) (places []proxy.RouteAt) {
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		if !slices.Contains(site.Hosts, d.q.Host) {
			continue
		}
		for j := range site.Routes {
			r := &site.Routes[j]
			if was := targetsOf(r); isPath(d.q.Path, r) && (slices.Equal(was, d.order.Was) || slices.Equal(was, d.order.To)) {
				places = append(places, proxy.RouteAt{Site: i, Route: j})
			}
		}
	}
	return places
}

// serveDeploy answers padlock deploy, a line for each step.
func (r *reloader) serveDeploy(w http.ResponseWriter, request *http.Request) {
	q := &DeployRequest{Timeout: 30 * time.Second, Observe: 5 * time.Second, Drain: 30 * time.Second}
	if err := json.NewDecoder(http.MaxBytesReader(w, request.Body, maxCommand)).Decode(q); err != nil {
		http.Error(w, "what the command asks cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}

	ended, err := r.apart.command()
	if err != nil {
		commandFailed(w, err)
		return
	}
	defer ended()

	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	step := func(s DeployStep) {
		_ = lines.Encode(s)
		_ = http.NewResponseController(w).Flush()
	}
	err = r.deploys.run(request.Context(), q, func(format string, args ...any) {
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
