package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/daemon"
)

func quickFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Usage: "`ADDR` that accepts HTTPS (default: port 443, or 8443 if that is in use or not permitted)", EnvVars: []string{"PADLOCK_LISTEN"}},
		&cli.StringFlag{Name: "http", Usage: "`ADDR` that redirects plain HTTP to HTTPS, or off (default: port 80 or 8080; off with --listen)", EnvVars: []string{"PADLOCK_HTTP"}},
		&cli.BoolFlag{Name: "http3", Value: true, Usage: "also accept HTTP/3, on the UDP port of HTTPS; --http3=false turns it off", EnvVars: []string{"PADLOCK_HTTP3"}},
		&cli.BoolFlag{Name: "lan", Usage: "also serve other devices on this network: listen on all addresses, and serve a page over plain HTTP that helps them install the local CA", EnvVars: []string{"PADLOCK_LAN"}},
		storageFlag(),
		storageKeyFlag(),
		organizationFlag(),
		&cli.StringFlag{Name: "user", Usage: "`NAME` of the user to switch to once the ports are open, if root starts padlock", EnvVars: []string{"PADLOCK_USER"}},
		&cli.StringFlag{Name: "cert", Usage: "PEM `FILE` with a certificate and its chain, instead of the local CA", EnvVars: []string{"PADLOCK_CERT"}},
		&cli.StringFlag{Name: "key", Usage: "PEM `FILE` with the private key of --cert", EnvVars: []string{"PADLOCK_KEY"}},
		choice("handshakes", "all", "handshakes to show", "all", "failures", "off"),
		choice("handshake-format", "story", "format of handshakes", "story", "line", "json"),
		&cli.StringFlag{Name: "handshake-output", Value: "stderr", Usage: "output of handshakes: stderr, stdout or a `FILE`, which padlock rotates", EnvVars: []string{"PADLOCK_HANDSHAKE_OUTPUT"}},
		&cli.StringFlag{Name: "capture", Usage: "pcapng `FILE` for handshakes and the secrets that decrypt them in Wireshark; requires --insecure-export-secrets", EnvVars: []string{"PADLOCK_CAPTURE"}},
		&cli.BoolFlag{Name: "insecure-export-secrets", Usage: "allow padlock to write secrets of handshakes to files", EnvVars: []string{"PADLOCK_INSECURE_EXPORT_SECRETS"}},
		&cli.StringFlag{Name: "response-timeout", Usage: "`DURATION` to wait for a target's response, or off (default: off for local names, 1m for others)", EnvVars: []string{"PADLOCK_RESPONSE_TIMEOUT"}},
		&cli.BoolFlag{Name: "spa", Usage: "if TARGET is a folder: answer paths of no file with its index.html", EnvVars: []string{"PADLOCK_SPA"}},
		&cli.BoolFlag{Name: "compress", Usage: "compress responses with zstd, Brotli or gzip", EnvVars: []string{"PADLOCK_COMPRESS"}},
		&cli.StringFlag{Name: "keepalive", Usage: "`DURATION` to keep idle connections to targets, or off for targets that serve one connection at a time (default: 90s)", EnvVars: []string{"PADLOCK_KEEPALIVE"}},
		adminFlag("`ADDR` of console and metrics for browsers and Prometheus, such as 127.0.0.1:2020; or unix:PATH or off (default: a socket in the storage directory, which padlock console opens)"),
		&cli.StringFlag{Name: "admin-token", Usage: "`TOKEN` that the admin endpoint requires; necessary if other machines can reach it", EnvVars: []string{"PADLOCK_ADMIN_TOKEN"}},
		&cli.BoolFlag{Name: "print-config", Usage: "print the configuration file that corresponds to the flags, and exit"},
		&cli.StringFlag{Name: "otlp", Usage: "`URL` of an OpenTelemetry collector that receives requests and handshakes as traces, such as http://127.0.0.1:4318", EnvVars: []string{"PADLOCK_OTLP", "OTEL_EXPORTER_OTLP_ENDPOINT"}},
		&cli.BoolFlag{Name: "inspect", DefaultText: "true on loopback and with --lan, else false", Usage: "remember the latest requests with their content, for padlock console and padlock watch --requests", EnvVars: []string{"PADLOCK_INSPECT"}},
		&cli.BoolFlag{Name: "redact", Usage: "do not keep passwords and cookies in what --inspect remembers", EnvVars: []string{"PADLOCK_REDACT"}},
		choice("access-log", "off", "access log on standard output", "json", "combined", "off"),
	}, slices.Concat(dockerFlags(), acmeFlags())...)
}

func adminFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "admin", Usage: usage, EnvVars: []string{"PADLOCK_ADMIN"}}
}

func storageFlag() cli.Flag {
	return &cli.StringFlag{Name: "storage", Usage: "`PLACE` for certificates and the local CA: a directory, redis://… or postgres://… (default: padlock in the user's data directory)", EnvVars: []string{"PADLOCK_STORAGE"}}
}

func storageKeyFlag() cli.Flag {
	return &cli.StringFlag{Name: "storage-key", Usage: "`KEY` that encrypts the storage: 32 bytes in base64, or file:PATH", EnvVars: []string{"PADLOCK_STORAGE_KEY"}}
}

func organizationFlag() cli.Flag {
	return &cli.StringFlag{Name: "organization", Usage: "`NAME` in the subject of the local CA and its certificates", EnvVars: []string{"PADLOCK_ORGANIZATION"}}
}

// quick is padlock [TARGET] and padlock NAME=TARGET...
func (p *program) quick(c *cli.Context) error {
	sites, err := quickSites(c)
	if err != nil {
		return err
	}
	cfg, err := quickConfig(c, sites...)
	if err != nil {
		return err
	}
	return p.serveOrPrint(c, cfg)
}

// serveOrPrint runs what the flags ask for, or prints the file that asks for the same.
func (p *program) serveOrPrint(c *cli.Context, cfg *config.Config) error {
	if !c.Bool("print-config") {
		return config.Located("", daemon.Run(c.Context, cfg, p.options(!c.IsSet("listen"), nil)))
	}
	file, err := cfg.YAML()
	if err == nil {
		_, err = p.stdout.Write(file)
	}
	return err
}

func (p *program) proxyCommand() *cli.Command {
	return &cli.Command{
		Name: "proxy", Usage: "serve a target under its own host names",
		UsageText:    "padlock proxy --from NAME --to TARGET\n\nExamples:\n  padlock proxy --from shop.localhost --to 3000\n  padlock proxy --from app.example.com --to app:3000 --email ops@example.com",
		OnUsageError: onUsageError,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "from", Usage: "`NAME` to serve; repeat the flag for more names", EnvVars: []string{"PADLOCK_FROM"}},
			&cli.StringFlag{Name: "to", Usage: "`TARGET` to forward to", EnvVars: []string{"PADLOCK_TO"}},
		}, quickFlags()...),
		Action: func(c *cli.Context) error {
			if !c.IsSet("from") || !c.IsSet("to") || c.NArg() > 0 {
				return usageError{fmt.Errorf("proxy needs --from NAME and --to TARGET, and nothing else")}
			}

			to, err := backend(c, c.String("to"))
			if err != nil {
				return err
			}
			cfg, err := quickConfig(c, served{hosts: c.StringSlice("from"), to: to})
			if err != nil {
				return err
			}

			return p.serveOrPrint(c, cfg)
		},
	}
}

// quickConfig builds from flags what a file would say.
func quickConfig(c *cli.Context, sites ...served) (*config.Config, error) {
	cfg := config.Default()
	// Whoever starts padlock by flags mostly sits in front of the browser that shows the error.
	cfg.ErrorDetails = true
	applyACME(c, cfg)

	cfg.Listen = config.Listen{HTTPS: c.StringSlice("listen"), HTTP3: c.Bool("http3"), AltSvc: cfg.Listen.AltSvc}
	if plain := c.String("http"); plain != "" && plain != "off" {
		cfg.Listen.HTTP = []string{plain}
	}

	if len(cfg.Listen.HTTPS) == 0 {
		listenByDefault(c, cfg, sites)
	}

	applyStorage(c, cfg)
	if c.IsSet("cert") != c.IsSet("key") {
		return nil, usageError{fmt.Errorf("--cert and --key go together")}
	}
	if c.IsSet("cert") {
		cfg.Certificates.Files = []config.CertificateFile{{Cert: c.String("cert"), Key: c.String("key")}}
	}

	cfg.Handshakes.Show, cfg.Handshakes.Format = c.String("handshakes"), c.String("handshake-format")
	cfg.Handshakes.Output, cfg.Handshakes.Capture = c.String("handshake-output"), c.String("capture")
	cfg.Handshakes.InsecureExportSecrets = c.Bool("insecure-export-secrets")
	cfg.Admin.Address, cfg.Admin.Token = c.String("admin"), c.String("admin-token")
	cfg.User = c.String("user")
	if cfg.Tracing.Endpoint = c.String("otlp"); cfg.Tracing.Endpoint != "" {
		// One person's requests are few enough to trace them all.
		cfg.Tracing.Sample = 1
	}
	cfg.AccessLog.Format = c.String("access-log")

	applyDocker(c, cfg)
	for _, s := range sites {
		site := config.Site{Hosts: s.hosts}
		if inspects(c, cfg) {
			site.Inspect = &config.Inspect{Redact: c.Bool("redact")}
		}
		if len(s.to) > 0 || s.files != nil {
			site.Routes = []config.Route{{Upstream: config.Upstream{To: s.to}, Files: s.files}}
			if c.Bool("compress") {
				site.Compress = &config.Compress{}
			}
		}
		cfg.Sites = append(cfg.Sites, site)
	}

	if err := applyTargets(c, cfg); err != nil {
		return nil, err
	}

	addListenHosts(cfg)
	if err := applyLAN(c, cfg); err != nil {
		return nil, err
	}

	if err := cfg.Validate(); err != nil {
		return nil, usageError{namingFlags(namingArguments(err, sites))}
	}

	return cfg, nil
}

// inspects reports whether requests are remembered. Those of strangers are not, unless the flags ask for it.
func inspects(c *cli.Context, cfg *config.Config) bool {
	if c.IsSet("inspect") {
		return c.Bool("inspect")
	}
	return c.Bool("lan") || !slices.ContainsFunc(cfg.Listen.HTTPS, func(address string) bool {
		host, _, err := net.SplitHostPort(address)
		return err != nil || !config.IsLoopback(host)
	})
}

// listenByDefault chooses addresses: loopback, unless other machines are meant to come.
func listenByDefault(c *cli.Context, cfg *config.Config, sites []served) {
	addresses := loopback
	// The names that containers will bring are not known yet.
	if c.Bool("lan") || c.Bool("docker") {
		addresses = everywhere
	} else if public := isPublic(cfg); !c.IsSet("cert") && slices.ContainsFunc(sites, func(s served) bool { return slices.ContainsFunc(s.hosts, public) }) {
		addresses = everywhere
	}

	cfg.Listen.HTTPS = addresses("443")
	if c.String("http") == "" {
		cfg.Listen.HTTP = addresses("80")
	}
}

// applyACME is the part of the flags that says where certificates of public names come from.
func applyACME(c *cli.Context, cfg *config.Config) {
	a := &cfg.Certificates
	a.Email, a.Staging, a.Client = c.String("email"), c.Bool("staging"), c.String("acme-client")
	a.DNS.Provider = c.String("dns")
	if directory := c.String("acme"); directory != "" {
		a.Issuers = []config.Issuer{{Directory: directory, Root: c.String("acme-root")}}
	}
	cfg.StorageKey = c.String("storage-key")
}

// applyTargets is the part of the flags that says how targets are treated. One that is being developed may stop at a
// breakpoint, so local names have no response timeout.
func applyTargets(c *cli.Context, cfg *config.Config) error {
	local := func(host string) bool { return config.IsLocal(strings.ToLower(strings.TrimSuffix(host, "."))) }
	foreign := func(s config.Site) bool {
		return slices.ContainsFunc(s.Hosts, func(host string) bool { return !local(host) })
	}

	if text := c.String("response-timeout"); text != "" {
		if err := config.Read(text, &cfg.Timeouts.ResponseHeader); err != nil {
			return usageError{fmt.Errorf("%s: %w", flagName("response-timeout"), err)}
		}
	} else if !c.Bool("docker") && !slices.ContainsFunc(cfg.Sites, foreign) {
		cfg.Timeouts.ResponseHeader = config.Endless
	}

	var keep config.KeepAlive
	if text := c.String("keepalive"); text != "" {
		if err := config.Read(text, &keep); err != nil {
			return usageError{fmt.Errorf("%s: %w", flagName("keepalive"), err)}
		}
	}

	for i := range cfg.Sites {
		for j := range cfg.Sites[i].Routes {
			cfg.Sites[i].Routes[j].KeepAlive = keep
		}
	}

	return nil
}

// isPublic reports whether a name as it was given is one that clients elsewhere come for.
func isPublic(cfg *config.Config) func(string) bool {
	return func(host string) bool {
		if name, ok := config.CanonicalPattern(host); ok {
			host = name
		}
		return !config.IsLocal(host) && host != "*" && cfg.Certificates.Managed(host)
	}
}

// namingFlags puts the flag and its variable where a validation error names the file's key.
func namingFlags(err error) error {
	flags := map[string]string{
		"listen.https": "listen", "listen.http3": "http3", "listen.http": "http", "handshakes.show": "handshakes", "handshakes.format": "handshake-format",
		"handshakes.capture": "capture", "admin": "admin", "admin.token": "admin-token", "admin.address": "admin", "user": "user", "tracing.endpoint": "otlp", "access_log.format": "access-log", "storage": "storage", "certificates.files[0].cert": "cert", "certificates.files[0].key": "key",
		"certificates.email": "email", "certificates.client": "acme-client", "certificates.dns.provider": "dns", "certificates.dns": "dns",
		"certificates.issuers[0].directory": "acme", "certificates.issuers[0].root": "acme-root",
		"docker.endpoint": "docker-endpoint", "docker.network": "docker-network",
		"sites[0].hosts": "from", "trust_page": "lan",
	}
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return err
	}
	named := slices.Clone(wrong)
	for i, e := range named {
		path := e.Path
		if _, ok := flags[path]; !ok {
			// A flag that is repeated makes a list, whose indexes mean nothing to those who typed it.
			path = strings.TrimRight(path, "[]0123456789")
		}
		if flag, ok := flags[path]; ok {
			named[i].Path = flagName(flag)
		}
	}

	return named
}

func flagName(flag string) string {
	return fmt.Sprintf("--%s (%s)", flag, variable(flag))
}

func applyStorage(c *cli.Context, cfg *config.Config) {
	if c.IsSet("storage") {
		cfg.Storage = c.String("storage")
	}
	if c.IsSet("organization") {
		cfg.Organization = c.String("organization")
	}
}

func loopback(port string) []string {
	return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
}

func everywhere(port string) []string { return []string{":" + port} }

// addListenHosts adds the addresses that are listened on to the first site, so that they can be used in a URL too.
func addListenHosts(cfg *config.Config) {
	for _, address := range cfg.Listen.HTTPS {
		host, _, _ := net.SplitHostPort(address)
		if name, ok := config.CanonicalHost(host); ok {
			addHosts(cfg, name)
		}
	}
}

func dockerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "docker", Usage: "also serve containers with the label padlock.host, on all addresses of this machine unless --listen is set", EnvVars: []string{"PADLOCK_DOCKER"}},
		&cli.StringFlag{Name: "docker-endpoint", Usage: "`ADDR` of the container engine: unix:PATH or tcp://host:port (default: unix:///var/run/docker.sock)", EnvVars: []string{"PADLOCK_DOCKER_ENDPOINT", "DOCKER_HOST"}},
		&cli.StringFlag{Name: "docker-network", Usage: "`NETWORK` in which padlock reaches containers (default: one that padlock is also in)", EnvVars: []string{"PADLOCK_DOCKER_NETWORK"}},
	}
}

func applyDocker(c *cli.Context, cfg *config.Config) {
	if c.Bool("docker") {
		cfg.Docker = &config.Docker{Endpoint: c.String("docker-endpoint"), Network: c.String("docker-network")}
	}
}
