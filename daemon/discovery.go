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
	"padlock/internal/mask"
	"padlock/internal/text"
	"padlock/proxy"
)

// containers are what a container engine adds to the configuration.
type containers struct {
	watcher *discovery.Watcher // nil: nothing is asked for
	found   *discovery.Found   // when the engine answered last
}

// merge is a configuration with the containers' sites.
func (c *containers) merge(base *config.Config) *config.Config {
	if c.found == nil {
		return base
	}
	merged, problems := c.found.Merge(base, certifiable)
	c.watcher.Tell(problems)
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

// firstLook bounds how long the start waits for the engine.
const firstLook = 5 * time.Second

// discover adds to a configuration what containers ask for now. An engine that is away hinders no start, but when this padlock would take
// the place of one that knows the containers.
func (r *reloader) discover(ctx context.Context, base *config.Config, takeover bool) (*config.Config, error) {
	r.base = base
	if base.Docker == nil {
		return base, nil
	}

	r.containers.watcher = discovery.New(base.Docker, r.log)
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	found, err := r.containers.watcher.Look(ctx)
	switch {
	case err == nil:
		r.containers.found = found
	case takeover:
		return nil, hint.Add(
			fmt.Errorf("asking the container engine %s: %w", mask.URL(base.Docker.Endpoint), err),
			"restart padlock when the engine answers: the one that runs knows its containers")
	default:
		r.containers.watcher.Away(err)
	}
	return r.containers.merge(base), nil
}

// followContainers serves what containers ask for, whenever that changes.
func (r *reloader) followContainers() {
	r.containers.watcher.Run(r.tasks.ctx, func(found *discovery.Found) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.containers.found = found
		before, next := r.certificates.config(), r.containers.merge(r.base)
		if reflect.DeepEqual(before.Sites, next.Sites) {
			return
		}

		switch err := r.apply(next); {
		case errors.Is(err, proxy.ErrEnded):
		case err != nil:
			r.log.Error("what containers ask for cannot be served; what was before is served on", "error", err)
		default:
			logChange(r.log, before, next)
		}
	})
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
	log.Info("containers have changed what is served", attributes...)
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
