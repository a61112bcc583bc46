package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What proxies are for. Each setup has a backend of its own, but those with many sites and rules.
const (
	toTLS       = "tls"
	toH2C       = "h2c"
	toGRPC      = "grpc"
	toWebSocket = "websocket"
	toTCP       = "tcp"
	manySites   = "sites"
	manyRules   = "rules"
	ownFiles    = "files"
	compressed  = "compressed"
	limited     = "limited"
)

const (
	siteCount = 10_000
	ruleCount = 1_000
)

// errNoSuchSetup is for servers that are not made for something.
var errNoSuchSetup = errors.New("this server does not do that")

// startOrigins starts all backends. Those that have started are returned with an error, too.
func (b *bench) startOrigins() (all []*process, err error) {
	b.origins = map[string]string{}
	files, err := b.startFiles()
	if err != nil {
		return nil, err
	}
	all = append(all, files)

	self, err := os.Executable()
	if err != nil {
		return all, err
	}

	for role, setups := range map[string][]string{"echo": {toTCP, toWebSocket}, "grpc": {toGRPC}} {
		address, err := freeAddress()
		if err != nil {
			return all, err
		}
		p, err := b.spawn(role, otherCore, address, self, role, address)
		if err != nil {
			return all, err
		}
		all = append(all, p)
		for _, setup := range setups {
			b.origins[setup] = address
		}
	}

	for _, setup := range []string{manySites, manyRules, ownFiles, compressed, limited} {
		b.origins[setup] = b.origins[""]
	}
	return all, nil
}

const nginxFields = `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;`

// nginxSites are the servers inside http, or all behind the head of the file.
func (b *bench) nginxSites(setup, address string) (string, error) {
	if setup == toTCP {
		return fmt.Sprintf(`events { worker_connections 8192; }
stream {
  server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; proxy_pass %s; }
}
`, address, b.pair.cert, b.pair.key, b.origins[setup]), nil
	}

	forward := "proxy_pass http://origin; " + nginxFields
	switch setup {
	case toTLS:
		forward = "proxy_pass https://origin; " + nginxFields
	case toH2C, toGRPC:
		forward = "grpc_pass grpc://origin; grpc_set_header X-Forwarded-For $remote_addr; grpc_set_header X-Forwarded-Proto $scheme;"
	case ownFiles:
		forward = "root " + b.root() + "; sendfile on; open_file_cache max=100;"
	case compressed:
		forward += " gzip on; gzip_proxied any; gzip_types text/html;"
	case limited:
		forward += " limit_req zone=clients burst=100000 nodelay;"
	case toWebSocket:
		forward = strings.Replace(forward, `Connection "";`, `Connection "upgrade"; proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 600s;`, 1)
	}

	var sites strings.Builder
	fmt.Fprintf(&sites, "  upstream origin { server %s; keepalive 256; keepalive_requests 100000000; }\n", b.origins[setup])
	if setup == limited {
		sites.WriteString("  limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;\n")
	}
	if setup == manySites {
		// nginx's own sizes are too small for so many names.
		sites.WriteString("  server_names_hash_max_size 65536; server_names_hash_bucket_size 128;\n")
		for i := range siteCount {
			fmt.Fprintf(&sites, "  server { listen %s ssl http2; server_name site%d.localhost; location / { %s } }\n", address, i, forward)
		}
	}

	fmt.Fprintf(&sites, "  server {\n    listen %s ssl http2; server_name localhost;\n", address)
	if setup == manyRules {
		for i := range ruleCount {
			fmt.Fprintf(&sites, "    location /rule%d/ { %s }\n", i, forward)
		}
	}

	fmt.Fprintf(&sites, "    location / { %s }\n  }\n", forward)
	return sites.String(), nil
}

// haproxyTarget is the server that requests go to, and what chooses it.
func (b *bench) haproxyTarget(setup string) (choice, target string, err error) {
	target = b.origins[setup]
	var list strings.Builder
	switch setup {
	case toTLS:
		target += " ssl verify required ca-file " + b.pair.cert + " sni str(localhost)"
	case toH2C, toGRPC:
		target += " proto h2"
	case ownFiles:
		return "", "", errNoSuchSetup
	case compressed:
		target += "\n  compression algo gzip\n  compression type text/html"
	case limited:
		target += "\nbackend clients\n  stick-table type ip size 1m expire 10s store http_req_rate(1s)"
		return "  http-request track-sc0 src table clients\n  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }\n", target, nil
	case manySites:
		choice = "  use_backend %[req.hdr(host),field(1,:),lower,map_str(FILE,b)]\n"
		for i := range siteCount {
			fmt.Fprintf(&list, "site%d.localhost b\n", i)
		}
	case manyRules:
		choice = "  use_backend %[path,map_beg(FILE,b)]\n"
		for i := range ruleCount {
			fmt.Fprintf(&list, "/rule%d/ b\n", i)
		}
	}

	if choice == "" {
		return "", target, nil
	}

	file := filepath.Join(b.dir, "haproxy-"+setup+".map")
	return strings.Replace(choice, "FILE", file, 1), target, os.WriteFile(file, []byte(list.String()), 0o644)
}

// caddySites are its sites behind the global options.
func (b *bench) caddySites(setup, port, log string) (string, error) {
	target := b.origins[setup]
	options := ""
	switch setup {
	// For so many sites, Caddy needs more than a minute to start. It has rate limits with a plugin.
	case toTCP, manySites, limited:
		return "", errNoSuchSetup
	case ownFiles:
		return fmt.Sprintf("https://localhost:%s {\n  bind 127.0.0.1\n%s  tls %s %s\n  root * %s\n  file_server\n}\n", port, log, b.pair.cert, b.pair.key, b.root()), nil
	case compressed:
		options = "\n  encode zstd gzip"
	case toTLS:
		target, options = "https://"+target, fmt.Sprintf(" {\n    transport http {\n      tls_trusted_ca_certs %s\n      tls_server_name localhost\n      versions 1.1\n    }\n  }", b.pair.cert)
	case toH2C, toGRPC:
		target = "h2c://" + target
	}

	var rules strings.Builder
	if setup == manyRules {
		for i := range ruleCount {
			fmt.Fprintf(&rules, "  reverse_proxy /rule%d/* %s\n", i, target)
		}
	}

	return fmt.Sprintf("https://localhost:%s {\n  bind 127.0.0.1\n%s  tls %s %s\n%s  reverse_proxy %s%s\n}\n",
		port, log, b.pair.cert, b.pair.key, rules.String(), target, options), nil
}

// padlockSites is the value of sites.
func (b *bench) padlockSites(setup string) string {
	target := b.origins[setup]
	route := fmt.Sprintf(`{to: ["%s"]}`, target)
	switch setup {
	case toTLS:
		route = fmt.Sprintf(`{to: ["https://%s"], ca: %s, server_name: localhost}`, target, b.pair.cert)
	case toH2C, toGRPC:
		route = fmt.Sprintf(`{to: ["h2c://%s"]}`, target)
	case ownFiles:
		route = fmt.Sprintf(`{files: {root: %s}}`, b.root())
	case compressed:
		route = fmt.Sprintf(`{compress: true, to: ["%s"]}`, target)
	case limited:
		route = fmt.Sprintf(`{rate_limit: {requests: 1000000, per: 1s}, to: ["%s"]}`, target)
	case toTCP:
		return fmt.Sprintf(`[{hosts: [localhost], tcp: {to: ["%s"]}}]`, target)
	}

	var sites strings.Builder
	if setup == manySites {
		for i := range siteCount {
			fmt.Fprintf(&sites, "\n  - {hosts: [site%d.localhost], routes: [%s]}", i, route)
		}
	}

	sites.WriteString("\n  - hosts: [localhost]\n    routes:")
	if setup == manyRules {
		for i := range ruleCount {
			fmt.Fprintf(&sites, "\n      - {path: /rule%d/, to: [\"%s\"]}", i, target)
		}
	}

	fmt.Fprintf(&sites, "\n      - %s", route)
	return sites.String()
}
