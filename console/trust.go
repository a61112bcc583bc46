package console

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/config"
	"padlock/handshake"
	"padlock/hostinfo"
)

//go:embed trust.html
var trustPage string

//go:embed trust.css
var trustOnly string

//go:embed trust.js
var trustScript string

var trustStyle = pageStyle + trustOnly

// TrustOptions of NewTrust.
type TrustOptions struct {
	Root    *hostinfo.Root
	Network func() (hostinfo.Network, error) // asked again every few seconds, as addresses come and go
	Hosts   []string                         // further addresses that devices come by, as behind a port that is forwarded
	Recent  *handshake.Recent                // nil: handshakes are not recorded, or without the clients' whole addresses
	Log     *slog.Logger
}

// Trust is the page that gets a device nearby to trust the local CA: it has the certificate, says what to do with it,
// and turns green when a handshake of that device has come through. It is safe for use from many goroutines.
type Trust struct {
	o        TrustOptions
	template func() *template.Template
	profile  []byte // for iOS and macOS
	visitors visitors

	mu      sync.Mutex
	network hostinfo.Network
	read    time.Time
}

// NewTrust prepares what the page gives away: the certificate, in its three forms.
func NewTrust(o TrustOptions) *Trust {
	functions := pageFunctions()
	functions["style"] = func() template.CSS { return template.CSS(trustStyle) }
	functions["script"] = func() template.JS { return template.JS(trustScript) }
	return &Trust{o: o, profile: newProfile(o.Root), template: sync.OnceValue(func() *template.Template {
		return template.Must(template.New("trust.html").Funcs(functions).Parse(trustPage))
	})}
}

// Names of what can be downloaded.
const (
	trustDER     = "/trust/padlock-ca.crt"
	trustPEM     = "/trust/padlock-ca.pem"
	trustProfile = "/trust/padlock-ca.mobileconfig"
	trustStatus  = "/trust/status"
	probePath    = "/.well-known/padlock-trust"
)

// Path is where a device finds out by HTTPS that its handshake comes through.
func (t *Trust) Path() string { return probePath }

// AnswerHTTP answers what is asked of the page on a plain HTTP port, and reports whether anything was: only by this
// machine's own addresses and name, so that no page elsewhere that rebinds its name reads anything. port is that of
// HTTPS.
func (t *Trust) AnswerHTTP(w http.ResponseWriter, r *http.Request, port string) bool {
	host, ok := t.own(r.Host)
	known := slices.Contains([]string{"/", "/trust", trustDER, trustPEM, trustProfile, trustStatus}, r.URL.Path)
	if !ok || !known || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}

	client := remote(r.RemoteAddr)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if !t.visitors.admit(client, time.Now()) {
		h.Set("Retry-After", "1")
		http.Error(w, "Too many requests from this address.", http.StatusTooManyRequests)
		return true
	}

	switch r.URL.Path {
	case trustDER:
		t.download(w, "application/x-x509-ca-cert", t.o.Root.Certificate.Raw)
	case trustPEM:
		h.Set("Content-Disposition", `attachment; filename="padlock-ca.pem"`)
		t.download(w, "application/x-pem-file", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.o.Root.Certificate.Raw}))
	case trustProfile:
		t.download(w, "application/x-apple-aspen-config", t.profile)
	case trustStatus:
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(t.state(client, since(r))) // to a client that may have gone
	default:
		t.show(w, r, host, port, client)
	}

	return true
}

func (t *Trust) download(w http.ResponseWriter, kind string, content []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}

// own finds the canonical form of a Host that is this machine's.
func (t *Trust) own(host string) (string, bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	name, ok := config.CanonicalHost(host)
	return name, ok && (slices.Contains(t.o.Hosts, name) || t.machine().Has(name))
}

// networkAge is how long what was read of the network stands.
const networkAge = 5 * time.Second

func (t *Trust) machine() hostinfo.Network {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.read) > networkAge {
		n, err := t.o.Network()
		if err != nil {
			t.o.Log.Warn("the trust page does not know this machine's addresses", "error", err)
		} else {
			t.network = n
		}
		// Also after an error, so that a failing look is not made again for each request.
		t.read = time.Now()
	}
	return t.network
}

// since is when the page was opened that asks, by this machine's clock. A page cannot ask for what was long before.
func since(r *http.Request) time.Time {
	now := time.Now()
	if ms, err := strconv.ParseInt(r.FormValue("since"), 10, 64); err == nil {
		if at := time.UnixMilli(ms); at.Before(now) && now.Sub(at) < 24*time.Hour {
			return at
		}
	}
	return now
}

// show renders the page for a client.
func (t *Trust) show(w http.ResponseWriter, r *http.Request, host, port string, client netip.Addr) {
	opened, now := since(r), time.Now()
	data := map[string]any{
		"Root": t.o.Root, "Host": host, "System": system(r.UserAgent()), "Client": client.String(), "Since": opened.UnixMilli(), "Now": now.UnixMilli(),
		"State": t.state(client, opened), "Here": client.IsLoopback() || t.machine().Has(client.String()),
		"App": "https://" + authority(host, port) + "/", "Check": "https://" + authority(host, port) + probePath, "Path": probePath,
		"DER": trustDER, "PEM": trustPEM, "Profile": trustProfile, "Again": "/trust?since=" + strconv.FormatInt(opened.UnixMilli(), 10),
	}

	probe := ""
	// A policy cannot name an IPv6 address (CSP Level 3 section 2.3.1), so there the link has to do.
	if !strings.Contains(host, ":") {
		probe = "https://" + authority(host, port)
	}
	data["Probe"] = probe
	var b bytes.Buffer
	if err := t.template().Execute(&b, data); err != nil {
		http.Error(w, "This page could not be rendered.", http.StatusInternalServerError)
		return
	}

	if t.visitors.greet(client, now) {
		t.o.Log.Info("the trust page was opened", "client", client.String())
	}

	w.Header().Set("Content-Security-Policy", trustPolicy(probe))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// trustPolicy allows the page its own style and script, and to ask its own machine, by HTTPS too.
func trustPolicy(probe string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return strings.TrimSpace("default-src 'none'; style-src "+hash(trustStyle)+"; script-src "+hash(trustScript)+"; connect-src 'self' "+probe) +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func authority(host, port string) string {
	switch {
	case port != "" && port != "443":
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// remote is the zero Addr where an address is none.
func remote(hostport string) netip.Addr {
	at, _ := netip.ParseAddrPort(hostport)
	return at.Addr().Unmap().WithZone("")
}

// system is what a client says that it runs on, as the page's steps are called.
func system(agent string) string {
	for _, s := range []struct{ word, name string }{
		{"iPhone", "ios"}, {"iPad", "ios"}, {"iPod", "ios"}, {"Android", "android"}, {"CrOS", "chromeos"}, {"Firefox", "firefox"},
		{"Macintosh", "macos"}, {"Windows", "windows"}, {"Linux", "linux"}, {"X11", "linux"},
	} {
		if strings.Contains(agent, s.word) {
			return s.name
		}
	}
	return ""
}

// Arrived answers a device that has come to Path by HTTPS: what it shows is that the handshake came through.
// It is nil for hosts that are not this machine's.
func (t *Trust) Arrived(client netip.Addr, id uint64, host string) []byte {
	name, ok := t.own(host)
	if !ok {
		return nil
	}

	client = client.Unmap().WithZone("")
	if t.visitors.arrive(client, id, time.Now()) {
		t.o.Log.Info("a device that opened the trust page trusts the local CA", "client", client.String(), "handshake", id)
	}

	var b bytes.Buffer
	u := url.URL{Scheme: "https", Host: host, Path: "/"}
	if err := t.template().ExecuteTemplate(&b, "arrived", map[string]any{"Host": name, "ID": id, "App": u.String()}); err != nil {
		return []byte("<!doctype html><title>padlock</title><p>This page could not be rendered.")
	}

	return b.Bytes()
}

// Waits reports whether a client has the page open and has not come through. It should be shown another certificate
// each time, as browsers remember for half an hour what they thought of one, though their user has meanwhile come to
// trust its CA.
func (t *Trust) Waits(client net.Addr) bool {
	return t.visitors.waits(remote(client.String()), time.Now())
}

// ContentSecurityPolicy is that of what Arrived renders.
func (t *Trust) ContentSecurityPolicy() string { return trustPolicy("") }
