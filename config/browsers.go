package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What browsers may do with responses: which pages may read them, frame them, and be told of them.

func (v *validator) browsers(path string, c *CORS, h *SecurityHeaders) {
	if c != nil {
		v.cors(path+".cors", c)
	}
	if h != nil {
		v.securityHeaders(path+".security_headers", h)
	}
}

func (v *validator) cors(path string, c *CORS) {
	if len(c.Origins) == 0 {
		v.fail(path+".origins", `is missing: the origins of the pages that may read responses, such as https://app.example.com; "*" for all`)
	}
	any := slices.Contains(c.Origins, "*")
	if any && c.Credentials {
		v.fail(path+".credentials", `goes with origins that are named, and not with "*": every page could act for the users of this site`)
	}
	if any && len(c.Origins) > 1 {
		v.fail(path+".origins", `"*" stands for all: take the others away`)
	}
	for i, origin := range c.Origins {
		if why := wrongOrigin(origin); origin != "*" && why != "" {
			v.fail(fmt.Sprintf("%s.origins[%d]", path, i), "%q %s", origin, why)
		}
	}

	if c.Methods == nil {
		c.Methods = []string{"GET", "HEAD", "POST"}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"methods", c.Methods}, {"headers", c.Headers}, {"expose", c.Expose}} {
		for i, name := range list.names {
			at := fmt.Sprintf("%s.%s[%d]", path, list.key, i)
			if name == "*" && c.Credentials {
				v.fail(at, `"*" goes without credentials only (Fetch section 3.3.2): name them`)
			} else if !isToken(name) {
				v.fail(at, "%q is not a name", name)
			}
		}
	}
	if standard(&c.MaxAge, 10*time.Minute); c.MaxAge > 24*time.Hour {
		v.fail(path+".max_age", "%v is more than 24h, and than any browser keeps", c.MaxAge)
	}
}

// wrongOrigin is why a text is no origin as browsers send it, or one with a wildcard for the first label; "" if it is.
func wrongOrigin(origin string) string {
	u, err := url.Parse(strings.Replace(origin, "://*.", "://x.", 1))
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(origin, "?#") {
		return "is not an origin such as https://app.example.com or https://*.example.com"
	}
	name, ok := CanonicalHost(u.Hostname())
	switch {
	case !ok || strings.Contains(u.Host, "*"):
		return "is not an origin such as https://app.example.com or https://*.example.com"
	case name != u.Hostname() || u.Scheme != strings.ToLower(u.Scheme) || !strings.HasPrefix(origin, u.Scheme):
		return "must be written as browsers send it: in lower case, and names in other letters in punycode"
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80", strings.HasSuffix(u.Host, ":"):
		return "has a port that browsers leave out"
	}
	return ""
}

func (v *validator) securityHeaders(path string, h *SecurityHeaders) {
	if h.Off {
		if h.Preset != "" || len(h.Frames) > 0 || h.ReferrerPolicy+h.PermissionsPolicy+h.ContentSecurityPolicy != "" || h.Replace {
			v.fail(path, "off goes with nothing else")
		}
		return
	}

	standard(&h.Preset, "standard")
	v.oneOf(path+".preset", h.Preset, "standard", "strict")
	for i, origin := range h.Frames {
		at := fmt.Sprintf("%s.frames[%d]", path, i)
		alone := origin == "none" || origin == "any"
		switch {
		case alone && len(h.Frames) > 1:
			v.fail(at, "%s stands alone", origin)
		case !alone && origin != "self" && wrongOrigin(origin) != "":
			v.fail(at, "%q must be none, self, any or an origin such as https://app.example.com", origin)
		}
	}
	for _, text := range []struct{ key, value string }{
		{"referrer_policy", h.ReferrerPolicy}, {"permissions_policy", h.PermissionsPolicy}, {"content_security_policy", h.ContentSecurityPolicy},
	} {
		if !validValue(text.value) {
			v.fail(path+"."+text.key, "%q holds control characters", text.value)
		}
	}
	if strings.Contains(strings.ToLower(h.ContentSecurityPolicy), "frame-ancestors") {
		v.fail(path+".content_security_policy", "who may frame pages is said by frames: take frame-ancestors away")
	}
}
