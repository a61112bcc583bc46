package sites

import (
	"strings"

	"padlock/config"
	"padlock/internal/coding"
)

// Compression says which responses of a route are encoded, and how.
type Compression struct {
	Prefer  []string
	Min     int64
	Level   coding.Level
	Cookies string // always | same_site | never

	exact    map[string]bool // media types
	patterns [][2]string     // what others begin and end with
}

// compression is a route's own, or its site's; nil: none.
func compression(site, route *config.Compress) *Compression {
	c := route
	if c == nil {
		c = site
	}
	if c == nil || c.Off {
		return nil
	}

	made := &Compression{Prefer: c.Prefer, Min: int64(c.Min), Level: coding.Levels[c.Level], Cookies: c.Cookies, exact: map[string]bool{}}
	for _, kind := range c.Types {
		kind = strings.ToLower(kind)
		if before, after, pattern := strings.Cut(kind, "*"); pattern {
			made.patterns = append(made.patterns, [2]string{before, after})
		} else {
			made.exact[kind] = true
		}
	}
	return made
}

// eventStream is encoded only where it is named: each of them takes an encoder for as long as it lasts.
const eventStream = "text/event-stream"

// Encodes reports whether content of a type is encoded.
func (c *Compression) Encodes(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.Trim(kind, " \t"))
	if c.exact[kind] {
		return true
	}
	if kind == eventStream {
		return false
	}

	for _, p := range c.patterns {
		if len(kind) >= len(p[0])+len(p[1]) && strings.HasPrefix(kind, p[0]) && strings.HasSuffix(kind, p[1]) {
			return true
		}
	}
	return false
}
