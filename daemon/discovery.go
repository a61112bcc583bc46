package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/hint"
	"padlock/internal/text"
	"padlock/proxy"
)

// discovered is what sources add to the configuration. Of several that have a site for one name, the first in the
// list serves it.
type discovered struct {
	sources []discovery.Source
	found   []*discovery.Found // of each source, when it answered last; nil: not yet
}

// sourcesOf are those that a configuration asks for, and then further ones.
func sourcesOf(cfg *config.Config, further []discovery.Source, log *slog.Logger) discovered {
	var sources []discovery.Source
	if cfg.Docker != nil {
		sources = append(sources, discovery.New(cfg.Docker, log))
	}
	sources = append(sources, further...)
	return discovered{sources, make([]*discovery.Found, len(sources))}
}

// merge is a configuration with the sites that were found.
func (d *discovered) merge(base *config.Config) *config.Config {
	merged, problems := discovery.Merge(base, d.sources, d.found, certifiable)
	for i, source := range d.sources {
		if d.found[i] != nil {
			source.Report(problems[i])
		}
	}
	return merged
}

// certifiable refuses names for which there can be no certificate.
func certifiable(cfg *config.Config) error {
	s, err := loadSnapshot(cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return s.checkCoverage()
}

// firstLook bounds how long the start waits for each source.
const firstLook = 5 * time.Second

// discover adds to a configuration what sources find now. One that does not answer hinders no start, unless this
// padlock would take the place of one that knows what it has.
func (r *reloader) discover(ctx context.Context, base *config.Config, takeover bool) (with *config.Config, err error) {
	r.base, r.deploys.r = base, r
	for i, source := range r.discovered.sources {
		found, err := look(ctx, source)
		switch {
		case err == nil:
			r.discovered.found[i] = found
		case takeover:
			return nil, hint.Add(fmt.Errorf("asking %s: %w", source, err), "restart padlock when it answers: the padlock that runs knows the sites")
		default:
			source.Away(err)
		}
	}
	r.plain = r.discovered.merge(base)
	if r.overrides, err = LoadOverrides(base); err != nil {
		return nil, forUser(base, err)
	}
	r.settle(nil)
	r.show()
	return r.overrides.Over(r.plain), nil
}

func look(ctx context.Context, source discovery.Source) (*discovery.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	return source.Look(ctx)
}

// follow serves what a source finds, whenever that changes.
func (r *reloader) follow(i int) {
	source := r.discovered.sources[i]
	source.Run(r.tasks.ctx, func(found *discovery.Found) {
		err := r.change(func() error { return r.take(i, found) })
		if err != nil && !errors.Is(err, proxy.ErrEnded) {
			r.log.Error("the sites of a source cannot be served; padlock continues with those before", "source", source.String(), "error", err)
		}
	})
}

// take serves what a source has found. It is called with mu locked.
func (r *reloader) take(i int, found *discovery.Found) error {
	r.discovered.found[i] = found
	was := r.plain
	r.plain = r.discovered.merge(r.base)
	r.show()
	before, next := r.certificates.config(), r.overrides.Over(r.plain)
	if reflect.DeepEqual(before.Sites, next.Sites) {
		return nil
	}

	if err := r.apply(next); err != nil {
		return err
	}
	r.settle(was)
	r.show()
	logChange(r.log.With("source", r.discovered.sources[i].String()), before, next)
	return nil
}

// logChange says which hosts came and went, and which have other routes or targets.
func logChange(log *slog.Logger, before, next *config.Config) {
	old, now := byHost(before), byHost(next)
	var came, gone, others []string
	for _, host := range slices.Sorted(maps.Keys(now)) {
		if was, known := old[host]; !known {
			came = append(came, host)
		} else if !reflect.DeepEqual(*was, *now[host]) {
			others = append(others, host)
		}
	}

	for _, host := range slices.Sorted(maps.Keys(old)) {
		if now[host] == nil {
			gone = append(gone, host)
		}
	}

	attributes := []any{"sites", len(next.Sites)}
	for _, a := range []struct {
		key   string
		hosts []string
	}{{"came", came}, {"gone", gone}, {"changed", others}} {
		if len(a.hosts) > 0 {
			attributes = append(attributes, a.key, text.Summary(a.hosts))
		}
	}

	log.Info("discovered sites have changed", attributes...)
}

func byHost(cfg *config.Config) map[string]*config.Site {
	sites := map[string]*config.Site{}
	for i := range cfg.Sites {
		for _, host := range cfg.Sites[i].Hosts {
			sites[host] = &cfg.Sites[i]
		}
	}
	return sites
}
