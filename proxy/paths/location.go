package paths

import "strings"

// Form splits a target into the authority and the origin form of it (RFC 9112 section 3.2). Only OPTIONS may ask
// for "*". The authority is "" but where the target is absolute; whether it is one that can be is for the caller
// to say. CONNECT's target is no path, and not taken.
func Form(method, target string) (authority, origin string, ok bool) {
	switch {
	case strings.HasPrefix(target, "/"), target == "*" && method == "OPTIONS":
		return "", target, true
	}

	scheme, rest, found := strings.Cut(target, "://")
	if !found || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, origin = rest[:end], rest[end:]
	if authority == "" || strings.Contains(authority, "@") {
		return "", "", false
	}
	if !strings.HasPrefix(origin, "/") {
		origin = "/" + origin
	}

	return authority, origin, true
}

// Location is the value of a Location field: a reference below an origin such as https://example.com:8443, or on
// the same host where the origin is "". However the reference was made, it leads to no other host, and holds
// nothing but visible ASCII. It is false where the origin is none.
func Location(origin, reference string) (string, bool) {
	if origin != "" && !validOrigin(origin) {
		return "", false
	}

	relative := reference != "" && (reference[0] == '?' || reference[0] == '#')
	switch {
	case relative, origin != "" && (reference == "" || reference[0] == '/'):
	// Two slashes would begin a host. Browsers take backslashes for slashes, and skip white space.
	case origin == "":
		reference = "/" + strings.TrimLeft(reference, `/\`+"\t\r\n ")
	default:
		// Without a slash, what follows a host would become a part of it.
		reference = "/" + reference
	}

	var b strings.Builder
	b.WriteString(origin)
	inPath := true
	for i := range len(reference) {
		c := reference[i]
		if c == '?' || c == '#' {
			inPath = false
		}

		if c <= ' ' || c >= 0x7f || c == '\\' && inPath {
			escape(&b, c)
		} else {
			b.WriteByte(c)
		}
	}

	return b.String(), true
}

// validOrigin allows a scheme of the web and a host without user information.
func validOrigin(origin string) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	if scheme != "https" && scheme != "http" || host == "" {
		return false
	}
	for i := range len(host) {
		if c := host[i]; !unreserved(c) && strings.IndexByte("[]:", c) < 0 {
			return false
		}
	}
	return true
}
