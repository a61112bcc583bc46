package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/invoker"
	"padlock/internal/regular"
)

// Overrides are what commands have changed of the sites that the configuration has: which of them are in maintenance,
// and where deploys have sent their requests. They hold over reloads and restarts until a command takes them back, or
// the targets in the file are others. They are this machine's, whatever the storage is. A value never changes.
type Overrides struct {
	Maintenance map[string]MaintenanceOrder `json:"maintenance,omitempty"` // by a host of the site
	Deploys     []Deployed                  `json:"deploys,omitempty"`
}

// MaintenanceOrder is what padlock maintenance on says of a site.
type MaintenanceOrder struct {
	Message string           `json:"message,omitempty"`
	Page    string           `json:"page,omitempty"` // file
	Until   string           `json:"until,omitempty"`
	Allow   []config.Network `json:"allow,omitempty"`
	Paths   []string         `json:"paths,omitempty"`
	Since   time.Time        `json:"since"`
}

// Deployed is where a deploy has sent the requests of a site's routes.
type Deployed struct {
	Host   string    `json:"host"`           // of the site
	Path   string    `json:"path,omitempty"` // of the routes; "": all that forward
	Was    []string  `json:"was"`            // the targets in the file then: with others there, the file counts
	To     []string  `json:"to"`
	Before []string  `json:"before"` // the targets before this deploy
	Health string    `json:"health"` // path that was asked
	At     time.Time `json:"at"`
}

const (
	overridesFile    = "overrides.json"
	maxOverrides     = 4 << 20
	overridesVersion = 1
)

func overridesPath(cfg *config.Config) string {
	return filepath.Join(cfg.StateDirectory(), overridesFile)
}

// LoadOverrides reads those of a configuration's storage directory. Nothing is left out of a file that is damaged:
// traffic could reach a version that is no longer meant to have it, or a site that is to be closed.
func LoadOverrides(cfg *config.Config) (*Overrides, error) {
	name := overridesPath(cfg)
	data, err := regular.Read(name, maxOverrides)
	if errors.Is(err, fs.ErrNotExist) {
		return &Overrides{}, nil
	}

	var file struct {
		Version int `json:"version"`
		Overrides
	}
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err = decoder.Decode(&file); err == nil && decoder.More() {
			err = errors.New("something follows its end")
		}
	}
	if err == nil && file.Version != overridesVersion {
		err = fmt.Errorf("it has version %d, and this padlock knows version %d", file.Version, overridesVersion)
	}
	if err == nil {
		err = file.Overrides.valid()
	}

	if err != nil {
		return nil, hint.Add(fmt.Errorf("reading what padlock maintenance and padlock deploy have changed, in %s: %w", name, err),
			"restore the file, or remove it: then no site is in maintenance by command, and all targets are those of the configuration")
	}
	return &file.Overrides, nil
}

// valid reports what no command has written.
func (o *Overrides) valid() error {
	for host, m := range o.Maintenance {
		if name, ok := config.CanonicalPattern(host); !ok || name != host {
			return fmt.Errorf("maintenance: %.80q is not a host", host)
		}
		if _, err := (&config.Maintenance{Until: m.Until}).End(); err != nil {
			return fmt.Errorf("maintenance of %s: until: %w", host, err)
		}
	}

	for _, d := range o.Deploys {
		if len(d.To) == 0 || len(d.Was) == 0 {
			return fmt.Errorf("the deploy of %.80q has no targets", d.Host)
		}
		if _, err := backends(d.To); err != nil {
			return fmt.Errorf("the deploy of %.80q: %w", d.Host, err)
		}
	}
	return nil
}

// save puts overrides in the place of those before, whole or not at all.
func (o *Overrides) save(cfg *config.Config) error {
	data, err := json.MarshalIndent(struct {
		Version int `json:"version"`
		*Overrides
	}{overridesVersion, o}, "", "  ")
	if err != nil {
		return err
	}
	if err := invoker.MkdirAll(cfg.StateDirectory(), 0o700); err != nil {
		return err
	}
	return replaceFile(overridesPath(cfg), append(data, '\n'))
}

// replaceFile puts a file in the place of another, so that a reader, or a start after a loss of power, finds one of
// both.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())

	_, err = f.Write(data)
	if err = errors.Join(err, invoker.GiveIn(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// backends are targets as a route has them.
func backends(targets []string) (all []config.Backend, err error) {
	for _, text := range targets {
		target, err := config.ParseTarget(text)
		if err != nil {
			return nil, err
		}
		if target.Scheme == "" {
			target.Scheme = "http"
		}
		switch {
		case target.Scheme == "tcp" || target.Scheme == "tls":
			return nil, fmt.Errorf("%s: the scheme must be http, https or h2c", target)
		case slices.ContainsFunc(all, func(b config.Backend) bool { return b.Target == target }):
			return nil, fmt.Errorf("%s is given twice", target)
		}
		all = append(all, config.Backend{Target: target, Weight: 1})
	}
	return all, nil
}

// Over is a configuration with what the commands have changed. cfg stays as it is.
func (o *Overrides) Over(cfg *config.Config) *config.Config {
	if len(o.Maintenance)+len(o.Deploys) == 0 {
		return cfg
	}

	next := *cfg
	next.Sites = slices.Clone(cfg.Sites)
	for i := range next.Sites {
		site := &next.Sites[i]
		for _, host := range site.Hosts {
			if order, on := o.Maintenance[host]; on && site.TCP == nil {
				site.Maintenance = order.over(site.Maintenance)
			}
		}
		site.Routes = o.routes(site)
	}
	return &next
}

// routes are those of a site, with the targets that deploys have given them.
func (o *Overrides) routes(site *config.Site) []config.Route {
	var routes []config.Route
	for i := range site.Routes {
		d := o.deployOf(site, &site.Routes[i])
		if d == nil {
			continue
		}
		if routes == nil {
			routes = slices.Clone(site.Routes)
		}
		routes[i].To, _ = backends(d.To) // which was validated
	}
	if routes == nil {
		return site.Routes
	}
	return routes
}

// deployOf is the deploy that counts for a route, as the file has it: that of its own path goes first, then the latest.
// Nil: none.
func (o *Overrides) deployOf(site *config.Site, r *config.Route) (found *Deployed) {
	for i := range o.Deploys {
		d := &o.Deploys[i]
		if slices.Contains(site.Hosts, d.Host) && d.counts(r) && (found == nil || d.Path != "" || found.Path == "") {
			found = d
		}
	}
	return found
}

// over is maintenance that is on, with what the file says where the command says nothing else.
func (m *MaintenanceOrder) over(file *config.Maintenance) *config.Maintenance {
	made := config.Maintenance{}
	if file != nil {
		made = *file
	}

	made.On = true
	if m.Message != "" || m.Page != "" {
		made.Message, made.Page = m.Message, m.Page
	}
	// What the file says of the end is that of another time.
	made.Until = m.Until
	made.Allow = slices.Concat(made.Allow, m.Allow)
	made.Paths = slices.Concat(made.Paths, m.Paths)
	return &made
}

// is reports whether a route is one that the deploy is for, whatever its targets are.
func (d *Deployed) is(r *config.Route) bool {
	return len(r.To) > 0 && isPath(d.Path, r)
}

// isPath reports whether a path that a command names is a route's. None stands for all routes, a slash for one without
// a path.
func isPath(path string, r *config.Route) bool {
	return path == "" || strings.TrimSuffix(path, "/") == strings.TrimSuffix(r.Path+r.Exact, "/")
}

// counts reports whether a route, as the file has it, is one that the deploy is for.
func (d *Deployed) counts(r *config.Route) bool { return d.is(r) && slices.Equal(targetsOf(r), d.Was) }

func targetsOf(r *config.Route) (all []string) {
	for _, b := range r.To {
		all = append(all, b.Target.String())
	}
	return all
}

// In a configuration, a deploy is one of these.
type standing int

const (
	counts   standing = iota
	written           // the file has its targets now
	obsolete          // the file has other targets since, or no such route
	homeless          // no site has the host
)

// standing is what a deploy is in a configuration.
func (d *Deployed) standing(cfg *config.Config) standing {
	found := homeless
	for _, s := range cfg.Sites {
		if !slices.Contains(s.Hosts, d.Host) {
			continue
		}
		found = obsolete
		for i := range s.Routes {
			switch r := &s.Routes[i]; {
			case d.counts(r):
				return counts
			case d.is(r) && slices.Equal(targetsOf(r), d.To):
				found = written
			}
		}
	}
	return found
}

// settled is what is left of the overrides once a configuration is served: where its targets have changed since a
// deploy, they count from then on, also when they are what they were again. A deploy whose targets were written there
// can still be rolled back. Where a site has gone with its containers, which before had, others that come in their place
// are new versions. gone are the deploys that count no longer. before may be nil.
func (o *Overrides) settled(cfg, before *config.Config) (left *Overrides, gone []Deployed) {
	left = o.clone()
	left.Deploys = nil
	for _, d := range o.Deploys {
		switch at := d.standing(cfg); {
		case at == obsolete, at == homeless && before != nil && d.standing(before) != homeless:
			gone = append(gone, d)
			continue
		case at == written:
			d.Was = d.To
		}
		left.Deploys = append(left.Deploys, d)
	}
	return left, gone
}

// Of are the overrides of a site that has these hosts.
func (o *Overrides) Of(hosts []string) *Overrides {
	all := o.clone()
	maps.DeleteFunc(all.Maintenance, func(host string, _ MaintenanceOrder) bool { return !slices.Contains(hosts, host) })
	all.Deploys = slices.DeleteFunc(all.Deploys, func(d Deployed) bool { return !slices.Contains(hosts, d.Host) })
	return all
}

// InWords are the overrides for people, one a line, for a configuration as the file has it; nil: it is not known.
func (o *Overrides) InWords(cfg *config.Config) []string {
	return append(o.maintenanceInWords(cfg), o.deploysInWords(cfg)...)
}

func (o *Overrides) maintenanceInWords(cfg *config.Config) (lines []string) {
	for _, host := range slices.Sorted(maps.Keys(o.Maintenance)) {
		m := o.Maintenance[host]
		line := host + " is in maintenance since " + m.Since.UTC().Format(time.RFC3339)
		if end, err := (&config.Maintenance{Until: m.Until}).End(); err == nil && !end.IsZero() {
			if line += ", until " + m.Until; end.Before(time.Now()) {
				line = host + " was in maintenance until " + m.Until
			}
		}
		if cfg != nil && !slices.ContainsFunc(cfg.Sites, func(s config.Site) bool { return slices.Contains(s.Hosts, host) }) {
			line += ", but no site has this host now"
		}
		lines = append(lines, line)
	}
	return lines
}

func (o *Overrides) deploysInWords(cfg *config.Config) (lines []string) {
	for _, d := range o.Deploys {
		at := counts
		if cfg != nil {
			at = d.standing(cfg)
		}
		line := d.name() + " goes to " + strings.Join(d.To, ", ") + " since the deploy of " + d.At.UTC().Format(time.RFC3339)
		switch {
		case at == obsolete:
			line = "the deploy of " + d.name() + " no longer counts, as the targets in the configuration have changed since"
		case at == homeless:
			line += ", but no site has this host now"
		case at == written, slices.Equal(d.Was, d.To):
			line += ", as the configuration says too"
		default:
			line += ", and not to the configuration's " + strings.Join(d.Was, ", ")
		}
		lines = append(lines, line)
	}
	return lines
}

func (d *Deployed) name() string { return d.Host + d.Path }
