package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"padlock/internal/pemfile"
	"padlock/internal/regular"
	"padlock/internal/revocation"
)

// Validate checks a configuration that was not read from a file, and puts its names into canonical form.
// It reads local files, no network, and changes nothing else. Its error is an Errors.
func (c *Config) Validate() error {
	if errs := (&validator{}).validate(c); len(errs) > 0 {
		return errs
	}
	return nil
}

// validator collects what is wrong.
type validator struct {
	errs    Errors
	checked []NamedAccess // rules that need not be looked at again
	inFile  bool          // the configuration was read from a file, which relative paths go by
}

func (v *validator) fail(path, format string, args ...any) {
	v.errs = append(v.errs, Error{Path: path, Message: fmt.Sprintf(format, args...)})
}

// beside is fail for what is wrong because of something else in the file.
func (v *validator) beside(path, other, format string, args ...any) {
	v.errs = append(v.errs, Error{Path: path, Message: fmt.Sprintf(format, args...), other: other})
}

// isSwitch reports whether a text is what other keys are switched on or off with, and not meant as a name.
func isSwitch(text string) bool {
	return slices.Contains([]string{"true", "false", "on", "off", "yes", "no"}, strings.ToLower(text))
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.fail(path, "%q must be one of: %s", value, strings.Join(allowed, ", "))
	}
}

func (v *validator) validate(c *Config) Errors {
	v.listen(c)
	v.oneOf("listen.alt_svc", c.Listen.AltSvc, "auto", "always", "never")
	v.oneOf("tls.min_version", c.TLS.MinVersion, "1.2", "1.3")
	v.oneOf("handshakes.show", c.Handshakes.Show, "all", "failures", "off")
	v.oneOf("handshakes.format", c.Handshakes.Format, "story", "line", "json")
	v.handshakes(&c.Handshakes)
	v.oneOf("access_log.format", c.AccessLog.Format, "json", "combined", "off")
	for i, name := range c.AccessLog.Headers {
		if !isToken(name) {
			v.fail(fmt.Sprintf("access_log.headers[%d]", i), "%q is not the name of a field (RFC 9110 section 5.1)", name)
		}
	}

	if c.AccessLog.Output == "off" {
		v.fail("access_log.output", "off is not a place; to log nothing: format: off")
	}

	v.oneOf("underscores_in_headers", c.UnderscoresInHeaders, "drop_known", "drop", "keep")
	v.tracing(&c.Tracing)
	v.storage(c.Storage)

	for i, a := range c.Resolvers {
		v.address(fmt.Sprintf("resolvers[%d]", i), a)
	}

	// The process would believe that it had dropped its privileges.
	if c.User == "root" {
		v.fail("user", "root is what padlock is to be no longer; name a user without privileges, or leave it out")
	}

	v.certificates(c)
	if c.Docker != nil {
		v.docker("docker", c.Docker)
	} else if len(c.Sites) == 0 {
		v.fail("sites", "at least one site is needed: sites: [{hosts: [app.test], routes: [{to: 3000}]}]")
	}

	v.sites(c, 0)
	v.overrides(c)
	return v.errs
}

// sites checks those from one on; those before it have been, and may be in use.
func (v *validator) sites(c *Config, from int) {
	seen := map[string]map[string]string{} // by listener: names and where they stand
	for i := range c.Sites {
		at := strings.Join(c.Sites[i].Listen, " ")
		if seen[at] == nil {
			seen[at] = map[string]string{}
		}

		if i >= from {
			v.site(fmt.Sprintf("sites[%d]", i), &c.Sites[i], seen[at])
			continue
		}

		for j, host := range c.Sites[i].Hosts {
			seen[at][host] = fmt.Sprintf("sites[%d].hosts[%d]", i, j)
		}
	}

	v.listeners(c)
	v.plain(c, from)
	v.sharedRates(c, from)
	v.managedNames(c)
}

// With is a valid configuration with more sites, which are checked as Validate does, and put into canonical form. c
// stays as it is, and its own sites are not looked at again. The error is an Errors.
func (c *Config) With(more ...Site) (*Config, error) {
	next := *c
	next.Sites = slices.Concat(c.Sites, more)
	v := &validator{}
	if c.Docker != nil {
		v.checked = c.Docker.Access
	}
	if v.sites(&next, len(c.Sites)); len(v.errs) > 0 {
		return nil, v.errs
	}
	return &next, nil
}

func (v *validator) handshakes(h *Handshakes) {
	v.oneOf("handshakes.privacy.addresses", h.Privacy.Addresses, "full", "truncated")
	v.oneOf("handshakes.privacy.names", h.Privacy.Names, "full", "hashed")
	// Whoever has the file can decrypt the traffic, so that a path alone is not consent enough.
	if h.Capture != "" && !h.InsecureExportSecrets {
		v.fail("handshakes.capture", "a capture holds the secrets of handshakes: say so with insecure_export_secrets (--insecure-export-secrets)")
	}
	if h.Capture != "" && h.Show == "off" {
		v.fail("handshakes.capture", "needs handshakes to be recorded: show must be all or failures")
	}
}

func (v *validator) listen(c *Config) {
	if len(c.Listen.HTTPS) == 0 && slices.ContainsFunc(c.Sites, func(s Site) bool { return len(s.Listen) == 0 }) {
		v.fail("listen.https", "at least one address is needed")
	}

	for i, a := range c.Listen.HTTPS {
		v.address(fmt.Sprintf("listen.https[%d]", i), a)
	}

	for i, a := range c.Listen.HTTP {
		v.address(fmt.Sprintf("listen.http[%d]", i), a)
	}

	// A device that does not trust the CA yet can fetch the root over plain HTTP alone.
	if c.TrustPage && !slices.ContainsFunc(c.Listen.HTTP, reachable) {
		v.fail("trust_page", "needs a plain HTTP listener that other devices reach: listen.http (--http), such as :80")
	}
	v.admin(&c.Admin)
}

// reachable reports whether others than this machine can connect to an address that is listened on.
func reachable(a string) bool {
	host, _, err := net.SplitHostPort(a)
	name, _ := CanonicalHost(host)
	return err == nil && !IsLoopback(name)
}

func (v *validator) address(path, a string) {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		v.fail(path, "%s", addressWanted(path, a))
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		v.fail(path, "%q: the port must be a number from 0 to 65535", a)
	}
	if _, ok := CanonicalHost(host); host != "" && !ok {
		v.fail(path, "%q: %q is not a host name or address", a, host)
	}
}

func (v *validator) file(path, name string) {
	if name == "" {
		v.fail(path, "is missing")
		return
	}
	if err := regular.Check(name); err != nil {
		v.fail(path, "%v", v.inDirectory(name, err))
	}
}

// inDirectory says of a file that is not there where it was looked for.
func (v *validator) inDirectory(name string, err error) error {
	if v.inFile && errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(name) {
		return fmt.Errorf("%w; relative paths begin in the directory of the configuration file", err)
	}
	return err
}

// storage checks what the storage is, but for services, which are asked when they are used. A directory that is not
// there is made.
func (v *validator) storage(place string) {
	if place == "" {
		v.fail("storage", "no directory is given, and there is no home directory to put it in: name one, such as /var/lib/padlock")
		return
	}
	if strings.Contains(place, "://") {
		return
	}

	info, err := os.Stat(place)
	_, link := os.Readlink(place)
	switch {
	case err == nil && !info.IsDir():
		v.fail("storage", "%s is a file: name a directory", place)
	case errors.Is(err, fs.ErrNotExist) && link == nil:
		v.fail("storage", "%s is a link to a directory that is not there: make that, or name another", place)
	case errors.Is(err, syscall.ENOTDIR):
		v.fail("storage", "%s cannot be made, as it would lie in a file: name another directory", place)
	}
}

func (v *validator) directory(path, name, remedy string) {
	info, err := regular.Stat(name)
	switch {
	case err != nil:
		v.fail(path, "%v", v.inDirectory(name, err))
	case !info.IsDir():
		v.fail(path, "%s is no directory: %s", name, remedy)
	default:
		// Nothing in a directory that may not be entered can be opened.
		if _, err := os.Stat(name + string(filepath.Separator) + "."); err != nil {
			v.fail(path, "%v", err)
		}
	}
}

func (v *validator) site(path string, s *Site, seen map[string]string) {
	if len(s.Hosts) == 0 {
		v.fail(path+".hosts", "%s", noHosts(path, s))
	}

	for i, host := range s.Hosts {
		at := fmt.Sprintf("%s.hosts[%d]", path, i)
		name, ok := CanonicalPattern(host)
		if !ok {
			v.fail(at, "%s", hostWanted(host, "a host name, an address, *.name or *"))
			continue
		}

		// Which of both sites would answer is a matter of order, and not what anybody meant.
		if other, taken := seen[name]; taken {
			v.beside(at, other, "%s already stands at %s: keep one of them, and put the routes together", SpelledHost(name), other)
		}

		seen[name] = at
		s.Hosts[i] = name
	}

	if s.TLS.ClientAuth != nil {
		v.clientAuth(path+".tls.client_auth", s.TLS.ClientAuth)
	}

	v.www(path, s, seen)
	v.hsts(path+".hsts", &s.HSTS)
	v.headers(path+".headers", &s.Fields)
	v.access(path, &s.Access)
	v.errorPages(path+".errors", s.Errors)
	v.intercept(path+".intercept", s)
	if s.Maintenance != nil {
		v.maintenance(path+".maintenance", s.Maintenance)
	}
	if s.Inspect != nil {
		v.inspect(path+".inspect", s.Inspect)
	}
	if s.Compress != nil {
		v.compress(path+".compress", s.Compress)
	}
	v.browsers(path, s.CORS, s.SecurityHeaders)
	if s.HTTP != "" {
		v.oneOf(path+".http", s.HTTP, "redirect", "serve", "off")
	}
	if s.Paths != "" {
		v.oneOf(path+".paths", s.Paths, "strict", "normalize", "raw")
	}

	for i, a := range s.Listen {
		v.address(fmt.Sprintf("%s.listen[%d]", path, i), a)
	}

	if s.TCP != nil {
		v.tcp(path, s)
	}

	for i := range s.Routes {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		v.route(at, &s.Routes[i])
		v.conditions(at, s, &s.Routes[i].Conditions)
		// Of two routes that match the same requests, the first answers.
		for j := range i {
			if sameMatch(&s.Routes[j], &s.Routes[i], s.NoCase) {
				v.beside(at, fmt.Sprintf("%s.routes[%d]", path, j), "is never reached: %s.routes[%d] matches the same requests; several targets of one route are a list: to: [3000, 3001]", path, j)
			}
		}
	}
	v.codings(path, s)
	v.credentials(path, s)
	v.limitsByUser(path, s)
}

// noHosts is for a site without any.
func noHosts(path string, s *Site) string {
	if path != "sites[0]" && (len(s.Routes) > 0 || s.TCP != nil) {
		return "at least one host is needed: hosts: [app.example.com]; if this belongs to the site above, take away its -"
	}
	return "at least one host is needed: hosts: [app.example.com]"
}

// www adds the names that redirect, so that there are certificates for them.
func (v *validator) www(path string, s *Site, seen map[string]string) {
	if s.WWW == "" {
		return
	}
	v.oneOf(path+".www", s.WWW, "add", "remove")
	// A copy, as names are added below, which have no counterpart of their own.
	for _, host := range slices.Clone(s.Hosts) {
		other, without := strings.CutPrefix(host, "www.")
		if !without {
			other = "www." + host
		}

		if strings.HasPrefix(host, "*") || net.ParseIP(host) != nil {
			v.fail(path+".www", "%s has no other name with or without www", host)
		} else if _, taken := seen[other]; !taken {
			seen[other] = path + ".www"
			s.Hosts = append(s.Hosts, other)
		} else if !slices.Contains(s.Hosts, other) {
			v.beside(path+".www", seen[other], "%s already stands at %s", SpelledHost(other), seen[other])
		}
	}
}

func sameMatch(a, b *Route, ignoreCase bool) bool {
	same := func(a, b string) bool { return a == b || ignoreCase && strings.EqualFold(a, b) }
	return same(a.Path, b.Path) && same(a.Exact, b.Exact) && slices.Equal(a.Methods, b.Methods) && reflect.DeepEqual(a.Conditions, b.Conditions)
}

func (v *validator) clientAuth(path string, auth *ClientAuth) {
	v.oneOf(path+".mode", auth.Mode, "require", "optional-verify", "request")
	var cas []*x509.Certificate
	if auth.CA != "" || auth.Mode != "request" {
		cas = v.bundle(path+".ca", auth.CA)
	} else if len(auth.CRL) > 0 {
		v.fail(path+".crl", "goes with ca: each list must be signed by one of the accepted CAs")
	}

	// Without the CAs, nobody can judge whether a list is signed by one of them.
	if cas != nil {
		v.revocations(path+".crl", auth.CRL, cas)
	}

	switch {
	case auth.Allow == nil:
	case auth.Mode == "request":
		v.fail(path+".allow", "goes with require and optional-verify: with request nobody is refused")
	case len(auth.Allow.Names)+len(auth.Allow.Organizations) == 0:
		v.fail(path+".allow", "names nobody: it needs names or organizations")
	default:
		v.clientNames(path+".allow", auth.Allow)
	}
}

// revocations checks lists, and that every CA has one.
func (v *validator) revocations(path string, files []string, cas []*x509.Certificate) {
	var all revocation.Lists
	before := len(v.errs)

	for i, name := range files {
		lists, err := revocation.Read(name, cas, time.Now())
		if err != nil {
			v.fail(fmt.Sprintf("%s[%d]", path, i), "%v", err)
		}
		all = append(all, lists...)
	}

	if len(v.errs) > before {
		// The list that seems to be missing may be in a file that could not be read, which is reported already.
		return
	}
	if err := all.Complete(cas, time.Now()); err != nil {
		v.fail(path, "%v", err)
	}
}

// bundle checks a file of CAs, and returns them; nil if it cannot be used.
func (v *validator) bundle(path, name string) []*x509.Certificate {
	if name == "" {
		v.fail(path, "is missing: a PEM file with the accepted CAs")
		return nil
	}

	data, err := regular.Named(name, pemfile.MaxFile)
	if err == nil {
		var cas []*x509.Certificate
		if cas, err = pemfile.Certificates(name, data); err == nil {
			return cas
		}
	}

	v.fail(path, "%v", v.inDirectory(name, err))
	return nil
}

// pair checks the files of a certificate and its key.
func (v *validator) pair(path, name, key, keyName string) {
	// A file that is missing is reported as such, and not once more as a pair that does not fit.
	before := len(v.errs)
	v.file(path, name)
	v.file(key, keyName)
	if len(v.errs) > before {
		return
	}
	if _, err := pemfile.LoadPair(name, keyName); err != nil {
		v.fail(path, "%v", err)
	}
}
