package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/netname"
	"padlock/internal/regular"
)

// snapshot is a configuration with its certificates. It is built, checked and then published behind one pointer, and
// does not change after that: this is the only place that says what is served.
type snapshot struct {
	cfg     *config.Config
	local   *localca.CA
	files   *certs.Files
	managed []string      // names whose certificates come from CAs
	source  *certs.Source // of all of these; nil before it is published
}

// loadSnapshot reads what this machine has, and finds what a configuration needs besides. It reaches no network. The
// files before may be served on; nil: there are none.
func loadSnapshot(cfg *config.Config, before *certs.Files, log *slog.Logger) (*snapshot, error) {
	local, err := localca.Peek(cfg.StateDirectory(), localca.Options{Organization: cfg.Organization})
	if err != nil {
		return nil, forOwner(cfg, err)
	}

	if file, shared := local.Shared(); shared {
		log.Warn("padlock's group can read the key of the local CA: let nobody else be in that group", "file", file)
	}
	return storedSnapshot(cfg, local, before, log)
}

// storedSnapshot writes the local CA besides, where it is not stored and a site needs it. What cannot be written now
// is tried again by storeLocalCA.
func storedSnapshot(cfg *config.Config, local *localca.CA, before *certs.Files, log *slog.Logger) (*snapshot, error) {
	s, err := newSnapshot(cfg, local, before, log)
	if err != nil {
		return nil, err
	}

	if !s.needsLocal() {
		// Tried at once, and not when the first certificate has come and cannot be stored.
		if err := tryDirectory(cfg.StateDirectory()); !storage.IsRemote(cfg.Storage) && errors.Is(err, fs.ErrPermission) {
			return nil, forOwner(cfg, fmt.Errorf("the storage cannot be written to: %w", err))
		}
		return s, nil
	}

	if err := local.Store(); regular.Unwritable(err) {
		s.warnUnstored(log, err)
	} else if err != nil {
		return nil, forOwner(cfg, err)
	}

	return s, nil
}

// newSnapshot is for a local CA that is read already. It changes nothing.
func newSnapshot(cfg *config.Config, local *localca.CA, before *certs.Files, log *slog.Logger) (*snapshot, error) {
	files, err := certs.NewFilesAfter(before, cfg.Certificates.Files, log)
	if err != nil {
		return nil, hint.Add(err, "correct the files, or leave them out: padlock gets certificates by itself")
	}

	s := &snapshot{cfg: cfg, local: local, files: files}
	listed := certs.New(certs.Options{Files: files})
	var wrong config.Errors
	for i, site := range cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for j, host := range site.Hosts {
			if !cfg.Certificates.Managed(host) || listed.Listed(host) || !config.IsLocal(host) && local.Permits(host) {
				// Somebody has chosen the local CA for this name with padlock trust --allow.
				continue
			}
			if reason := cfg.Certificates.Unobtainable(host); reason != "" {
				wrong = append(wrong, config.Error{Path: fmt.Sprintf("sites[%d].hosts[%d]", i, j), Message: reason})
			}

			if cfg.Certificates.OnDemand == nil || !strings.HasPrefix(host, "*.") || cfg.Certificates.DNS.Provider != "" {
				s.managed = append(s.managed, host)
			}
		}
	}

	if len(wrong) > 0 {
		return nil, wrong
	}

	return s, nil
}

// addImported takes names that have an imported certificate away from those that are managed. It is called before the
// snapshot is published.
func (s *snapshot) addImported(ctx context.Context, store storage.Store, before *certs.Files) {
	if store != nil {
		s.files.AddImported(ctx, store, before)
		s.managed = slices.DeleteFunc(s.managed, s.listed)
	}
}

// published is the snapshot with its source of certificates.
func (s *snapshot) published(manager *certs.Manager) *snapshot {
	hosts := ownHosts(s.cfg)
	// A copy, as what others may already hold never changes.
	next := *s
	next.source = certs.New(certs.Options{
		Files: s.files, Manager: manager, Local: s.local, Serves: serves(s.cfg), Names: func(host string) bool { return hosts[host] },
	})
	return &next
}

// listed reports whether files or imported certificates have a name.
func (s *snapshot) listed(host string) bool {
	return certs.New(certs.Options{Files: s.files}).Listed(host)
}

// manages reports whether certificates of CAs are asked for.
func (s *snapshot) manages() bool { return len(s.managed) > 0 || s.cfg.Certificates.OnDemand != nil }

// needsLocal reports whether clients get certificates of the local CA, or are asked to trust it.
func (s *snapshot) needsLocal() bool {
	listed := certs.New(certs.Options{Files: s.files})
	return s.cfg.TrustPage || slices.ContainsFunc(s.cfg.Sites, func(site config.Site) bool {
		return !site.Passthrough() && slices.ContainsFunc(site.Hosts, func(host string) bool {
			return host == "*" || s.local.Permits(host) && !slices.Contains(s.managed, host) && !listed.Listed(host)
		})
	})
}

// covers reports whether there is, or will be, a certificate for a canonical name, address or *.name.
func (s *snapshot) covers(pattern string) bool {
	return s.local.Permits(pattern) || slices.Contains(s.managed, pattern) || s.listed(pattern) || s.cfg.Certificates.OnDemand != nil
}

// checkCoverage refuses names for which there is no certificate.
func (s *snapshot) checkCoverage() error {
	var wrong config.Errors
	first := ""
	for i, site := range s.cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for j, host := range site.Hosts {
			if host == "*" || s.covers(host) {
				continue
			}
			first = cmp.Or(first, strings.TrimPrefix(host, "*."))
			wrong = append(wrong, config.Error{
				Path:    fmt.Sprintf("sites[%d].hosts[%d]", i, j),
				Message: fmt.Sprintf("there is no certificate for %s, and the local CA is not for such a name", host),
			})
		}
	}

	if len(wrong) == 0 {
		return nil
	}
	return hint.Add(wrong, "give one (--cert and --key, or certificates.files), use a name such as app.localhost or app.test, or let the local CA sign for it: padlock trust --allow "+first)
}

func (s *snapshot) warnUnstored(log *slog.Logger, err error) {
	log.Warn("the local CA cannot be stored, and is in memory until it can; a new start would make another", "storage", s.cfg.StateDirectory(), "error", err,
		"remedy", "free some space there, or make it writable")
}

// serves reports whether a site has a canonical name.
func serves(cfg *config.Config) func(string) bool {
	hosts := ownHosts(cfg)
	return func(name string) bool { return netname.Covering(hosts, name) != "" }
}

// ownHosts are the hosts and patterns of sites whose TLS is padlock's.
func ownHosts(cfg *config.Config) map[string]bool {
	hosts := map[string]bool{}
	for _, site := range cfg.Sites {
		if site.Passthrough() {
			continue
		}
		for _, host := range site.Hosts {
			hosts[host] = true
		}
	}
	return hosts
}
