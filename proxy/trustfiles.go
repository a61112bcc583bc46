package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/regular"
	"padlock/traffic"
)

// trustFiles are those by which clients and targets are judged, users and keys of clients included, and error pages.
// They are read again when they change.
func trustFiles(cfg *config.Config) (names []string) {
	keys := func(a *config.Access) {
		if a.BasicAuth != nil {
			names = append(names, a.BasicAuth.UsersFile)
		}
		if a.APIKeys != nil {
			names = append(names, a.APIKeys.File)
		}
		if j := a.JWT; j != nil && j.Remote() {
			names = append(names, j.CA)
		} else if j != nil {
			names = append(names, j.JWKS)
		}
	}
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		keys(&site.Access)
		for j := range site.Routes {
			keys(&site.Routes[j].Access)
		}
		for _, page := range site.Errors {
			if !config.IsPageURL(page) {
				names = append(names, page)
			}
		}
		if site.Maintenance != nil && site.Maintenance.Page != "" {
			names = append(names, site.Maintenance.Page)
		}
		if auth := site.TLS.ClientAuth; auth != nil {
			names = append(append(names, auth.CA), auth.CRL...)
		}
		for u := range site.Upstreams {
			names = append(names, u.CA, u.ClientCert, u.ClientKey)
		}
	}
	return names
}

const (
	trustEvery  = 2 * time.Second // between looks at the files
	trustRetry  = time.Minute     // between attempts to read those that cannot be used, as not every remedy changes a file
	trustRemind = time.Hour       // between lines of the log about the same file
)

// watchTrust serves changed files' contents, until ctx ends. A file that cannot be used leaves what it held before.
func (s *Server) watchTrust(ctx context.Context) {
	ticker := time.NewTicker(trustEvery)
	defer ticker.Stop()
	cfg := s.config()
	seen, read := marks(trustFiles(cfg)), time.Now()
	reminder := reminder{log: s.deps.Log, every: trustRemind}

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		// Certificates and lists expire without any file changing.
		s.logEnded(s.guards.expire(time.Now()))
		current := s.current.Load()
		now := marks(trustFiles(current.Config))
		switch {
		case current.Config != cfg:
			// A reload has happened, which read the files itself.
			cfg, seen, read = current.Config, now, time.Now()
		// Files that cannot be used are tried again although they have not changed: a permission or a mount may
		// have.
		case now != seen, len(current.Files.Kept()) > 0 && time.Since(read) >= trustRetry:
			changed := now != seen
			seen, read = now, time.Now()

			if err := s.refresh(cfg); errors.Is(err, ErrEnded) {
				return
			} else if err != nil {
				s.deps.Log.Error("files that the configuration names cannot be read again; what was read before holds", "error", err)
			} else if changed {
				s.deps.Log.Info("files that the configuration names have changed, and were read again")
			}
		}

		reminder.remind(s.current.Load().Trust(time.Now()), time.Now())
	}
}

// refresh reads the files of a configuration again, unless another has taken its place meanwhile.
func (s *Server) refresh(cfg *config.Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	// A reload was faster, and has read the files itself.
	if s.config() != cfg {
		return nil
	}
	return s.reload(cfg, nil)
}

// marks are different when a file is.
func marks(names []string) string {
	var b strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		// A missing file changes the marks as well, as its line is not there.
		if info, err := regular.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// reminder logs files that cannot be used: at once, again as long as they cannot, and when they can be used again.
type reminder struct {
	log    *slog.Logger
	every  time.Duration
	logged map[traffic.TrustFile]time.Time
}

func (r *reminder) remind(t traffic.Trust, now time.Time) {
	still := map[traffic.TrustFile]time.Time{}
	for _, f := range t.Unusable {
		logged, known := r.logged[f]
		if !known || now.Sub(logged) >= r.every {
			r.log.Error("a file that the configuration names cannot be used; what it held before counts until it is corrected", "file", f.File, "reason", f.Reason)
			logged = now
		}
		still[f] = logged
	}

	for f := range r.logged {
		if !slices.ContainsFunc(t.Unusable, func(u traffic.TrustFile) bool { return u.File == f.File }) {
			r.log.Info("a file that the configuration names can be used again", "file", f.File)
		}
	}

	r.logged = still
}
