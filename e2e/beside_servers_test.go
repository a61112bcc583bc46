//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/internal/servicetest"
)

// peer is a proxy with a target of its own.
type peer struct {
	name, version string
	address       string
	root          string // file of the CA that has signed its certificate
	tls           *tls.Config
	target        *rawTarget
}

// rawTarget answers each path with the bytes that belong to it, and closes. It keeps what it was last asked.
type rawTarget struct {
	address string
	answers map[string]string
	mu      sync.Mutex
	asked   string
}

func newRawTarget(t *testing.T, answers map[string]string) *rawTarget {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &rawTarget{address: l.Addr().String(), answers: answers}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); b.serve(c) })
		}
	})
	return b
}

// serve reads a request with its content, and answers it.
func (b *rawTarget) serve(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	var head bytes.Buffer
	length := 0
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return
		}
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Content-Length") {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
		if line == "\r\n" {
			break
		}
	}
	if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
		return
	}
	b.mu.Lock()
	b.asked = head.String()
	b.mu.Unlock()

	_, path, _ := strings.Cut(head.String(), " ")
	path, _, _ = strings.Cut(path, " ")
	path, _, _ = strings.Cut(path, "?")
	answer := b.answers[path]
	if answer == "" {
		answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ntarget"
	}
	_, _ = io.WriteString(c, strings.ReplaceAll(answer, "SELF", b.address))
}

// take gives what the target was asked since the last time.
func (b *rawTarget) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = ""
	return asked
}

// startPeers starts each proxy as its documentation says for one in front of an application. Its path /app/ is stripped of the prefix, /limit takes
// 1,000 bytes, and /none is answered by the proxy.
func startPeers(t *testing.T, answers map[string]string) []*peer {
	t.Helper()
	ca := newAuthority(t, "beside others", nil)
	der, key := sign(t, &x509.Certificate{DNSNames: []string{"localhost"}}, ca, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	root := write(t, "root.pem", string(pemOf("CERTIFICATE", ca.cert.Raw)))
	chain, secret := string(pemOf("CERTIFICATE", der, ca.cert.Raw)), string(keyPEM(t, key))
	cert := write(t, "cert.pem", chain)
	keyFile := write(t, "key.pem", secret)
	both := write(t, "both.pem", chain+secret)

	peers := make([]*peer, 4)
	for i, name := range []string{"nginx", "HAProxy", "Caddy", "padlock"} {
		peers[i] = &peer{name: name, address: local(servicetest.FreePort(t)), root: root, target: newRawTarget(t, answers),
			tls: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	}
	nginx, haproxy, caddy, ours := peers[0], peers[1], peers[2], peers[3]

	conf := write(t, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
  server {
    listen %[1]s ssl http2; server_name localhost;
    ssl_certificate %[3]s; ssl_certificate_key %[4]s; ssl_protocols TLSv1.2 TLSv1.3;
    location / { proxy_pass http://%[2]s; }
    location /app/ { proxy_pass http://%[2]s/; }
    location /limit { client_max_body_size 1000; proxy_pass http://%[2]s; }
    location /none { return 404; }
  }
}
`, nginx.address, nginx.target.address, cert, keyFile))
	launch(t, nil, need(t, "nginx"), "-p", filepath.Dir(conf), "-c", conf, "-e", "stderr")

	launch(t, nil, need(t, "haproxy"), "-db", "-f", write(t, "haproxy.cfg", fmt.Sprintf(`global
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option forwardfor
frontend f
  bind %s ssl crt %s alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https
  http-request return status 404 if { path /none }
  http-request return status 413 if { path /limit } { req.hdr_val(content-length) gt 1000 }
  http-request replace-path /app/(.*) /\1
  default_backend b
backend b
  server s %s
`, haproxy.address, both, haproxy.target.address)))

	own := t.TempDir()
	launch(t, nil, need(t, "env"), "XDG_CONFIG_HOME="+own, "XDG_DATA_HOME="+own, need(t, "caddy"), "run", "--adapter", "caddyfile", "--config", write(t, "Caddyfile", fmt.Sprintf(`{
  admin off
  auto_https off
  skip_install_trust
  default_sni localhost
  storage file_system %s
}
https://localhost:%s {
  bind 127.0.0.1
  tls %s %s
  handle_path /app/* {
    reverse_proxy %[5]s
  }
  handle /limit {
    request_body {
      max_size 1000
    }
    reverse_proxy %[5]s
  }
  respond /none 404
  reverse_proxy %[5]s
}
`, own, portOf(caddy.address), cert, keyFile, caddy.target.address)))

	startFile(t, filepath.Dir(write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: [%q], http: []}
certificates: {files: [{cert: %s, key: %s}]}
sites:
  - hosts: [localhost]
    routes:
      - {to: %[4]q, rewrite_urls: true}
      - {path: /app, strip_prefix: true, to: %[4]q}
      - {path: /limit, body_limit: 1000, to: %[4]q}
      - {path: /none, respond: {status: 404}}
`, ours.address, cert, keyFile, ours.target.address))))

	nginx.version = versionOf(t, "nginx", "-v")
	haproxy.version = versionOf(t, "haproxy", "-v")
	caddy.version = versionOf(t, "caddy", "version")
	for _, p := range peers {
		awaitPort(t, p.name, p.address)
	}
	return peers
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// versionOf is the first number that a program says of itself.
func versionOf(t *testing.T, name, flag string) string {
	t.Helper()
	out, err := exec.Command(need(t, name), flag).CombinedOutput()
	if err != nil {
		t.Fatal(name, err)
	}
	for word := range strings.FieldsFuncSeq(string(out), func(r rune) bool { return strings.ContainsRune(" \n/-+", r) }) {
		if strings.Trim(word, "v.0123456789") == "" && strings.Contains(word, ".") {
			return strings.TrimPrefix(word, "v")
		}
	}
	t.Fatalf("%s says no version: %s", name, out)
	return ""
}

// glimpse is what a client and the target see of an exchange.
type glimpse struct {
	status int
	fields http.Header
	body   string
	end    string // of a stream or connection, where it is not as it should be
	asked  string // by the proxy, at the target
}

// one sends bytes over HTTP/1.1. PORT in them is the proxy's.
func (p *peer) one(t *testing.T, text string) (s glimpse) {
	t.Helper()
	conn := p.dial(t, "http/1.1")
	defer conn.Close()
	p.target.take()
	if _, err := io.WriteString(conn, strings.ReplaceAll(text, "PORT", portOf(p.address))); err != nil {
		t.Error(p.name, err)
	}

	method, _, _ := strings.Cut(text, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.end = "the connection is closed"
		return s
	}
	body, err := io.ReadAll(response.Body)
	s = glimpse{status: response.StatusCode, fields: response.Header, body: string(body), asked: p.target.take()}
	if err != nil {
		s.end = "cut"
	}
	return s
}

// two asks over HTTP/2, with fields of the form "name=value".
func (p *peer) two(t *testing.T, path string, more ...string) (s glimpse) {
	t.Helper()
	conn := p.dial(t, "h2")
	defer conn.Close()
	p.target.take()
	out := frame([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0)
	fields := append([]string{":method=GET", ":scheme=https", ":authority=localhost:" + portOf(p.address), ":path=" + path}, more...)
	if _, err := conn.Write(frame(out, http2.FrameHeaders, whole, 1, block(fields...)...)); err != nil {
		t.Error(p.name, err)
	}

	s.fields = http.Header{}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			s.end = "the connection is closed"
			break
		}
		if s.frame(f, framer) {
			break
		}
	}
	s.asked = p.target.take()
	return s
}

// frame takes a frame of the answer, and says whether it is the last. Behind the end of the stream comes a PING, as a reset may follow that.
func (s *glimpse) frame(f http2.Frame, framer *http2.Framer) (last bool) {
	ends := false
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		s.status, _ = strconv.Atoi(f.PseudoValue("status"))
		for _, field := range f.RegularFields() {
			s.fields.Add(field.Name, field.Value)
		}
		ends = f.StreamEnded()
	case *http2.DataFrame:
		s.body += string(f.Data())
		ends = f.StreamEnded()
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = framer.WriteSettingsAck()
		}
	case *http2.RSTStreamFrame:
		s.end = "RST_STREAM " + f.ErrCode.String()
		return true
	case *http2.GoAwayFrame:
		s.end = "GOAWAY " + f.ErrCode.String()
	case *http2.PingFrame:
		return f.IsAck()
	}
	if ends {
		_ = framer.WritePing(false, [8]byte{})
	}
	return false
}

func (p *peer) dial(t *testing.T, protocol string) net.Conn {
	t.Helper()
	conf := p.tls.Clone()
	conf.NextProtos = []string{protocol}
	d := tls.Dialer{Config: conf}
	conn, err := d.DialContext(context.Background(), "tcp", p.address)
	if err != nil {
		t.Fatal(p.name, err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}
