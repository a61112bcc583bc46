package console

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"padlock/traffic"
)

// Certificate says how one certificate is.
type Certificate struct {
	Name      string     `json:"name"`
	Issuer    string     `json:"issuer,omitempty"`
	KeyType   string     `json:"key_type,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	Renewal   *time.Time `json:"renewal,omitempty"` // when it is due
	Error     string     `json:"error,omitempty"`   // of the last look
	NextTry   *time.Time `json:"next_try,omitempty"`
	OnDemand  bool       `json:"on_demand,omitempty"`
	Expiring  bool       `json:"expiring,omitempty"` // it has expired, or is in its last third and renewals fail
	Source    string     `json:"source,omitempty"`   // acme | file | local
	Names     []string   `json:"names,omitempty"`
	DER       [][]byte   `json:"-"` // the chain as it is sent, the leaf first
}

// Status is how the running padlock is, in short.
type Status struct {
	Version     string         `json:"version"`
	Ready       bool           `json:"ready"`
	Started     time.Time      `json:"started"`
	Uptime      float64        `json:"uptime_seconds"`
	Connections int            `json:"connections"`
	Sites       []SiteStatus   `json:"sites"`
	Targets     []TargetStatus `json:"targets"`
	Cuts        []Cut          `json:"cuts,omitempty"`
	Lost        []Lost         `json:"lost"`
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

// TargetStatus is how a target fares.
type TargetStatus struct {
	Name     string  `json:"name"`
	State    string  `json:"state"`            // well | unwell | left_out
	Reason   string  `json:"reason,omitempty"` // why it is not well
	Open     int64   `json:"open"`
	Requests uint64  `json:"requests"`
	Failed   uint64  `json:"failed"`
	Median   float64 `json:"median_ms"`
	P99      float64 `json:"p99_ms"`
}

// Cut is how many clients were cut, refused or kept waiting for what they did.
type Cut struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Lost is how much was dropped of what waits in a queue.
type Lost struct {
	Queue string `json:"queue"`
	Count uint64 `json:"count"`
}

// warnings are what somebody has to see to.
func (a *Admin) warnings() (all []string) {
	if a.o.Certificates != nil {
		for _, c := range a.o.Certificates() {
			warning := "the certificate of " + c.Name + " has expired or expires soon, and could not be renewed"
			if c.Expiring && !slices.Contains(all, warning) {
				all = append(all, warning)
			}
		}
	}
	if a.o.Traffic != nil {
		for _, t := range a.o.Traffic().Targets {
			if !t.Well {
				all = append(all, strings.TrimSuffix("the target "+t.Name+" is unhealthy: "+t.Reason, ": "))
			}
		}
	}
	return all
}

func (a *Admin) lost() []Lost {
	lost := []Lost{{"console", a.missed.Load()}}
	if a.o.Lost != nil {
		lost = append(lost, Lost{"handshakes", a.o.Lost()})
	}
	if a.o.Traffic != nil {
		lost = append(lost, Lost{"access_log", a.o.Traffic().LogLost})
	}
	if a.o.TracesLost != nil {
		lost = append(lost, Lost{"traces", a.o.TracesLost()})
	}
	return lost
}

func (a *Admin) status() *Status {
	s := &Status{Version: a.o.Version, Ready: a.ready(), Started: a.started.UTC(), Uptime: time.Since(a.started).Seconds(), Lost: a.lost(), Warnings: a.warnings()}
	if a.o.Traffic == nil {
		return s
	}
	t := a.o.Traffic()
	s.Connections = t.Connections
	for reason, n := range t.Cuts {
		if n > 0 {
			s.Cuts = append(s.Cuts, Cut{traffic.Reason(reason).String(), n})
		}
	}
	for _, site := range t.Sites {
		all, failed := site.Requests()
		s.Sites = append(s.Sites, SiteStatus{site.Name, all, failed, quantile(&site.Took, 0.5), quantile(&site.Took, 0.99)})
	}
	for _, target := range t.Targets {
		state := "well"
		switch {
		case !target.Well:
			state = "unwell"
		case target.LeftOut:
			state = "left_out"
		}
		s.Targets = append(s.Targets, TargetStatus{target.Name, state, target.Reason, target.Open, target.Requests, target.Failed, quantile(&target.Answer, 0.5), quantile(&target.Answer, 0.99)})
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
