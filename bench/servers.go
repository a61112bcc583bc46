package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cores: the proxy has one for itself; the backend and the load share the other.
const (
	proxyCore = "0"
	otherCore = "1"
)

// pair is the certificate that all servers show.
type pair struct {
	cert, key, both string // files
	roots           *x509.CertPool
}

func (b *bench) prepare() error {
	if b.binary == "" {
		b.binary = filepath.Join(b.dir, "padlock")
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.binary, "./cmd/padlock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building padlock: %w\n%s", err, out)
		}
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "*.localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}

	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	b.pair = &pair{filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem"), filepath.Join(b.dir, "both.pem"), x509.NewCertPool()}
	b.pair.roots.AppendCertsFromPEM(cert)
	for name, text := range map[string][]byte{b.pair.cert: cert, b.pair.key: private, b.pair.both: append(bytes.Clone(cert), private...)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return err
		}
	}

	return nil
}

// process is a running server.
type process struct {
	name    string
	setup   string
	address string
	command *exec.Cmd
}

func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { _ = p.command.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = p.command.Process.Kill()
		<-ended
	}
}

// pids are the process and its children.
func (p *process) pids() []int {
	pids := []int{p.command.Process.Pid}
	for i := 0; i < len(pids); i++ {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[i], pids[i]))
		for _, child := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cpu is the user and system time used so far.
func (p *process) cpu() (time.Duration, error) {
	total := time.Duration(0)
	for _, pid := range p.pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name in parentheses may hold blanks. Behind it, fields 11 and 12 are utime and stime (proc_pid_stat(5)).
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))

		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			// The kernel counts in ticks of USER_HZ, which is 100.
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total, nil
}

// memory is the resident set in bytes, pages shared between its processes counted once each.
func (p *process) memory() (int64, error) {
	total := int64(0)
	for _, pid := range p.pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}

		scanner := bufio.NewScanner(bytes.NewReader(text))
		for scanner.Scan() {
			if fields := strings.Fields(scanner.Text()); len(fields) > 1 && fields[0] == "Pss:" {
				kib, _ := strconv.ParseInt(fields[1], 10, 64)
				total += kib << 10
			}
		}
	}
	return total, nil
}

func (b *bench) spawn(name, core, address string, args ...string) (*process, error) {
	output, err := os.Create(filepath.Join(b.dir, strings.ReplaceAll(name, "/", "-")+".log"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	command := exec.Command("taskset", append([]string{"-c", core}, args...)...)
	command.Stdout, command.Stderr = output, output
	// Caddy keeps its files in these directories.
	command.Env = append(os.Environ(), "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	if err := command.Start(); err != nil {
		return nil, err
	}

	p := &process{name: name, address: address, command: command}
	// A server with thousands of sites takes seconds to start. The row of starts is as exact as this is patient.
	for range 20_000 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return p, nil
		}
		time.Sleep(time.Millisecond)
	}

	p.stop()
	text, _ := os.ReadFile(output.Name())
	return nil, fmt.Errorf("%s does not listen on %s:\n%s", name, address, text)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startFiles is the backend of most workloads: nginx with files, on the core of the load, in plaintext, over TLS and
// over h2c.
func (b *bench) startFiles() (*process, error) {
	for _, setup := range []string{"", toTLS, toH2C} {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		b.origins[setup] = address
	}
	root := b.root()
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}

	// nginx's worker may run as another user, who must be able to enter each directory above its files.
	for dir := root; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && strings.HasPrefix(dir, b.dir) {
			_ = os.Chmod(dir, info.Mode()|0o055)
		}
	}

	for name, size := range map[string]int{"1k": 1 << 10, "16k": 16 << 10, "1m": 1 << 20} {
		if err := os.WriteFile(filepath.Join(root, name), bytes.Repeat([]byte("padlock\n"), size/8), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "page.html"), page(), 0o644); err != nil {
		return nil, err
	}

	config := fmt.Sprintf(`daemon off; pid %[1]s/origin.pid; error_log stderr; worker_processes 1;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; sendfile on; tcp_nopush on;
  client_body_temp_path %[1]s/origin-body; proxy_temp_path %[1]s/origin-proxy; fastcgi_temp_path %[1]s/t1; uwsgi_temp_path %[1]s/t2; scgi_temp_path %[1]s/t3;
  root %[3]s; types { text/html html; }
  server { listen %[2]s; location /up { return 204; } }
  server { listen %[4]s ssl; ssl_certificate %[5]s; ssl_certificate_key %[6]s; ssl_protocols TLSv1.2 TLSv1.3; }
  server { listen %[7]s http2; }
}`, b.dir, b.origins[""], root, b.origins[toTLS], b.pair.cert, b.pair.key, b.origins[toH2C])
	return b.nginx("origin", otherCore, b.origins[""], config)
}

// root is the directory of the files.
func (b *bench) root() string { return filepath.Join(b.dir, "root") }

// pageSize is that of a page that is compressed, in bytes.
const pageSize = 64 << 10

// page is HTML about as repetitive as that of applications: a table whose cells hold words, some more often than others.
// It is the same in every run.
func page() []byte {
	words := strings.Fields(`order customer invoice shipped open paid refund address street number total amount discount product quantity warehouse
		returned pending delivery express standard gift note email phone country region berlin paris london madrid vienna oslo`)
	choose := mathrand.New(mathrand.NewPCG(1, 2))
	var text bytes.Buffer
	text.WriteString("<!doctype html>\n<title>Orders</title>\n<table class=\"orders\">\n")
	for row := 1; text.Len() < pageSize; row++ {
		fmt.Fprintf(&text, "  <tr id=\"order-%d\">\n", row)
		for range 6 {
			word := words[int(float64(len(words))*choose.Float64()*choose.Float64())]
			fmt.Fprintf(&text, "    <td class=\"%s\"><a href=\"/orders/%d/%s\">%s %d</a></td>\n", word, row, word, word, choose.IntN(10_000))
		}
		text.WriteString("  </tr>\n")
	}
	return text.Bytes()[:pageSize]
}

func (b *bench) nginx(name, core, address, config string) (*process, error) {
	file := filepath.Join(b.dir, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return b.spawn(name, core, address, "nginx", "-e", "stderr", "-c", file)
}

// start starts a server by name, as its documentation says for a reverse proxy that keeps backend connections alive.
func (b *bench) start(name, setup string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}

	// The access log has about the fields of padlock's, in JSON.
	kind, logs := strings.CutSuffix(name, "-logs")
	var p *process
	switch kind {
	case "nginx":
		p, err = b.startNginx(name, setup, address, logs)
	case "haproxy":
		p, err = b.startHAProxy(name, setup, address, logs)
	case "caddy":
		p, err = b.startCaddy(name, setup, address, logs)
	case "net/http":
		if setup != "" {
			return nil, errNoSuchSetup
		}
		self, failed := os.Executable()
		if failed != nil {
			return nil, failed
		}
		p, err = b.spawn(name, proxyCore, address, self, "reverse-proxy", address, b.pair.cert, b.pair.key, b.origins[""])
	default:
		p, err = b.startPadlock(name, kind, setup, address, logs)
	}

	if p != nil {
		p.name, p.setup = name, setup
	}

	return p, err
}

// file is where a server's configuration stands.
func (b *bench) file(name, setup string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(name+setup, "/", "-")+".conf")
}

func (b *bench) startNginx(name, setup, address string, logs bool) (*process, error) {
	access := "access_log off;"
	if logs {
		access = fmt.Sprintf(nginxLog, b.dir)
	}

	config, err := b.nginxSites(setup, address)
	if err != nil {
		return nil, err
	}

	head := fmt.Sprintf(`daemon off; pid %s/%s%s.pid; error_log stderr; worker_processes 1;
`, b.dir, name, setup)
	if setup == toTCP {
		return b.nginx(name+setup, proxyCore, address, "load_module modules/ngx_stream_module.so;\n"+head+config)
	}
	return b.nginx(name+setup, proxyCore, address, head+fmt.Sprintf(`events { worker_connections 8192; }
http {
  %[2]s keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  ssl_certificate %[3]s; ssl_certificate_key %[4]s; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m;
%[5]s}
`, b.dir, access, b.pair.cert, b.pair.key, config))
}

func (b *bench) startHAProxy(name, setup, address string, logs bool) (*process, error) {
	log, captures := "", ""
	// HAProxy writes no files, so the log goes to its output.
	if logs {
		log = haproxyLog
		captures = "  capture request header Host len 64\n  capture request header User-Agent len 128\n"
	}

	mode := "  mode http\n  timeout http-keep-alive 600s\n  http-reuse always\n  option forwardfor\n"
	alpn, forwarded := " alpn h2,http/1.1", "  http-request set-header X-Forwarded-Proto https\n"
	if setup == toTCP {
		mode, alpn, forwarded = "  mode tcp\n", "", ""
	}

	choice, target, err := b.haproxyTarget(setup)
	if err != nil {
		return nil, err
	}

	file := b.file(name, setup)
	return b.configured(name, address, file, fmt.Sprintf(`global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.ssl.cachesize 20000
defaults
  timeout client 600s
  timeout server 60s
  timeout connect 5s
  timeout tunnel 600s
%s%sfrontend f
  bind %s ssl crt %s%s
%s%s%s  default_backend b
backend b
  server s %s
`, mode, log, address, b.pair.both, alpn, captures, forwarded, choice, target), "haproxy", "-db", "-f", file)
}

func (b *bench) startCaddy(name, setup, address string, logs bool) (*process, error) {
	log := ""
	if logs {
		log = fmt.Sprintf("  log {\n    output file %s/caddy-access.log\n  }\n", b.dir)
	}

	sites, err := b.caddySites(setup, port(address), log)
	if err != nil {
		return nil, err
	}

	file := b.file(name, setup)
	return b.configured(name, address, file, `{
  admin off
  auto_https off
  default_sni localhost
}
`+sites, "caddy", "run", "--adapter", "caddyfile", "--config", file)
}

func (b *bench) startPadlock(name, kind, setup, address string, logs bool) (*process, error) {
	binary := b.binary
	variant, base := strings.CutPrefix(strings.TrimPrefix(kind, "padlock"), "-base")
	if base {
		if binary = b.base; binary == "" {
			return nil, fmt.Errorf("%s needs -base BINARY", name)
		}
	}

	show, access, admin := "all", `format: "off"`, `"off"`
	sites := b.padlockSites(setup)
	switch {
	case variant == "-policy" && setup != "":
		return nil, errNoSuchSetup
	case variant == "-policy":
		sites = policySites(b.origins[""])
	case variant == "-quiet":
		show = `"off"`
	case variant == "-access":
		show, logs = `"off"`, true
	case variant == "-inspect":
		// As -quiet, but for what is measured. Without the admin endpoint nobody could look, and nothing is remembered.
		show, admin = `"off"`, "unix:"+filepath.Join(b.dir, name+".sock")
		sites = strings.Replace(sites, "  - hosts: [localhost]\n", "  - hosts: [localhost]\n    inspect: true\n", 1)
	case variant != "" || !strings.HasPrefix(kind, "padlock"):
		return nil, fmt.Errorf("unknown server %q", name)
	}

	if logs {
		access = "output: " + filepath.Join(b.dir, name+"-access.log")
	}

	file := b.file(name, setup)
	return b.configured(name, address, file, fmt.Sprintf(`listen: {https: ["%s"], http: []}
admin: %s
storage: %s
certificates: {files: [{cert: %s, key: %s}]}
handshakes: {show: %s, format: json, output: %s}
access_log: {%s}
timeouts: {idle: 10m}
sites: %s
`, address, admin, filepath.Join(b.dir, name+setup+"-storage"), b.pair.cert, b.pair.key, show, filepath.Join(b.dir, name+"-handshakes.json"), access, sites),
		binary, "run", "--config", file)
}

func (b *bench) configured(name, address, file, config string, args ...string) (*process, error) {
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return b.spawn(name, proxyCore, address, args...)
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// reverseProxy is what a few lines of the standard library give.
func reverseProxy(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: reverse-proxy ADDRESS CERT KEY BACKEND")
	}
	target := &url.URL{Scheme: "http", Host: args[3]}
	// By default two connections are kept for a host, and the benchmark would measure how others are made.
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded(); r.Out.Host = r.In.Host },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := &http.Server{Addr: args[0], Handler: proxy, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	return server.ListenAndServeTLS(args[1], args[2])
}

// Access logs as padlock's: the same facts in JSON, written together for as long as padlock writes them together.
const (
	nginxLog = `log_format json escape=json '{"time":"$time_iso8601","request_id":"$request_id","host":"$host","method":"$request_method",'
    '"target":"$request_uri","proto":"$server_protocol","status":$status,"bytes_in":$request_length,"bytes_out":$body_bytes_sent,'
    '"duration":$request_time,"remote":"$remote_addr:$remote_port","connection":$connection,"upstream":"$upstream_addr",'
    '"connect":"$upstream_connect_time","first_byte":"$upstream_header_time","user_agent":"$http_user_agent"}';
  access_log %s/nginx-access.log json buffer=32k flush=100ms;`

	haproxyLog = `  log stdout format raw local0
  log-format '{"time":"%t","host":"%[capture.req.hdr(0),json(utf8s)]","method":"%HM","target":"%[capture.req.uri,json(utf8s)]","proto":"%HV","status":%ST,"bytes_in":%U,"bytes_out":%B,"duration_ms":%Ta,"remote":"%ci:%cp","request":%rt,"upstream":"%si:%sp","wait_ms":%Tw,"connect_ms":%Tc,"first_byte_ms":%Tr,"user_agent":"%[capture.req.hdr(1),json(utf8s)]"}'
`
)

// policySites is a typical configuration: 20 sites with field rules, and for the one that is measured least
// connections.
func policySites(origin string) string {
	_, port, _ := net.SplitHostPort(origin)
	sites := ""
	for i := range 20 {
		host := fmt.Sprintf("app%d.localhost", i)
		if i == 19 {
			host = "localhost"
		}
		sites += fmt.Sprintf(`
  - hosts: [%s]
    headers: {request: {set: {X-Edge: padlock}}, response: {remove: [Server], set: {X-Frame-Options: DENY}}}
    routes:
      - {path: /api/, to: ["%s"], strip_prefix: true}
      - {to: ["%s", "localhost:%s"], balance: least_conn, forwarded: true, headers: {request: {set: {X-Request-Id: "{request_id}"}}}}`, host, origin, origin, port)
	}

	return sites
}
