package config

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/lazy"
)

// What a key takes is said in words and with an example wherever another kind of value stands in its place.

// examples are values of keys that can be pasted, by TYPE.KEY or KEY. Where a type says enough, exampleOf makes one.
var examples = map[string]string{
	"Admin.address": "127.0.0.1:2020", "Admin.cert": "admin.pem", "Admin.hosts": "[desk.example.com]", "Admin.key": "admin-key.pem",
	"BasicAuth.realm": "staging", "Certificates.client": "certmagic", "Config.storage": "/var/lib/padlock",
	"AccessLog.format": "json", "AccessLog.output": "/var/log/padlock/access.log", "ClientNames.names": "[app.example.com]",
	"ClientNames.organizations": "[Example Ltd]", "ClientAuth.allow": "{names: [app.example.com]}", "Docker.network": "edge", "Docker.access": "[{name: staff, allow: [10.0.0.0/8]}]", "NamedAccess.name": "staff", "DNS.resolvers": `["192.0.2.53:53"]`,
	"Handshakes.format": "story", "Handshakes.output": "/var/log/padlock/handshakes.log", "Health.path": "/healthz", "Health.host": "app.example.com",
	"Health.status": "200-299", "Issuer.directory": "https://ca.example.com/acme/directory", "Issuer.name": "letsencrypt", "Listen.http": `[":80"]`,
	"Listen.proxy_protocol": "{from: [10.0.0.0/8]}", "OnDemand.allow": `["*.example.com"]`, "Redirect.status": "308", "Redirect.to": "https://www.example.com{uri}",
	"Site.errors": "{404: missing.html, 5xx: failed.html}", "intercept": "[5xx]", "Site.maintenance": "true", "Mirror.percent": "10", "Mirror.body": "64KiB", "mirror": "{to: [3001]}", "Maintenance.message": "Back at six", "Maintenance.page": "maintenance.html", "Maintenance.until": "2026-12-01T06:00:00Z", "Maintenance.paths": "[/up]", "RateLimit.requests": "60", "RateLimit.per": "1m", "RateLimit.burst": "20", "RateLimit.by": "address", "RateLimit.concurrent": "10", "RateLimit.redis": "storage", "RateLimit.on_failure": "closed", "rate_limit": "{requests: 60, per: 1m}",
	"Files.root": "public", "Files.index": "index.html", "Files.hide": "[drafts, \"*.bak\"]", "Files.cache_control": "max-age=3600", "Files.precompressed": "[br, gzip]",
	"Route.files": "{root: public}", "Respond.status": "404", "TCP.proxy_protocol": "v2", "Tracing.endpoint": "http://collector:4318", "Tracing.headers": "{Authorization: Bearer TOKEN}",
	"Upstream.health": "{path: /healthz}", "Site.tls": "{client_auth: {mode: require, ca: clients.pem}}", "PassiveHealth.failures": "3",
	"FieldRules.remove": "[X-Powered-By]", "FieldRules.replace": "{Location: {from: http://, to: https://}}",

	"api_keys": "{file: keys.txt}", "APIKeys.file": "keys.txt", "APIKeys.header": "Authorization", "APIKeys.copy": "X-Client",
	"jwt":      "{jwks: \"https://login.example.com/.well-known/jwks.json\", issuer: \"https://login.example.com/\", audience: [app]}",
	"JWT.jwks": "https://login.example.com/.well-known/jwks.json", "JWT.issuer": "https://login.example.com/", "JWT.audience": "[app]", "JWT.algorithms": "[RS256]",
	"JWT.header": "Authorization", "JWT.cookie": "session", "JWT.claims": "{scope: read}", "JWT.copy": "{email: X-Email}", "JWT.user": "email", "JWT.leeway": "1m", "JWT.keep_keys": "24h",
	"forward_auth": "{to: \"http://127.0.0.1:9091\", uri: /api/authz/forward-auth, copy: [Remote-User]}", "ForwardAuth.uri": "/oauth2/auth", "ForwardAuth.copy": "[Remote-User, Remote-Groups]", "ForwardAuth.user": "Remote-User",
	"cors": "{origins: [https://app.example.com]}", "CORS.origins": "[https://app.example.com]", "CORS.methods": "[GET, PUT]", "CORS.headers": "[Content-Type]", "CORS.expose": "[X-Total]", "CORS.max_age": "1h",
	"security_headers": "true", "SecurityHeaders.preset": "strict", "SecurityHeaders.frames": "[self]", "SecurityHeaders.referrer_policy": "no-referrer", "SecurityHeaders.permissions_policy": "camera=()", "SecurityHeaders.content_security_policy": "\"default-src 'self'\"",
	"compress": "true", "Site.inspect": "{requests: 200, body: 64KiB}", "Inspect.requests": "200", "Inspect.redact": "true", "Inspect.body": "64KiB", "Conditions.match": `'^/v[0-9]+/'`, "Conditions.header": `{X-Canary: "yes"}`, "Conditions.cookie": "{beta: \"*\"}", "Conditions.query": "{version: \"2\"}", "Conditions.client": "[10.0.0.0/8]",
	"Conditions.certificate": "{names: [app.example.com]}", "Conditions.percent": "10", "Site.http": "serve", "Compress.prefer": "[br, gzip]", "Compress.types": "[text/html, application/json]", "Compress.min": "1KiB", "Compress.level": "fast", "Compress.cookies": "never",
	"add": "{X-Site: app}", "addresses": "truncated", "allow": "[10.0.0.0/8]", "alpn": "[postgresql]", "alt_svc": "auto", "ask": "http://localhost:3000/allowed",
	"balance": "least_conn", "body": "Closed for today", "ca": "ca.pem", "capture": "handshakes.pcapng", "cert": "app.pem", "challenges": "[http-01]",
	"client_ca": "clients.pem", "client_cert": "padlock.pem", "client_key": "padlock-key.pem", "content_type": "text/html", "crl": "[revoked.crl]",
	"deny": "[192.0.2.0/24]", "directory": "certificates", "domains": "[apps.example.com]", "underscores_in_headers": "drop", "email": "ops@example.com",
	"endpoint": "unix:///var/run/docker.sock", "exact": "/favicon.ico", "files": "[{cert: app.pem, key: app-key.pem}]", "hash_by": "cookie:session",
	"hmac_key": "KEY", "host": "upstream", "hosts": "[app.example.com]", "https": `[":443"]`, "intermediates": "chain.pem", "issuers": "[letsencrypt]",
	"ResponseRules.keep": "[Alt-Svc]", "key": "app-key.pem", "key_types": "[p256]", "kid": "ID", "labels": "[com.example.edge=public]", "listen": `["127.0.0.1:8443"]`,
	"Config.listen": `{https: [":443"]}`, "methods": "[GET, HEAD]", "min_version": `"1.2"`, "mode": "require", "names": "hashed", "organization": "Example Ltd",
	"override": `["*.example.com"]`, "password": "file:app.password", "path": "/api", "paths": "strict", "pkcs12": "app.p12", "preferred_chain": "ISRG Root X1",
	"profile": "shortlived", "protocol": "http2", "provider": "cloudflare", "AccessLog.headers": "[User-Agent]", "redact": "[token]", "renew_ratio": "0.33",
	"replace_prefix": "/v2", "resolve": "each", "resolvers": `["192.0.2.53:53"]`, "root": "ca.pem", "routes": "[{to: 3000}]", "server_name": "app.internal",
	"service": "edge", "set": "{X-Site: app}", "show": "failures", "sites": "[{hosts: [app.example.com], routes: [{to: 3000}]}]", "starttls": "postgres",
	"sticky": "backend", "storage_key": "file:/etc/padlock/storage.key", "to": "[3000]", "token": "file-or-16-characters-at-least", "upgrades": "[websocket]", "user": "padlock",
	"users": `{anna: "$2y$10$…"}`, "users_file": "users.htpasswd", "www": "add", "basic_auth": "{users_file: users.htpasswd}", "on_demand": `{allow: ["*.example.com"]}`,
	"eab": "{kid: ID, hmac_key: KEY}", "dns": "{provider: cloudflare}", "hsts": "{max_age: 8760h}", "client_auth": "{mode: require, ca: clients.pem}",
	"tcp": "{to: [db:5432]}", "redirect": "{to: https://www.example.com}", "respond": "{status: 404, body: Not here}",
}

// exampleOf is an example of what a field of a structure takes.
func exampleOf(in reflect.Type, field reflect.StructField) string {
	key := field.Tag.Get("yaml")
	for _, name := range []string{in.Name() + "." + key, key} {
		if example, ok := examples[name]; ok {
			return example
		}
	}
	return exampleOfType(field.Type)
}

func exampleOfType(t reflect.Type) string {
	switch t {
	case durationType, reflect.TypeFor[Patience]():
		return "10s"
	case reflect.TypeFor[Size]():
		return "10MiB"
	case reflect.TypeFor[Network]():
		return "10.0.0.0/8"
	case reflect.TypeFor[Target]():
		return "3000"
	}

	switch t.Kind() {
	case reflect.Pointer:
		return exampleOfType(t.Elem())
	case reflect.Slice:
		return "[" + exampleOfType(t.Elem()) + "]"
	case reflect.Struct:
		first := t.Field(0)
		if first.Tag.Get("yaml") == ",inline" {
			return exampleOfType(first.Type)
		}
		return "{" + first.Tag.Get("yaml") + ": " + exampleOf(t, first) + "}"
	case reflect.Bool:
		return "true"
	case reflect.Int:
		return "10"
	case reflect.Float64:
		return "0.2"
	}
	return ""
}

// described is what the schema says of a path: the key, an example of its value, and the type of what stands there,
// which may be an item of the value.
type described struct {
	key, example string
	t            reflect.Type
}

// schemaAt finds a path of the configuration. Below a mapping of free keys everything is a text.
func schemaAt(path string) (found described, ok bool) {
	text := reflect.TypeFor[string]()
	t := reflect.TypeFor[Config]()
	for path != "" {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}

		if strings.HasPrefix(path, "[") && t.Kind() == reflect.Slice {
			_, path, _ = strings.Cut(path, "]")
			t = t.Elem()
			continue
		}

		if t.Kind() != reflect.Struct || !hasKeys(t) {
			found.t = text
			return found, found.key != ""
		}

		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}

		key := path[:end]
		path = path[end:]
		in, field, known := fieldOf(t, key)
		if !known {
			// Every secret may also stand in a file, which its key with _file behind it names.
			if _, secret, is := fieldOf(t, strings.TrimSuffix(key, "_file")); is && secret.Tag.Get("secret") != "" {
				return described{key, "/run/secrets/" + strings.TrimSuffix(key, "_file"), text}, true
			}
			return described{}, false
		}

		found = described{key, exampleOf(in, field), field.Type}
		t = field.Type
	}

	for found.t = t; found.t.Kind() == reflect.Pointer; {
		found.t = found.t.Elem()
	}
	return found, found.key != ""
}

// fieldOf finds the field of a key, and the structure that it stands in, which may be inlined in another.
func fieldOf(t reflect.Type, key string) (in reflect.Type, field reflect.StructField, ok bool) {
	for i := range t.NumField() {
		field := t.Field(i)
		switch field.Tag.Get("yaml") {
		case key:
			return t, field, true
		case ",inline":
			if in, field, ok := fieldOf(field.Type, key); ok {
				return in, field, true
			}
		}
	}
	return nil, reflect.StructField{}, false
}

// hasKeys reports whether a structure is decoded key by key.
func hasKeys(t reflect.Type) bool { return t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != "" }

// suchAs is an example of a line for the key at a path, behind a comma; "" for paths that the schema does not know.
func suchAs(path string) string {
	found, ok := schemaAt(path)
	if !ok || found.example == "" {
		return ""
	}
	return ", such as " + found.key + ": " + found.example
}

// single is a type that takes one value, in words. Structures here are those that a word or an address can stand for.
func single(t reflect.Type) string {
	switch t {
	case durationType:
		return "a duration"
	case reflect.TypeFor[Patience]():
		return "a duration or off"
	case reflect.TypeFor[Size]():
		return "a size"
	case reflect.TypeFor[Network]():
		return "an address or a network"
	case reflect.TypeFor[Target]():
		return "a target"
	case reflect.TypeFor[Backend]():
		return "a target, or a mapping of keys to values"
	case reflect.TypeFor[Issuer]():
		return "an issuer's name, the URL of its directory, or a mapping of keys to values"
	case reflect.TypeFor[Admin]():
		return "off, an address, unix:PATH, or a mapping of keys to values"
	case reflect.TypeFor[Docker]():
		return "on, the engine's endpoint, or a mapping of keys to values"
	case reflect.TypeFor[Compress](), reflect.TypeFor[Inspect](), reflect.TypeFor[Maintenance]():
		return "true, false, or a mapping of keys to values"
	case reflect.TypeFor[SecurityHeaders]():
		return "true, strict, false, or a mapping of keys to values"
	case reflect.TypeFor[KeepAlive]():
		return "off, a duration, or a mapping of keys to values"
	}

	switch t.Kind() {
	case reflect.Struct:
		return "off, or a mapping of keys to values"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "a single value"
}

// of is the kind of value that stands in the file, in words.
func of(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping of keys to values"
	}
	if n.Tag == "!!null" {
		return "empty"
	}
	return `"` + n.Value + `"`
}

var numeric = lazy.Regexp(`^[0-9.]+$`)

// meant is the mapping that a single value may stand for, "" where none suggests itself: what a respond or a route is
// mainly about, or a value of the form that the first key's has.
func meant(value string, known []string, path string) string {
	for _, word := range wordsOfKeys {
		if strings.HasSuffix("."+path, "."+word.key) && strings.EqualFold(value, word.value) {
			return word.meant
		}
	}

	key := known[0]
	for _, main := range []string{"root", "body", "to"} {
		if slices.Contains(known, main) {
			key = main
		}
	}

	// A respond is mainly about its body, but three digits are a status.
	if slices.Contains(known, "status") && len(value) == 3 && numeric().MatchString(value) {
		return "{status: " + value + "}"
	}

	example := ""
	if found, ok := schemaAt(path + "." + key); ok {
		example = strings.Trim(found.example, `"`)
	}

	// Such a word switches something on or off, and no key of the mapping takes that.
	switch strings.ToLower(value) {
	case "true", "false", "on", "off", "yes", "no":
		return ""
	}

	if !alike(value, example) && key != "to" && key != "body" && key != "root" {
		return ""
	}

	return "{" + key + ": " + value + "}"
}

// wordsOfKeys are words that stand in the place of a mapping, often because a flag takes them, and what is meant.
var wordsOfKeys = []struct{ key, value, meant string }{
	{"access_log", "off", `{format: "off"}`}, {"access_log", "false", `{format: "off"}`}, {"access_log", "none", `{format: "off"}`},
	{"access_log", "json", "{format: json}"}, {"access_log", "combined", "{format: combined}"},
	{"handshakes", "off", `{show: "off"}`}, {"handshakes", "false", `{show: "off"}`}, {"handshakes", "none", `{show: "off"}`},
	{"handshakes", "all", "{show: all}"}, {"handshakes", "failures", "{show: failures}"},
	{"handshakes.privacy", "truncated", "{addresses: truncated}"}, {"handshakes.privacy", "hashed", "{names: hashed}"},
	{"tls", "1.2", `{min_version: "1.2"}`}, {"tls", "1.3", `{min_version: "1.3"}`},
	{"retry", "off", "{attempts: 1}"}, {"retry", "false", "{attempts: 1}"},
}

// withoutKey says how to do without a mapping that somebody has switched off; "": the value is no such word.
func withoutKey(value, path string) string {
	switch strings.ToLower(value) {
	case "off", "false", "none", "no":
	default:
		return ""
	}

	_, key, inRoute := strings.Cut(indexes().ReplaceAllString(path, ""), ".routes.")
	if inRoute && slices.Contains(accessRules, key) {
		return "for none, leave the key out; a rule of the site holds for all its routes, so write it in the routes that need it, and not in the site"
	}
	return "for none, leave the key out"
}

// accessRules are rules that a route can replace and not take away.
var accessRules = []string{"basic_auth", "api_keys", "jwt", "forward_auth", "rate_limit", "cors"}

// alike reports whether a value looks like an example: two numbers, paths, durations, or files of one kind.
func alike(value, example string) bool {
	if _, err := time.ParseDuration(value); err == nil && example == exampleOfType(durationType) {
		return true
	}
	return numeric().MatchString(value) && numeric().MatchString(example) || strings.HasPrefix(value, "/") && strings.HasPrefix(example, "/") ||
		filepath.Ext(value) != "" && filepath.Ext(value) == filepath.Ext(example)
}
