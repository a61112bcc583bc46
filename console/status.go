package console

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"padlock/internal/certstatus"
	"padlock/traffic"
)

// Certificate says how one certificate is.
type Certificate = certstatus.Status

// Status is how the running padlock is, in short.
type Status struct {
	Version     string         `json:"version"`
	Ready       bool           `json:"ready"`
	Started     time.Time      `json:"started"`
	Uptime      float64        `json:"uptime_seconds"`
	Connections int            `json:"connections"`
	Sites       []SiteStatus   `json:"sites"`
	Targets     []TargetStatus `json:"targets"`
	Rejected    []Rejected     `json:"rejected,omitempty"`
	Dropped     []Dropped      `json:"dropped"`
	Overrides   []string       `json:"overrides,omitempty"` // what commands have changed, in words
	Warnings    []string       `json:"warnings,omitempty"`
}

// SiteStatus is what a site has done.
type SiteStatus struct {
	Name     string  `json:"name"`
	Requests uint64  `json:"requests"`
	Failed   uint64  `json:"failed"` // answered with 5xx
	Median   float64 `json:"median_ms"`
	P99      float64 `json:"p99_ms"`
}

// TargetStatus is a target's health, and what it has done.
type TargetStatus struct {
	Name     string  `json:"name"`
	State    string  `json:"state"`            // healthy | unhealthy | ejected
	Reason   string  `json:"reason,omitempty"` // why it is not healthy
	Open     int64   `json:"open"`
	Requests uint64  `json:"requests"`
	Failed   uint64  `json:"failed"`
	Median   float64 `json:"median_ms"`
	P99      float64 `json:"p99_ms"`
}

// Rejected is how many clients were disconnected, refused or delayed for one reason.
type Rejected struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Dropped is how much was dropped of what waits in a queue.
type Dropped struct {
	Queue string `json:"queue"`
	Count uint64 `json:"count"`
}

// warnings are what somebody has to see to.
func (a *Admin) warnings() (all []string) {
	if a.o.Certificates != nil {
		for _, c := range a.o.Certificates() {
			warning := expiryWarning(&c)
			if c.Expiring && !slices.Contains(all, warning) {
				all = append(all, warning)
			}
		}
	}

	if a.o.Traffic != nil {
		for _, t := range a.o.Traffic().Targets {
			if !t.Healthy {
				all = append(all, strings.TrimSuffix("the target "+t.Name+" is unhealthy: "+t.Reason, ": "))
			}
		}
	}
	return all
}

// expiryWarning is for one that is Expiring. Only those of CAs are padlock's to renew.
func expiryWarning(c *Certificate) string {
	text := "the certificate of " + c.Name
	switch {
	case c.Source == "acme" || c.Source == "":
		return text + " has expired or expires soon, and could not be renewed"
	case c.NotAfter != nil:
		return text + " expired on " + c.NotAfter.UTC().Format(time.DateOnly) + ": replace its file"
	}
	return text + " has expired: replace its file"
}

func (a *Admin) dropped() []Dropped {
	dropped := []Dropped{{"console", a.missed.Load()}}
	if a.o.Dropped != nil {
		dropped = append(dropped, Dropped{"handshakes", a.o.Dropped()})
	}
	if a.o.Traffic != nil {
		dropped = append(dropped, Dropped{"access_log", a.o.Traffic().LogDropped})
	}
	if a.o.TracesDropped != nil {
		dropped = append(dropped, Dropped{"traces", a.o.TracesDropped()})
	}
	return dropped
}

func (a *Admin) status() *Status {
	s := &Status{Version: a.o.Version, Ready: a.ready(), Started: a.started.UTC(), Uptime: time.Since(a.started).Seconds(), Dropped: a.dropped(), Warnings: a.warnings()}
	if a.o.Overrides != nil {
		s.Overrides = a.o.Overrides()
	}
	if a.o.Traffic == nil {
		return s
	}

	t := a.o.Traffic()
	s.Connections = t.Connections
	for reason, n := range t.Rejected {
		if n > 0 {
			s.Rejected = append(s.Rejected, Rejected{traffic.Reason(reason).String(), n})
		}
	}

	for _, site := range t.Sites {
		all, failed := site.Requests()
		s.Sites = append(s.Sites, SiteStatus{site.Name, all, failed, quantile(&site.Took, 0.5), quantile(&site.Took, 0.99)})
	}

	for _, target := range t.Targets {
		state := "healthy"
		switch {
		case !target.Healthy:
			state = "unhealthy"
		case target.Ejected:
			state = "ejected"
		}

		s.Targets = append(s.Targets, TargetStatus{
			Name: target.Name, State: state, Reason: target.Reason, Open: target.Open, Requests: target.Requests, Failed: target.Failed,
			Median: quantile(&target.ResponseHeader, 0.5), P99: quantile(&target.ResponseHeader, 0.99),
		})
	}

	return s
}

func quantile(d *traffic.Distribution, q float64) float64 {
	return float64(d.Quantile(q).Microseconds()) / 1000
}

func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}
