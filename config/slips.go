package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/lazy"
)

// A message about something in the place of something else says what would be right there.

// otherNames are what other programs call keys of ours, each with those that may be meant.
var otherNames = map[string][]string{
	"target": {"to"}, "targets": {"to"}, "upstream": {"to"}, "upstreams": {"to"}, "backend": {"to"}, "backends": {"to"}, "proxy_pass": {"to"}, "proxy": {"to"},
	"reverse_proxy": {"to"}, "forward": {"to"}, "url": {"to"}, "server": {"to"}, "service": {"to"}, "destination": {"to"}, "dest": {"to"},
	"host": {"hosts", "address"}, "domain": {"hosts"}, "domains": {"hosts"}, "hostname": {"hosts"}, "name": {"hosts"}, "names": {"hosts"}, "server_name": {"hosts"}, "server_names": {"hosts"},
	"location": {"path"}, "prefix": {"path"}, "match": {"path"}, "path_prefix": {"path"}, "uri": {"path"},
	"ssl_certificate": {"cert"}, "certificate": {"cert"}, "crt": {"cert"}, "ssl_certificate_key": {"key"}, "private_key": {"key"},
	"certs": {"certificates"}, "ssl": {"tls"}, "acme": {"certificates"}, "letsencrypt": {"certificates"}, "logging": {"handshakes"}, "log": {"access_log"}, "ports": {"listen"}, "port": {"listen", "address"},
	"return": {"respond"}, "response": {"respond"}, "timeout": {"timeouts"}, "status": {"respond"},
	"listen": {"address"}, "addr": {"address", "listen"}, "bind": {"address", "listen"}, "socket": {"address"},
}

// unknown says what may be meant by a key that a mapping does not have, and which of its keys that is; "": none.
func unknown(key string, known []string, at string) (message, meant string) {
	others := otherNames[strings.ToLower(key)]
	other := ""
	if i := slices.IndexFunc(others, func(name string) bool { return slices.Contains(known, name) }); i >= 0 {
		other = others[i]
	} else if len(others) > 0 {
		other = others[0]
	}

	places, below := placesOf(key, at)
	near := Nearest(key, known)
	// A key of another mapping is no slip of the pen, unless one letter makes it a key of this one.
	if len(places) > 0 && near != "" && editDistance(key, near) > 1 {
		near = ""
	}

	switch {
	// For YAML, -hosts without a blank is a key. No guess would find it.
	case strings.HasPrefix(key, "-"):
		return fmt.Sprintf("unknown key; the - of an item is followed by a blank: write - %s", key[1:]), ""
	// The name that other programs use says more than one that is spelled alike.
	case slices.Contains(known, other):
		return fmt.Sprintf("unknown key; did you mean %s?", other), other
	case near != "":
		return fmt.Sprintf("unknown key; did you mean %s?", near), near
	}

	for _, separator := range []string{"-", " "} {
		if joined := strings.ReplaceAll(strings.ToLower(key), separator, "_"); slices.Contains(known, joined) {
			return fmt.Sprintf("unknown key; did you mean %s?", joined), joined
		}
	}

	if len(places) > 0 {
		remedy := ""
		if below {
			remedy = ": indent it, so that it stands there"
		}
		return fmt.Sprintf("unknown key here; it belongs to %s%s", strings.Join(places, ", or to "), remedy), ""
	}

	if places, _ := placesOf(other, at); other != "" && len(places) > 0 {
		return fmt.Sprintf("unknown key; did you mean %s of %s?", other, strings.Join(places, ", or of ")), ""
	}

	return "unknown key; known here: " + strings.Join(known, ", "), ""
}

// placesOf are the mappings, as paths, that have a key, three at most: those that lie below where it stands, or if
// there are none, others.
func placesOf(key, at string) (places []string, below bool) {
	places = structuresWith(key)
	around := indexes().ReplaceAllString(parent(at), "[]")
	shared := func(place string) (n int) {
		for n < min(len(place), len(around)) && place[n] == around[n] {
			n++
		}
		return n
	}

	// Keys get lost by a wrong indentation, so the places that share most of the path are the likely ones.
	slices.SortStableFunc(places, func(a, b string) int {
		return cmp.Or(shared(b)-shared(a), strings.Count(a, ".")-strings.Count(b, "."), strings.Count(b, "routes[]")-strings.Count(a, "routes[]"))
	})
	var all, near []string
	for _, p := range places {
		if strings.HasPrefix(p, around) && !slices.Contains(near, p) {
			near = append(near, p)
		}
		// Somebody who writes such a key in the wrong place means a site's, and hardly ever the admin interface's.
		if !slices.Contains(all, p) && p != "admin" {
			all = append(all, p)
		}
	}

	if len(near) > 0 {
		return near[:min(len(near), 3)], true
	}

	return all[:min(len(all), 3)], false
}

// structuresWith are the places of the configuration that have a key.
func structuresWith(key string) (places []string) {
	var visit func(t reflect.Type, path string)
	visit = func(t reflect.Type, path string) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			if t.Kind() == reflect.Slice {
				path += "[]"
			}
			t = t.Elem()
		}

		if t.Kind() != reflect.Struct {
			return
		}

		for i := range t.NumField() {
			field := t.Field(i)
			name := field.Tag.Get("yaml")
			switch name {
			case "":
				continue
			case ",inline":
				visit(field.Type, path)
				continue
			case key:
				if path != "" {
					places = append(places, path)
				}
			}

			visit(field.Type, strings.TrimPrefix(path+"."+name, "."))
		}
	}

	visit(reflect.TypeFor[Config](), "")
	return places
}

var indexes = lazy.Regexp(`\[\d+\]`)

// mappingWanted says that something else stands where keys and values are wanted.
func mappingWanted(n *yaml.Node, known []string, path string) string {
	switch {
	case path == "" && n.Tag == "!!null":
		return emptyFile
	case path == "" && n.Kind == yaml.SequenceNode:
		return "the file begins with a list: put sites: above it, if it lists sites"
	case path == "":
		return "this is no configuration of padlock, which begins with keys such as sites: and listen:"
	}

	wanted := fmt.Sprintf("must be a mapping of keys to values (%s, …)%s, and is %s", strings.Join(known[:min(len(known), 3)], ", "), suchAs(path), of(n))
	if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode {
		return fmt.Sprintf("%s: take away the - before %s", wanted, first(n.Content[0]))
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return wanted
	}

	// YAML reads a colon without a blank behind it as a part of the text.
	if key, rest, ok := strings.Cut(n.Value, ":"); ok && slices.Contains(known, key) {
		return fmt.Sprintf("%q has no blank behind its colon: write %s: %s", n.Value, key, rest)
	}
	if key, rest, ok := strings.Cut(n.Value, " "); ok && slices.Contains(known, key) {
		return fmt.Sprintf("%q has no colon: write %s: %s", n.Value, key, strings.TrimSpace(rest))
	}

	if guess := meant(n.Value, known, path); guess != "" {
		return fmt.Sprintf("%s: is %s meant?", wanted, guess)
	}
	if remedy := withoutKey(n.Value, path); remedy != "" {
		return fmt.Sprintf("%s: %s", wanted, remedy)
	}

	return wanted
}

func first(mapping *yaml.Node) string {
	if len(mapping.Content) == 0 {
		return "{}"
	}
	return mapping.Content[0].Value
}

// listWanted says that something else stands where a list of some type is wanted.
func listWanted(n *yaml.Node, item reflect.Type, path string) string {
	ofMappings := item.Kind() == reflect.Struct && hasKeys(item)
	switch {
	case ofMappings && n.Kind == yaml.MappingNode:
		return fmt.Sprintf("must be a list%s, and is a mapping: put - before its first key (- %s: …)", suchAs(path), first(n))
	case ofMappings:
		return fmt.Sprintf("must be a list of mappings, each with - before its first key%s, and is %s", suchAs(path), of(n))
	}
	return fmt.Sprintf("must be a list%s, and is %s%s", suchAs(path), of(n), quotedBrace(n))
}

// textsWanted says that something else stands where a mapping of free keys is wanted.
func textsWanted(n *yaml.Node, what, path string) string {
	return fmt.Sprintf("must be a mapping of %s%s, and is %s", what, suchAs(path), of(n))
}

// valueWanted says that something else stands where a single value is wanted.
func valueWanted(n *yaml.Node, t reflect.Type, path string) string {
	wanted := fmt.Sprintf("must be %s%s, and is %s", single(t), suchAs(path), of(n))
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode:
		return fmt.Sprintf("%s: write %s without [ ] and -", wanted, n.Content[0].Value)
	case n.Kind == yaml.SequenceNode && len(n.Content) > 1:
		return wanted + ": keep one"
	}
	return wanted + quotedBrace(n)
}

// quotedBrace is for a {name} that is a mapping in YAML, and was meant as a text.
func quotedBrace(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Style&yaml.FlowStyle != 0 && n.Content[1].Tag == "!!null" {
		return fmt.Sprintf(": quote it, as { begins a mapping in YAML: \"{%s}\"", n.Content[0].Value)
	}
	return ""
}

var number = lazy.Regexp(`^[0-9]+(\.[0-9]+)?$`)

// durationWanted says why a text is no duration.
func durationWanted(text string) error {
	days, isDays := strings.CutSuffix(text, "d")
	n, err := strconv.Atoi(days)
	switch {
	// The bound keeps the hours within what a duration holds, which is 292 years.
	case isDays && err == nil && n > 0 && n < 100_000:
		return fmt.Errorf("%q is not a duration: there is no unit for days, write %dh", text, n*24)
	case number().MatchString(text) && strings.Trim(text, "0.") != "":
		return fmt.Errorf("%q has no unit: write %ss for seconds, or %sm for minutes", text, text, text)
	}
	if parsed, err := time.ParseDuration(text); err == nil && parsed <= 0 {
		return fmt.Errorf("%q is not a duration above 0, such as 10s or 2m", text)
	}
	return fmt.Errorf("%q is not a duration such as 10s or 2m (units: ms, s, m, h)", text)
}

func boolWanted(text string) error {
	// YAML 1.1 took these words for booleans. YAML 1.2, which padlock reads, takes them for text.
	switch strings.ToLower(text) {
	case "yes", "on", "y":
		return fmt.Errorf("%q is neither true nor false: write true", text)
	case "no", "off", "n":
		return fmt.Errorf("%q is neither true nor false: write false", text)
	}
	return fmt.Errorf("%q is neither true nor false: write one of them", text)
}

func countWanted(text string) error {
	var size Size
	// Other keys take sizes such as 10MiB, so people write one here.
	if size.UnmarshalText([]byte(text)) == nil && strings.Trim(text, "0123456789") != "" {
		return fmt.Errorf("%q is not a whole number above 0: write the bytes as a number, %d", text, int64(size))
	}
	return fmt.Errorf("%q is not a whole number above 0, such as 10", text)
}

// hostWanted says why a text cannot be a host, and what may be meant.
func hostWanted(text, forms string) string {
	rest, host := text, func(s string) string {
		if name, ok := CanonicalPattern(s); ok {
			return name
		}
		return "the name alone, such as app.example.com"
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "is empty: a host is a name such as app.example.com"
	// What is pasted from a browser comes first: it also has slashes and a colon.
	case strings.Contains(text, "://"):
		_, rest, _ = strings.Cut(text, "://")
		rest, _, _ = strings.Cut(rest, "/")
		if name, _, err := net.SplitHostPort(rest); err == nil {
			rest = name
		}
		return fmt.Sprintf("%q: a host has no scheme: write %s", text, host(rest))
	case strings.Contains(text, "/"):
		rest, path, _ := strings.Cut(text, "/")
		return fmt.Sprintf("%q: a host has no path: write %s here, and path: /%s in a route", text, host(rest), path)
	case strings.ContainsAny(text, " \t,;"):
		parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t,;", r) })
		if slices.ContainsFunc(parts, func(part string) bool { _, ok := CanonicalPattern(part); return !ok }) {
			return fmt.Sprintf("%q: a host has no blanks, commas and semicolons in it", text)
		}
		return fmt.Sprintf("%q: each host is an item of its own in the list: [%s]", text, strings.Join(parts, ", "))
	}

	if name, _, err := net.SplitHostPort(text); err == nil && name != "" {
		return fmt.Sprintf("%q: a host has no port: write %s; ports stand in listen.https, or in listen of the site", text, host(name))
	}
	// nginx and cookies mean all names below a domain by a leading dot.
	if strings.HasPrefix(text, ".") {
		return fmt.Sprintf("%q: for all names below it, write %s", text, host("*"+text))
	}

	if strings.Contains(text, "*") {
		return fmt.Sprintf("%q: a * stands for the whole first label and nothing else: *.example.com, or * alone for any name", text)
	}

	return fmt.Sprintf("%q is not %s: %s", text, forms, labelWanted(text))
}

// labelWanted says which part of a name breaks which rule.
func labelWanted(text string) string {
	// A name has 255 octets with the lengths of its labels (RFC 1035 section 2.3.4), which leaves 253 characters.
	if len(text) > 253 {
		return "a name has 253 characters at most"
	}

	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		switch {
		case label == "":
			return "two dots follow each other, or one is at the beginning"
		case len(label) > 63:
			return fmt.Sprintf("%s has more than 63 characters between two dots", label)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Sprintf("%s begins or ends with a hyphen", label)
		}

		for _, r := range label {
			// Characters beyond ASCII are judged by the whole name (RFC 5892), so none of them alone is to blame.
			if r < 0x80 && !validLabel(string(r)) && r != '-' {
				return fmt.Sprintf("%q cannot stand in a name", r)
			}
		}
	}
	return "it holds characters that no name of the DNS has (RFC 5892)"
}

// addressWanted says why a text at a path is no host:port, and what may be meant.
func addressWanted(path, text string) string {
	forms, port := "an address such as :443 or 127.0.0.1:8443", "443"
	switch {
	case strings.Contains(path, "resolvers"):
		forms, port = "an address such as 192.0.2.53:53", "53"
	case path == "admin":
		forms, port = "off, unix:PATH or an address such as 127.0.0.1:2020", "2020"
	case strings.HasPrefix(path, "listen.http["):
		port = "80"
	}

	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 65535 {
		if path == "admin" {
			return fmt.Sprintf("%q is a port: write 127.0.0.1:%s", text, text)
		}
		return fmt.Sprintf("%q is a port: write \":%s\" for all addresses of this machine, or \"127.0.0.1:%s\" for this machine alone", text, text, text)
	}

	// --http takes off, and so do other keys.
	if word := strings.ToLower(text); strings.HasPrefix(path, "listen.http[") && (word == "off" || word == "false" || word == "none") {
		return fmt.Sprintf("%q is not %s: write http: [] to turn plain HTTP off", text, forms)
	}
	if _, rest, ok := strings.Cut(text, "://"); ok {
		return fmt.Sprintf("%q: an address has no scheme: write %s", text, strings.TrimRight(rest, "/"))
	}
	if _, ok := WrittenHost(text); ok {
		return fmt.Sprintf("%q has no port: write %s", text, net.JoinHostPort(strings.Trim(text, "[]"), port))
	}

	return fmt.Sprintf("%q is not %s", text, forms)
}

// targetWanted says why a text is no target, and what may be meant.
func targetWanted(text string) error {
	// nginx's proxy_pass takes a path, so people write one.
	if bare, path, ok := strings.Cut(text, "/"); ok && !strings.Contains(text, "://") {
		if _, err := hostPort(bare, "80"); err == nil {
			return pathInTarget(text, bare, "/"+path)
		}
	}

	if strings.HasPrefix(text, "$") {
		return fmt.Errorf("%q: a variable of the environment is written ${%s}", text, strings.TrimLeft(text, "$"))
	}

	if bare := strings.TrimSuffix(text, ":"); bare != "" && strings.Trim(bare, "0123456789") != "" {
		if name, ok := WrittenHost(bare); ok {
			if strings.Contains(name, ":") {
				bare = "[" + name + "]"
				// The end of the address may be meant as a port.
				if at := strings.LastIndexByte(name, ':'); net.ParseIP(name[:at]) != nil && numeric().MatchString(name[at+1:]) {
					return fmt.Errorf("%q is an IPv6 address, which has brackets before a port: write [%s]:%s, or %s", text, name[:at], name[at+1:], net.JoinHostPort(name, "3000"))
				}
			}
			return fmt.Errorf("%q has no port: write %s, or http://%s where it serves HTTP on port 80", text, net.JoinHostPort(name, "3000"), bare)
		}
	}

	return fmt.Errorf("%q is not a target: %s", text, targetForms)
}

// pathInTarget says how a path in front of the requests' own is written.
func pathInTarget(text, bare, path string) error {
	if u, err := url.Parse(path); err == nil && (u.RawQuery != "" || u.Fragment != "") {
		return fmt.Errorf("%q: a target takes no path and no query; requests keep their own: write %s", text, bare)
	}
	if path = strings.TrimRight(path, "/"); path == "" {
		return fmt.Errorf("%q: a target takes no path: write %s", text, bare)
	}
	return fmt.Errorf("%q: a target takes no path, and requests keep their own: write to: %s; where the target has everything below %s, add path: / and replace_prefix: %s; in forward_auth, it is uri: %s", text, bare, path, path, path)
}

// pathWanted says why a text is no path of a route, and what may be meant.
func pathWanted(key, text string) string {
	switch {
	// In nginx's location, ~ and ^ begin a regular expression.
	case strings.HasPrefix(text, "~") || strings.HasPrefix(text, "^") || strings.HasSuffix(text, "$"):
		return fmt.Sprintf("%q: paths are no regular expressions: path: /api matches /api and all below it, exact: /api this path alone", text)
	case strings.Contains(text, "*"):
		return wildcardWanted(key, text)
	case validPath("/" + text):
		return fmt.Sprintf("%q: a path begins with a slash: write /%s", text, text)
	case strings.Contains(text, "://"):
		return fmt.Sprintf("%q is a URL: the host stands in hosts, and here the path alone, such as /api", text)
	}

	return fmt.Sprintf("%q is not a path such as /api: it begins with a slash, has no query, no dot segments and no empty ones, and is not percent-encoded", text)
}

// wildcardWanted is pathWanted for a path with an asterisk.
func wildcardWanted(key, text string) string {
	bare := strings.TrimRight(text, "*")
	switch stem := strings.TrimRight(bare, "/"); {
	case key != "path" || !validPath(bare) && bare != "/":
		return fmt.Sprintf("%q: paths have no wildcards: path matches a path and all below it", text)
	case bare == "/":
		return fmt.Sprintf("%q: paths have no wildcards: leave path out, and the route matches all", text)
	case strings.HasSuffix(bare, "/"):
		return fmt.Sprintf("%q: paths have no wildcards: write path: %s, which matches all below it", text, stem)
	}
	return fmt.Sprintf("%q: paths have no wildcards: write path: %s, which matches %s and all below %s/; a path ends at a slash, so %sy is another", text, bare, bare, bare, bare)
}
