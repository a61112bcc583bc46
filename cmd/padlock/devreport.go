package main

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"padlock/certs/trust"
	"padlock/dev"
	"padlock/hostinfo"
	"padlock/internal/text"
)

// devReport shows a person how one app goes.
type devReport struct{ *developing }

// Registered implements dev.Reporter.
func (r *devReport) Registered(app dev.App) {
	r.say("%s → %s", app.URL, app.Command)
	for _, host := range app.Hosts[1:] {
		r.say("also %s", host)
	}
	// The app does not wait for lookups of its names.
	go r.hintDomains(app)
	r.unresolved.Do(func() { go r.hintNames(app) })
	r.once.Do(func() {
		if !trust.Everywhere(r.ca.Root()) {
			r.say("browsers do not trust the local CA yet; run once: padlock trust")
		}
		if program, err := os.Executable(); err == nil && r.began.Load() && runtime.GOOS == "linux" && hostinfo.ReadPort("443", "").Denied {
			r.say("port 443 needs a permission, so URLs have a port; run once: sudo setcap cap_net_bind_service=+ep %s", program)
		}
	})
}

// resolveWithin is how long a look at the names of other apps may take.
const resolveWithin = 2 * time.Second

// hintNames says how programs find the names of other apps, if this system leaves names below localhost to browsers.
func (r *devReport) hintNames(app dev.App) {
	if hostsAreKept() {
		return
	}
	apps, err := devApps(r.c)
	if err != nil || len(apps) < 2 {
		return
	}

	ctx, cancel := context.WithTimeout(r.c.Context, resolveWithin)
	defer cancel()
	var names []string
	for _, a := range apps {
		if host := a.Hosts[0]; a.Name != app.Name {
			if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil && ctx.Err() == nil {
				names = append(names, host)
			}
		}
	}

	if len(names) == 0 {
		return
	}
	add := strings.Join(names, " ")
	if len(names) > 3 {
		add = "NAME"
	}
	r.say("programs on this machine do not find %s (browsers do); for requests from one app to another: padlock hosts add %s", text.Summary(names), add)
}

// hintDomains says how browsers find the app's own names that are not below localhost, if this system does not.
func (r *devReport) hintDomains(app dev.App) {
	if hostsAreKept() {
		return
	}

	var names []string
	for _, host := range app.Hosts {
		// A hosts file has no wildcards.
		if !strings.HasSuffix(host, ".localhost") && !strings.HasPrefix(host, "*.") && !resolvesHere(r.c.Context, host) {
			names = append(names, host)
		}
	}
	if len(names) > 0 && r.c.Context.Err() == nil {
		r.say("this machine does not find %s; run once: padlock hosts add %s", text.Summary(names), strings.Join(names, " "))
	}
}

// hostsAreKept reports whether the proxy keeps the names of apps in the hosts file.
func hostsAreKept() bool {
	off, _ := strconv.ParseBool(os.Getenv("PADLOCK_DEV_NO_HOSTS"))
	return !off && writable(hostsFile()) == nil
}

// Listening implements dev.Reporter.
func (r *devReport) Listening(app dev.App, at netip.AddrPort) {
	r.say("%s listens on %s", app.Name, at)
}

// Silent implements dev.Reporter: browsers are shown the page that waits.
func (r *devReport) Silent(dev.App) {}

// PortTaken implements dev.Reporter.
func (r *devReport) PortTaken(app dev.App, port int, by string) {
	r.say("port %d is used by user %s, who gets no requests for %s: choose another port, or end that process; to serve it all the same: padlock %s=%d", port, by, app.Name, app.Hosts[0], port)
}

// HostRefused implements dev.Reporter.
func (r *devReport) HostRefused(app dev.App, refused dev.Refusal) {
	r.say("%s (%s) refuses the Host header %s: allow that host in its configuration, or start it with padlock dev --host-header upstream", app.Name, refused.Server, refused.Host)
}

// ProxyLost implements dev.Reporter.
func (r *devReport) ProxyLost(err error) {
	if err == nil {
		r.say("the proxy runs again")
		return
	}
	r.say("%v", err)
}

// Ended implements dev.Reporter.
func (r *devReport) Ended(app dev.App, code int, again bool) {
	if again {
		r.say("%s ended with exit code %d; it is started again", app.Name, code)
	} else if code != 0 || r.several {
		r.say("%s ended with exit code %d", app.Name, code)
	}
}

// Stopped implements dev.Reporter: whoever has asked for it knows.
func (r *devReport) Stopped(dev.App, int) {}

// devEvents shows a program how one app goes: each event is a line of JSON.
type devEvents struct{ *developing }

// devEvent is an event of an app. Fields that an event does not have are left out.
type devEvent struct {
	Event     string   `json:"event"` // registered, listening, nearby, port_taken, host_refused, proxy_lost, proxy_found, ended or error
	Name      string   `json:"name,omitempty"`
	URL       string   `json:"url,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`
	Directory string   `json:"directory,omitempty"`
	Command   string   `json:"command,omitempty"`
	PID       int      `json:"pid,omitempty"`
	Address   string   `json:"address,omitempty"`
	Host      string   `json:"host,omitempty"`
	Server    string   `json:"server,omitempty"`
	Port      int      `json:"port,omitempty"`
	User      string   `json:"user,omitempty"`
	Code      *int     `json:"code,omitempty"`
	Again     bool     `json:"again,omitempty"`
	Error     string   `json:"error,omitempty"`
	Hint      string   `json:"hint,omitempty"`
	TrustPage string   `json:"trust_page,omitempty"`
	Nearby    []string `json:"nearby,omitempty"` // URLs
}

func (r *devEvents) print(e devEvent) {
	r.lines.Lock()
	defer r.lines.Unlock()
	// An app does not end because nobody reads its events.
	_ = json.NewEncoder(r.stderr).Encode(e)
}

// Registered implements dev.Reporter.
func (r *devEvents) Registered(app dev.App) {
	r.print(devEvent{Event: "registered", Name: app.Name, URL: app.URL, Hosts: app.Hosts, Directory: app.Dir, Command: app.Command, PID: app.PID})
}

// Listening implements dev.Reporter.
func (r *devEvents) Listening(app dev.App, at netip.AddrPort) {
	r.print(devEvent{Event: "listening", Name: app.Name, URL: app.URL, Address: at.String()})
}

// Silent implements dev.Reporter.
func (r *devEvents) Silent(dev.App) {}

// PortTaken implements dev.Reporter.
func (r *devEvents) PortTaken(app dev.App, port int, by string) {
	r.print(devEvent{Event: "port_taken", Name: app.Name, Port: port, User: by})
}

// HostRefused implements dev.Reporter.
func (r *devEvents) HostRefused(app dev.App, refused dev.Refusal) {
	r.print(devEvent{Event: "host_refused", Name: app.Name, Host: refused.Host, Server: refused.Server})
}

// ProxyLost implements dev.Reporter.
func (r *devEvents) ProxyLost(err error) {
	if err == nil {
		r.print(devEvent{Event: "proxy_found"})
		return
	}
	r.print(devEvent{Event: "proxy_lost", Error: err.Error()})
}

// Ended implements dev.Reporter.
func (r *devEvents) Ended(app dev.App, code int, again bool) {
	r.print(devEvent{Event: "ended", Name: app.Name, Code: &code, Again: again})
}

// Stopped implements dev.Reporter.
func (r *devEvents) Stopped(app dev.App, code int) { r.Ended(app, code, false) }
