package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/console"
	"padlock/internal/netname"
)

// MaintenanceRequest is what the command asks the running padlock for.
type MaintenanceRequest struct {
	Host string `json:"host"`
	On   bool   `json:"on"`
	HTML string `json:"html,omitempty"` // the page; "": none
	MaintenanceOrder
}

// refusal is an error that is the asker's, and nothing was changed.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// override changes what the commands have changed, and serves it: both, or neither.
func (r *reloader) override(change func(served *config.Config, o *Overrides) error) error {
	return r.change(func() error { return r.overrideNow(change) })
}

// overrideNow is called with mu locked.
func (r *reloader) overrideNow(change func(served *config.Config, o *Overrides) error) error {
	found, before := r.plain, r.overrides
	// Another padlock of the same storage may have written since.
	file, err := LoadOverrides(r.base)
	if err != nil {
		return refusal{err}
	}
	next, _ := file.settled(found, nil)
	if err := change(found, next); err != nil {
		return err
	}

	// Written first: what is served after a restart is what was served before.
	if err := next.save(r.base); err != nil {
		return fmt.Errorf("nothing has changed: %w", err)
	}
	r.overrides = next
	r.show()
	if err := r.apply(next.Over(found)); err != nil {
		r.overrides = before
		r.show()
		return errors.Join(err, file.save(r.base))
	}
	r.tellBefore()
	return nil
}

func (o *Overrides) clone() *Overrides {
	next := &Overrides{Maintenance: maps.Clone(o.Maintenance), Deploys: slices.Clone(o.Deploys)}
	if next.Maintenance == nil {
		next.Maintenance = map[string]MaintenanceOrder{}
	}
	return next
}

// siteOf is the site that has a host.
func siteOf(cfg *config.Config, host string) (*config.Site, string, error) {
	name, ok := config.CanonicalPattern(host)
	if !ok {
		return nil, "", refuse("%q is not a host: write one of the site, such as www.example.com, without a port", host)
	}
	taken := map[string]bool{}
	var hosts []string
	for i := range cfg.Sites {
		if slices.Contains(cfg.Sites[i].Hosts, name) {
			return &cfg.Sites[i], name, nil
		}
		for _, host := range cfg.Sites[i].Hosts {
			taken[host] = true
		}
		hosts = append(hosts, cfg.Sites[i].Hosts[0])
	}

	if by := netname.Covering(taken, name); by != "" {
		return nil, name, refuse("%s is served by the site %s, with all of its other names: name that site", name, by)
	}
	return nil, name, refuse("no site has the host %s; there are %s", host, strings.Join(hosts[:min(len(hosts), 10)], ", "))
}

// maintain switches maintenance of a site on or off.
func (r *reloader) maintain(q *MaintenanceRequest) error {
	end, err := r.apart.command()
	if err != nil {
		return err
	}
	defer end()

	return r.override(func(found *config.Config, o *Overrides) error {
		site, name, err := siteOf(found, q.Host)
		if _, on := o.Maintenance[name]; err != nil && on && !q.On {
			// The site has gone from the configuration meanwhile.
			delete(o.Maintenance, name)
			return nil
		}
		if err != nil {
			return err
		}
		if site.TCP != nil {
			return refuse("%s forwards TCP, where nobody can be answered", name)
		}

		before := len(o.Maintenance)
		maps.DeleteFunc(o.Maintenance, func(host string, _ MaintenanceOrder) bool { return slices.Contains(site.Hosts, host) })
		switch {
		case q.On:
		case site.Maintenance != nil && site.Maintenance.On:
			return refuse("the configuration itself has %s in maintenance: change its maintenance.on", name)
		case len(o.Maintenance) == before:
			return refuse("%s is not in maintenance", name)
		default:
			return nil
		}

		order := q.MaintenanceOrder
		if order.Since = time.Now().UTC().Truncate(time.Second); q.HTML != "" {
			if order.Page, err = keepPage(found, name, q.HTML); err != nil {
				return err
			}
		}
		o.Maintenance[name] = order
		made := order.over(site.Maintenance)
		return errors.Join(checkMaintenance(found, made), o.valid())
	})
}

// checkMaintenance has the configuration's own rules judge what a command asks for.
func checkMaintenance(found *config.Config, m *config.Maintenance) error {
	probe := *found
	probe.Sites = nil
	copied := *m
	_, err := probe.With(config.Site{Hosts: []string{"maintenance.test"}, Maintenance: &copied, Routes: []config.Route{{Respond: &config.Respond{Status: 200}}}})
	var wrong config.Errors
	if errors.As(err, &wrong) {
		return refuse("%s: %s", strings.TrimPrefix(wrong[0].Path, "sites[0].maintenance."), wrong[0].Message)
	}
	return err
}

// keepPage keeps a page with the overrides, so that it outlasts the file that it was read from.
func keepPage(cfg *config.Config, host, html string) (name string, err error) {
	sum := sha256.Sum256([]byte(host))
	name = filepath.Join(cfg.StateDirectory(), "maintenance-"+hex.EncodeToString(sum[:6])+".html")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", err
	}
	return name, replaceFile(name, []byte(html))
}

const maxCommand = 4 << 20 // bytes of what a command asks

// serveMaintenance answers padlock maintenance on and off.
func (r *reloader) serveMaintenance(w http.ResponseWriter, request *http.Request) {
	var q MaintenanceRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, request.Body, maxCommand)).Decode(&q); err != nil {
		http.Error(w, "what the command asks cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := r.maintain(&q); err != nil {
		commandFailed(w, err)
		return
	}
	r.log.Info("maintenance", "site", q.Host, "on", q.On, "until", q.Until)
	_, _ = io.WriteString(w, "done\n")
}

// commandFailed says whose fault it is.
func commandFailed(w http.ResponseWriter, err error) {
	if errors.Is(err, console.ErrRestarting) {
		console.Restarting(w)
		return
	}
	status := http.StatusInternalServerError
	if errors.As(err, new(refusal)) {
		status = http.StatusUnprocessableEntity
	}
	http.Error(w, err.Error(), status)
}

// serveOverrides answers the commands that show what others have changed.
func (r *reloader) serveOverrides(w http.ResponseWriter, _ *http.Request) {
	now := r.shown.Load()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		*Overrides
		MaintenanceWords []string `json:"maintenance_words"`
		DeployWords      []string `json:"deploy_words"`
	}{now.o, now.o.maintenanceInWords(now.plain), append(now.o.deploysInWords(now.plain), r.deploys.underway()...)})
}

// words are the overrides for status.
func (r *reloader) words() []string {
	now := r.shown.Load()
	return append(now.o.InWords(now.plain), r.deploys.underway()...)
}
