package proxy

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"padlock/config"
)

// trustFiles are those by which clients and targets are judged. They are read again when they change.
func trustFiles(cfg *config.Config) (names []string) {
	add := func(u *config.Upstream) { names = append(names, u.CA, u.ClientCert, u.ClientKey) }
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		if auth := site.TLS.ClientAuth; auth != nil {
			names = append(append(names, auth.CA), auth.CRL...)
		}
		if site.TCP != nil {
			add(&site.TCP.Upstream)
		}
		for j := range site.Routes {
			add(&site.Routes[j].Upstream)
		}
	}
	return names
}

const trustEvery = 2 * time.Second

// watchTrust serves changed files' contents, until ctx ends. A file that cannot be used leaves all as it was.
func (s *Server) watchTrust(ctx context.Context) {
	ticker := time.NewTicker(trustEvery)
	defer ticker.Stop()
	cfg := s.state.Load().cfg
	seen := marks(trustFiles(cfg))
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		current := s.state.Load().cfg
		now := marks(trustFiles(current))
		if current != cfg { // it was reloaded, and read the files
			cfg, seen = current, now
			continue
		}
		if now == seen {
			continue
		}
		seen = now
		if err := s.Reload(cfg, nil); err != nil {
			s.deps.Log.Error("a file of CAs, revocations or client certificates has changed and cannot be used; what was read before holds", "error", err)
		} else {
			s.deps.Log.Info("files of CAs, revocations or client certificates were read again")
		}
	}
}

// marks are different when a file is.
func marks(names []string) string {
	var b strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
