package sites

import (
	"slices"
	"strconv"
	"strings"

	"padlock/config"
	"padlock/proxy/message"
)

// CORS says which pages of other origins may read responses (Fetch section 3.3).
type CORS struct {
	Any     bool // every page
	Answer  message.Fields
	Shares  message.Fields // beside the origin, of a response that a page may read
	origins []string       // with a wildcard for the first label, if any
}

func newCORS(site, route *config.CORS) *CORS {
	c := route
	if c == nil {
		c = site
	}
	if c == nil {
		return nil
	}

	made := &CORS{Any: slices.Contains(c.Origins, "*"), origins: c.Origins}
	if c.Credentials {
		made.Shares.Add("Access-Control-Allow-Credentials", "true")
	}
	if len(c.Expose) > 0 {
		made.Shares.Add("Access-Control-Expose-Headers", strings.Join(c.Expose, ", "))
	}
	made.Answer.Add("Access-Control-Allow-Methods", strings.Join(c.Methods, ", "))
	if len(c.Headers) > 0 {
		made.Answer.Add("Access-Control-Allow-Headers", strings.Join(c.Headers, ", "))
	}
	made.Answer.Add("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
	return made
}

// Allows reports whether pages of an origin may read responses.
func (c *CORS) Allows(origin string) bool {
	return c.Any || slices.ContainsFunc(c.origins, func(pattern string) bool {
		before, after, wildcard := strings.Cut(pattern, "*")
		if !wildcard {
			return origin == pattern
		}
		if len(origin) <= len(before)+len(after) || !strings.HasPrefix(origin, before) || !strings.HasSuffix(origin, after) {
			return false
		}
		label := origin[len(before) : len(origin)-len(after)]
		return !strings.ContainsAny(label, "./:@")
	})
}

// SecurityHeaders are fields that have browsers do less with a response.
type SecurityHeaders struct {
	fields  message.Fields
	frames  message.Fields // who may frame it
	replace bool
}

func newSecurityHeaders(site, route *config.SecurityHeaders) *SecurityHeaders {
	c := route
	if c == nil {
		c = site
	}
	if c == nil || c.Off {
		return nil
	}

	h := &SecurityHeaders{replace: c.Replace}
	referrer, permissions, frames := "strict-origin-when-cross-origin", "", []string{"self"}
	h.fields.Add("X-Content-Type-Options", "nosniff")
	if c.Preset == "strict" {
		referrer, permissions, frames = "no-referrer", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()", []string{"none"}
		h.fields.Add("Cross-Origin-Opener-Policy", "same-origin")
		h.fields.Add("Cross-Origin-Resource-Policy", "same-origin")
	}

	add := func(name, own, preset string) {
		if own != "" {
			preset = own
		}
		if preset != "" {
			h.fields.Add(name, preset)
		}
	}
	add("Referrer-Policy", c.ReferrerPolicy, referrer)
	add("Permissions-Policy", c.PermissionsPolicy, permissions)
	add("Content-Security-Policy", c.ContentSecurityPolicy, "")
	if len(c.Frames) > 0 {
		frames = c.Frames
	}
	h.frames = framing(frames)
	return h
}

// framing says who may frame a page. X-Frame-Options is for browsers that do not know the other, and knows two values.
func framing(frames []string) (fields message.Fields) {
	if frames[0] == "any" {
		return nil
	}
	var ancestors []string
	for _, origin := range frames {
		if origin == "none" || origin == "self" {
			origin = "'" + origin + "'"
		}
		ancestors = append(ancestors, origin)
	}

	fields.Add("Content-Security-Policy", "frame-ancestors "+strings.Join(ancestors, " "))
	switch {
	case frames[0] == "none":
		fields.Add("X-Frame-Options", "DENY")
	case len(frames) == 1 && frames[0] == "self":
		fields.Add("X-Frame-Options", "SAMEORIGIN")
	}
	return fields
}

// Apply adds the fields to a response. What it has of its own stays, unless the configuration says otherwise.
func (h *SecurityHeaders) Apply(f *message.Fields) {
	for _, field := range h.fields {
		if _, given := f.Get(field.Name); h.replace {
			f.Set(field.Name, field.Value)
		} else if !given {
			f.Add(field.Name, field.Value)
		}
	}

	switch {
	case h.replace:
		f.Del("X-Frame-Options")
	case framed(*f):
		return
	}
	// A policy beside another: all of them hold (CSP section 8.1).
	*f = append(*f, h.frames...)
}

// framed reports whether a response says who may frame it.
func framed(f message.Fields) bool {
	if _, ok := f.Get("X-Frame-Options"); ok {
		return true
	}
	for policy := range f.Lines("Content-Security-Policy") {
		if strings.Contains(strings.ToLower(policy), "frame-ancestors") {
			return true
		}
	}
	return false
}
