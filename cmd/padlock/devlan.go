package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/daemon"
	"padlock/dev"
	"padlock/dev/mdns"
	"padlock/discovery"
	"padlock/hostinfo"
)

// nearby serves the apps of one command to devices on the local network. It is a padlock of its own in the command's
// process, with those apps alone: what others run on this machine stays there, and nothing is left open when the
// command ends. It is a discovery.Source, and safe for use from many goroutines.
type nearby struct {
	*developing
	changed chan struct{} // has room for one: the sites may be others
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu           sync.Mutex
	apps         []*nearbyApp // in the order in which they came; the first has the addresses
	addresses    []string     // of this machine
	started      *daemon.Started
	trustPrinted bool
}

// nearbyApp is an app that devices nearby can open.
type nearbyApp struct {
	dev.App
	host      string // NAME.local
	announced bool   // devices can ask for it
	printed   string // what has been printed of it
}

// nearbyName is an app's name on the local network. Some resolvers look up names of two labels alone there.
func nearbyName(name string) string { return strings.ReplaceAll(name, ".", "-") + ".local" }

// newNearby begins to serve when the first app is registered.
func newNearby(d *developing) *nearby { return &nearby{developing: d, changed: make(chan struct{}, 1)} }

func (n *nearby) close() {
	if n.cancel != nil {
		n.cancel()
	}
	n.running.Wait()
}

// String implements discovery.Source.
func (n *nearby) String() string { return "padlock dev --lan" }

// Look implements discovery.Source.
func (n *nearby) Look(context.Context) (*discovery.Found, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owners := make([]discovery.Owner, len(n.apps))
	for i, a := range n.apps {
		hosts := []string{a.host}
		if i == 0 {
			hosts = append(hosts, n.addresses...)
		}
		owners[i] = discovery.Owner{Kind: "app", Name: a.Name, Sites: []config.Site{a.site(hosts)}}
	}
	return discovery.Find(owners...), nil
}

// Away implements discovery.Source: Look always answers.
func (n *nearby) Away(error) {}

// Run implements discovery.Source.
func (n *nearby) Run(ctx context.Context, publish func(*discovery.Found)) {
	for {
		found, _ := n.Look(ctx) // which cannot fail
		publish(found)
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
	}
}

// Report implements discovery.Source.
func (n *nearby) Report(problems []discovery.Problem) {
	for _, p := range problems {
		n.say("%s is not served to devices nearby: %s", p.Owner, p.Message)
	}
}

// notListening is shown while an app is not up. It has nothing that the network should not read, such as the app's
// output.
const notListening = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="1"><title>%[1]s</title>
<p style="font:1.1rem system-ui;margin:20vh auto;text-align:center">%[1]s does not listen yet. This page loads it as soon as it does.</p>
`

// site is what devices get of an app.
func (a *nearbyApp) site(hosts []string) config.Site {
	route := config.Route{Respond: &config.Respond{Status: 503, ContentType: "text/html; charset=utf-8", Body: fmt.Sprintf(notListening, a.Name)}}
	if a.Target != "" {
		route = config.Route{Upstream: config.Upstream{To: []config.Backend{{Target: config.Target{Scheme: "http", Network: "tcp", Address: a.Target}}}}, Host: a.HostHeader}
	}
	return config.Site{Hosts: hosts, Routes: []config.Route{route}}
}

// change has the sites published anew. It is called with mu locked.
func (n *nearby) change() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// add serves an app that has been registered. The first one starts all.
func (n *nearby) add(app dev.App) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.ContainsFunc(n.apps, func(a *nearbyApp) bool { return a.Name == app.Name }) {
		// The app is registered anew with another proxy, which announces it again.
		return
	}

	a := &nearbyApp{App: app, host: nearbyName(app.Name)}
	n.apps = append(n.apps, a)
	n.change()
	if len(n.apps) == 1 {
		ctx, cancel := context.WithCancel(context.WithoutCancel(n.c.Context))
		n.cancel = cancel
		// An error does not matter here, as follow reads the addresses again.
		n.addresses, _ = ownAddresses()
		n.running.Go(func() { n.serve(ctx) })
	}
}

// move notes where an app listens; "": it does not.
func (n *nearby) move(name, target string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.apps {
		if a.Name == name && a.Target != target {
			a.Target = target
			n.change()
		}
	}
}

// serve is the padlock for the network, until ctx ends.
func (n *nearby) serve(ctx context.Context) {
	cfg := config.Default()
	cfg.Storage, cfg.Organization = n.cfg.Storage, n.cfg.Organization
	cfg.Listen = config.Listen{HTTPS: everywhere("443"), HTTP: everywhere("80"), HTTP3: true, AltSvc: cfg.Listen.AltSvc}
	cfg.Admin.Address, cfg.AccessLog.Format, cfg.TrustPage = "off", "off", true
	cfg.Timeouts.ResponseHeader, cfg.Timeouts.Shutdown = config.Endless, time.Second
	cfg.Handshakes.Format, cfg.Handshakes.Output = "line", filepath.Join(n.logDirectory(), "handshakes-lan.log")
	cfg.Sites = []config.Site{{Hosts: []string{"localhost"}, Routes: []config.Route{{Respond: &config.Respond{Status: 404, Body: "no app is here\n"}}}}}

	err := errors.Join(cfg.Validate(), os.MkdirAll(n.logDirectory(), 0o700))
	var log *os.File
	if err == nil {
		log, err = os.OpenFile(filepath.Join(n.logDirectory(), "lan.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	}
	if err == nil {
		defer log.Close()
		o := n.options(true, nil)
		o.Sources, o.Reporter, o.Embedded, o.Stdout, o.Stderr = []discovery.Source{n}, (*nearbyStart)(n), true, log, log
		var follow sync.WaitGroup
		follow.Go(func() { n.follow(ctx) })
		err = daemon.Run(ctx, cfg, o)
		n.cancel()
		follow.Wait()
	}
	if err != nil && ctx.Err() == nil {
		n.say("devices nearby cannot open the app: %v", err)
	}
}

// nearbyStart follows how the padlock of a nearby begins.
type nearbyStart nearby

// NoPlainPort implements daemon.Reporter: announce says it.
func (*nearbyStart) NoPlainPort([]int) {}

// Stopping implements daemon.Reporter.
func (*nearbyStart) Stopping(time.Duration) {}

// Started implements daemon.Reporter.
func (s *nearbyStart) Started(started daemon.Started) {
	n := (*nearby)(s)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started = &started
}

// networkEvery is how often the machine's addresses are looked at.
const networkEvery = 2 * time.Second

// follow announces the names of apps, and the addresses whenever they are others.
func (n *nearby) follow(ctx context.Context) {
	var names []*mdns.Responder
	defer func() {
		for _, name := range names {
			name.Close()
		}
	}()

	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	looked := time.Now()
	for {
		for _, a := range n.unannounced() {
			name, err := mdns.Announce(ctx, a.host)
			if err == nil {
				names = append(names, name)
			} else if ctx.Err() == nil {
				n.say("devices cannot ask for the name of %s: %v", a.Name, err)
			}
			n.announce(a, err == nil)
		}

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if time.Since(looked) > networkEvery {
			looked = time.Now()
			n.look()
		}
	}
}

// unannounced are apps that nobody knows of yet; none before the padlock has started.
func (n *nearby) unannounced() (apps []*nearbyApp) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.apps {
		if n.started != nil && a.printed == "" {
			apps = append(apps, a)
		}
	}
	return apps
}

// look reads the machine's addresses again, and announces others.
func (n *nearby) look() {
	now, err := ownAddresses()
	n.mu.Lock()
	if err != nil || slices.Equal(now, n.addresses) {
		n.mu.Unlock()
		return
	}

	n.addresses = now
	n.change()
	// A copy, as announce takes the lock itself.
	apps := slices.Clone(n.apps)
	n.mu.Unlock()
	for _, a := range apps {
		if a.printed != "" {
			n.announce(a, a.announced)
		}
	}
}

// ownAddresses are those by which devices reach this machine.
func ownAddresses() (hosts []string, err error) {
	network, err := hostinfo.ReadNetwork()
	for _, a := range network.Addresses {
		hosts = append(hosts, a.String())
	}
	return hosts, err
}

// announce says where devices find an app, and, the first time, how they come to trust what they see.
func (n *nearby) announce(a *nearbyApp, named bool) {
	n.mu.Lock()
	var hosts []string
	if named {
		hosts = []string{a.host}
	}
	if n.apps[0] == a {
		hosts = append(hosts, n.addresses...)
	}
	reachable := len(n.addresses) > 0
	urls, pages := urlsOf(n.started.Listeners, false, hosts), urlsOf(n.started.Listeners, true, n.addresses)
	first := !n.trustPrinted && len(pages) > 0
	n.trustPrinted = n.trustPrinted || first
	said := strings.Join(urls, ", ")
	again := a.printed == said+"."
	a.announced, a.printed = named, said+"."
	n.mu.Unlock()

	switch {
	case again:
	case n.json:
		event := devEvent{Event: "nearby", Name: a.Name, Nearby: urls}
		if len(pages) > 0 {
			event.TrustPage = pages[0]
		}
		(&devEvents{n.developing}).print(event)
	case !reachable:
		n.say("this machine has no address that devices nearby could reach; %s is announced as soon as it has", a.Name)
	case len(urls) == 0:
		n.say("devices nearby have no name for %s", a.Name)
	default:
		n.say("%s for devices nearby: %s", a.Name, said)
	}
	if first && !n.json {
		n.announceTrust(pages[0])
	}
}

// announceTrust says where devices come to trust the local CA.
func (n *nearby) announceTrust(page string) {
	sayTrustPage(n.say, page, n.ca.Root())
	if !drawsBlocks(n.stderr) {
		return
	}
	if code, err := qrCode(page + "/"); err == nil {
		n.lines.Lock()
		defer n.lines.Unlock()
		// The terminal may be the app's and in raw mode, in which a newline does not return to the first column.
		fmt.Fprint(n.stderr, strings.ReplaceAll(code, "\n", "\r\n"))
	}
}

// nearbyReport announces an app to devices, too.
type nearbyReport struct {
	dev.Reporter
	lan *nearby
}

// Registered implements dev.Reporter.
func (r *nearbyReport) Registered(app dev.App) {
	r.Reporter.Registered(app)
	r.lan.add(app)
}

// Listening implements dev.Reporter.
func (r *nearbyReport) Listening(app dev.App, at netip.AddrPort) {
	r.Reporter.Listening(app, at)
	r.lan.move(app.Name, at.String())
}

// Silent implements dev.Reporter.
func (r *nearbyReport) Silent(app dev.App) {
	r.lan.move(app.Name, "")
	r.Reporter.Silent(app)
}

// Ended implements dev.Reporter.
func (r *nearbyReport) Ended(app dev.App, code int, again bool) {
	r.lan.move(app.Name, "")
	r.Reporter.Ended(app, code, again)
}
