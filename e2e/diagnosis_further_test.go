//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// workbench is what scenarios are made with.
type workbench struct {
	ca, middle       *authority
	local, hurried   *edge
	file             func(name string, content []byte) string
	run              func(environment []string, name string, args ...string) func(*testing.T)
	curl             func(e *edge, name string, args ...string) func(*testing.T)
	client           func(e *edge, args ...string) func(*testing.T)
	request          func(e *edge, host string, args ...string) func(*testing.T)
	raw              func(e *edge, payload string, end func(net.Conn)) func(*testing.T)
	hello            string
	testRoot, root   string
	answered         func(func(net.Conn)) func(net.Conn)
	waiting, closing func(net.Conn)

	curlPath, openssl, python, node string
	java                            func(e *edge, options ...string) func(*testing.T)
}

// further are scenarios by kinds: what is wrong with our certificate, what else clients speak, who has closed, what overlaps.
func (k workbench) further(t *testing.T) []scenario {
	all := k.certificates(t)
	all = append(all, k.clients(t)...)
	all = append(all, k.names(t)...)
	all = append(all, k.protocols(t)...)
	all = append(all, k.records()...)
	all = append(all, k.overlap()...)
	all = append(all, k.ends(t)...)
	all = append(all, k.reasons(t)...)
	return append(all, k.kinds(t)...)
}

// site is a certificate's template for one host.
func site(name string, change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if change != nil {
		change(c)
	}
	return c
}

// certificates are situations in which something is wrong with ours.
func (k workbench) certificates(t *testing.T) []scenario {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bounded := boundedAuthority(t, k.ca)
	feature, _ := asn1.Marshal([]int{5})
	now := time.Now()
	policy, _ := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
	var b bytes.Buffer
	b.WriteString("certificates:\n  files:\n")
	files, hosts := map[string][]byte{}, []string{}
	add := func(host string, template *x509.Certificate, by *authority, key any, above ...*authority) {
		der, key := sign(t, template, by, key)
		chain := [][]byte{der}
		for _, a := range above {
			chain = append(chain, a.cert.Raw)
		}
		files[host+".pem"], files[host+"-key.pem"] = pemOf("CERTIFICATE", chain...), keyPEM(t, key)
		fmt.Fprintf(&b, "    - {cert: %[1]s.pem, key: %[1]s-key.pem}\n", host)
		hosts = append(hosts, host)
	}
	add("private.example", site("private.example", nil), k.ca, nil)
	add("chained.example", site("chained.example", nil), k.middle, nil, k.middle)
	add("self.example", site("self.example", nil), nil, nil)
	add("clients.example", site("clients.example", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), k.ca, nil)
	add("early.example", site("early.example", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(48*time.Hour), now.Add(96*time.Hour) }), k.ca, nil)
	add("late.example", site("late.example", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-96*time.Hour), now.Add(-48*time.Hour) }), k.ca, nil)
	add("bounded.example", site("bounded.example", nil), bounded, nil, bounded)
	add("staple.example", site("staple.example", func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: feature}}
	}), k.ca, nil)
	add("long.example", site("long.example", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(1000*24*time.Hour) }), k.ca, nil)
	add("logs.example", site("logs.example", func(c *x509.Certificate) { c.Policies = []x509.OID{policy} }), k.ca, nil)
	add("ed.example", site("ed.example", nil), k.ca, edKey)
	add("curve.example", site("curve.example", nil), k.ca, p521)
	add("rsa.example", site("rsa.example", nil), k.ca, rsaKey)
	for _, host := range hosts {
		if host == hosts[0] {
			b.WriteString("sites:\n")
		}
		fmt.Fprintf(&b, "  - hosts: [%s]\n", host)
	}
	e := newEdge(t, b.String(), files)
	trusting := []string{"--cacert", k.testRoot}
	open := func(host string, args ...string) func(*testing.T) {
		return k.client(e, append([]string{"-servername", host, "-verify_return_error", "-CAfile", k.testRoot}, args...)...)
	}
	python := func(host, setup string) func(*testing.T) {
		return k.run(nil, k.python, "-c", fmt.Sprintf(`
import socket, ssl
context = ssl.create_default_context(cafile=%q)
%s
with socket.create_connection(("127.0.0.1", %s)) as raw:
    with context.wrap_socket(raw, server_hostname=%q) as conn:
        conn.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while conn.recv(65536): pass
`, k.testRoot, setup, e.port, host))
	}
	gopher := func(host string, change func(*tls.Config)) func(*testing.T) {
		return func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(k.ca.cert)
			config := &tls.Config{ServerName: host, RootCAs: roots}
			if change != nil {
				change(config)
			}
			if conn, err := tls.Dial("tcp", "127.0.0.1:"+e.port, config); err == nil {
				_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}
	}
	node := func(host, options string) func(*testing.T) {
		return k.run([]string{"NODE_EXTRA_CA_CERTS=" + k.testRoot}, k.node, "-e", fmt.Sprintf(`
const s = require("tls").connect({host: "127.0.0.1", port: %s, servername: %q, %s}, () => { s.end("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); s.resume() }); s.on("error", () => {})`, e.port, host, options))
	}
	return []scenario{
		{e, "curl", "trusts a company's own CA", k.curl(e, "private.example", trusting...), []string{"complete"}},
		{e, "curl", "does not trust a company's own CA, of which no intermediate is sent", k.curl(e, "private.example"), []string{"unknown_ca", "may be incomplete", "or the client does not trust the CA", "(likely)"}},
		{e, "curl", "trusts the root above an intermediate", k.curl(e, "chained.example", trusting...), []string{"complete"}},
		{e, "curl", "does not trust the root above an intermediate", k.curl(e, "chained.example"), []string{"unknown_ca", "does not trust the CA", "Test Intermediate", "(likely)"}},
		{e, "curl", "a self-signed certificate", k.curl(e, "self.example"), []string{"unknown_ca", "which is self-signed"}},
		{e, "Go", "a self-signed certificate", gopher("self.example", nil), []string{"bad_certificate", "self-signed"}},
		{e, "Python", "a self-signed certificate", python("self.example", ""), []string{"unknown_ca", "self-signed"}},
		{e, "OpenSSL", "a certificate for clients", open("clients.example"), []string{"unsupported_certificate", "it is not for servers", "(likely)"}},
		{e, "Go", "a certificate for clients", gopher("clients.example", nil), []string{"bad_certificate", "it is not for servers"}},
		{e, "OpenSSL", "a certificate that is not valid yet", open("early.example"), []string{"bad_certificate", "it is not valid before"}},
		{e, "Go", "a certificate that is not valid yet", gopher("early.example", nil), []string{"bad_certificate", "it is not valid before"}},
		{e, "Python", "the certificate has expired", python("late.example", ""), []string{"certificate_expired", "our certificate has expired", "(certain)"}},
		{e, "Go", "the certificate has expired", gopher("late.example", nil), []string{"bad_certificate", "it expired on"}},
		{e, "Node.js", "the certificate has expired", node("late.example", ""), []string{"it expired on"}},
		{e, "Go", "its clock is a year late", gopher("private.example", func(c *tls.Config) { c.Time = func() time.Time { return now.AddDate(1, 0, 0) } }), []string{"bad_certificate", "does not trust the CA"}},
		{e, "OpenSSL", "its clock is a year late", open("chained.example", "-attime", fmt.Sprint(now.AddDate(1, 0, 0).Unix())), []string{"certificate_expired", "the client's clock is wrong", "(likely)"}},
		{e, "OpenSSL", "its clock is a year early", open("chained.example", "-attime", fmt.Sprint(now.AddDate(-1, 0, 0).Unix())), []string{"bad_certificate", "its clock is wrong"}},
		{e, "OpenSSL", "a CA above may not sign for the name", open("bounded.example"), []string{"name constraints"}},
		{e, "Go", "a CA above may not sign for the name", gopher("bounded.example", nil), []string{"bad_certificate", "name constraints"}},
		{e, "Python", "asks for another name than it checks", python("chained.example", "context.check_hostname = True; w = context.wrap_socket; context.wrap_socket = lambda s, server_hostname: w(s, server_hostname='private.example')"), []string{"complete"}},
		{e, "OpenSSL", "checks another name than it sends", open("chained.example", "-verify_hostname", "other.example"), []string{"bad_certificate", "expects another name or key"}},
		{e, "Go", "checks another name than it sends", gopher("chained.example", func(c *tls.Config) {
			c.InsecureSkipVerify = true
			c.VerifyConnection = func(tls.ConnectionState) error {
				return x509.HostnameError{Certificate: k.ca.cert, Host: "other.example"}
			}
		}), []string{"bad_certificate", "expects another name or key"}},
		{e, "OpenSSL", "wants revocation lists, and has none", open("chained.example", "-crl_check"), []string{"unknown_ca", "has no revocation list", "(likely)"}},
		{e, "OpenSSL", "allows no intermediates", open("chained.example", "-verify_depth", "0"), []string{"unknown_ca", "allows no chain of this length", "(likely)"}},
		{e, "curl", "pins another key", k.curl(e, "chained.example", append(trusting, "--pinnedpubkey", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")...), []string{"closed after a complete handshake", "a pin", "(possible)"}},
		{e, "curl", "wants a stapled OCSP response", k.curl(e, "staple.example", append(trusting, "--cert-status")...), []string{"must-staple"}},
		{e, "Go", "a certificate for 1000 days, which it accepts", gopher("long.example", nil), []string{"complete", "note: a browser would refuse our certificate: it is valid for 1000 days"}},
		{e, "Go", "a certificate that is in no public log, which it accepts", gopher("logs.example", nil), []string{"complete", "certificate transparency"}},
		{e, "Go", "an Ed25519 key, which it accepts", gopher("ed.example", nil), []string{"complete", "browsers do not support its key type"}},
		{e, "OpenSSL", "supports no Ed25519", open("ed.example", "-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256"), []string{"handshake_failure", "no signature algorithm of our certificate's key"}},
		{e, "OpenSSL", "supports no P-521", open("curve.example", "-sigalgs", "ECDSA+SHA256"), []string{"handshake_failure", "no signature algorithm of our certificate's key"}},
		{e, "OpenSSL", "ECDSA certificates only", open("rsa.example", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), []string{"it can use ECDSA certificates only, and ours is RSA 2048"}},
		{e, "OpenSSL", "PKCS#1 signatures only, by TLS 1.3", open("rsa.example", "-tls1_3", "-sigalgs", "RSA+SHA256"), []string{"handshake_failure", "signature"}},
	}
}

// boundedAuthority may sign for b.example only.
func boundedAuthority(t *testing.T, by *authority) *authority {
	t.Helper()
	return authorityOf(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Bounded"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomains: []string{"b.example"}, PermittedDNSDomainsCritical: true,
	}, by)
}

// clients are programs with ways of their own.
func (k workbench) clients(t *testing.T) []scenario {
	wget, git, php, psql, mosquitto, tstclnt := need(t, "wget"), need(t, "git"), need(t, "php"), need(t, "psql"), need(t, "mosquitto_sub"), need(t, "tstclnt")
	e := k.local
	url := "https://localhost:" + e.port + "/"
	home := []string{"HOME=" + t.TempDir(), "GIT_TERMINAL_PROMPT=0"}
	nss := t.TempDir()
	if out, err := exec.Command(need(t, "certutil"), "-N", "-d", "sql:"+nss, "--empty-password").CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	return []scenario{
		{e, "wget", "trusts the CA", k.run(nil, wget, "-qO/dev/null", "--tries=1", "--ca-certificate="+k.root, url), []string{"complete"}},
		{e, "wget", "does not trust the CA", k.run(nil, wget, "-qO/dev/null", "--tries=1", url), []string{"closed after a complete handshake", "it does not trust the CA", "(possible)"}},
		{e, "git", "trusts the CA", k.run(append(home, "GIT_SSL_CAINFO="+k.root), git, "ls-remote", url), []string{"complete"}},
		{e, "git", "does not trust the CA", k.run(home, git, "ls-remote", url), []string{"does not trust the CA"}},
		{e, "PHP", "does not trust the CA", k.run(nil, php, "-r", "@file_get_contents('"+url+"');"), []string{"unknown_ca", "does not trust the CA"}},
		{e, "NSS", "does not trust the CA", k.run(nil, tstclnt, "-h", "localhost", "-p", e.port, "-d", "sql:"+nss, "-4"), []string{"does not trust the CA"}},
		{e, "Mosquitto", "MQTT over TLS, does not trust the CA", k.run(nil, mosquitto, "-h", "localhost", "-p", e.port, "-t", "x", "--capath", "/etc/ssl/certs", "-W", "5", "-C", "1"), []string{"does not trust the CA"}},
		{e, "Mosquitto", "MQTT without TLS", k.run(nil, mosquitto, "-h", "127.0.0.1", "-p", e.port, "-t", "x", "-W", "5", "-C", "1"), []string{"MQTT", "on a TLS port"}},
		{e, "psql", "on a port that has no database", k.run(nil, psql, "host=127.0.0.1 port="+e.port+" sslmode=require user=x dbname=x connect_timeout=5"), []string{"PostgreSQL", "on a TLS port"}},
		{e, "psql", "without TLS", k.run(nil, psql, "host=127.0.0.1 port="+e.port+" sslmode=disable user=x dbname=x connect_timeout=5"), []string{"PostgreSQL's protocol without TLS"}},
		{e, "redis-cli", "without TLS", k.run(nil, need(t, "redis-cli"), "-p", e.port, "PING"), []string{"Redis"}},
		{e, "git", "git:// on the TLS port", k.run(home, git, "ls-remote", "git://127.0.0.1:"+e.port+"/x"), []string{"the git protocol"}},
		{e, "curl", "takes padlock for a SOCKS5 proxy", k.run(nil, k.curlPath, "-s", "--max-time", "5", "-x", "socks5://127.0.0.1:"+e.port, "http://192.0.2.1/"), []string{"SOCKS5"}},
		{e, "curl", "takes padlock for a SOCKS4 proxy", k.run(nil, k.curlPath, "-s", "--max-time", "5", "-x", "socks4://127.0.0.1:"+e.port, "http://192.0.2.1/"), []string{"SOCKS4"}},
		{e, "curl", "takes padlock for a proxy, https://", k.run(nil, k.curlPath, "-s", "--max-time", "5", "-x", "http://127.0.0.1:"+e.port, "https://192.0.2.1/"), []string{"HTTP CONNECT"}},
		{e, "curl", "takes padlock for a proxy, http://", k.run(nil, k.curlPath, "-s", "--max-time", "5", "-x", "http://127.0.0.1:"+e.port, "http://192.0.2.1/"), []string{"as to a forward proxy"}},
		{e, "curl", "RTSP", k.run(nil, k.curlPath, "-s", "--max-time", "5", "rtsp://127.0.0.1:"+e.port+"/x"), []string{"RTSP"}},
		{e, "curl", "MQTT", k.run(nil, k.curlPath, "-s", "--max-time", "5", "mqtt://127.0.0.1:"+e.port+"/x"), []string{"MQTT"}},
		{e, "OpenSSL", "StartTLS of LDAP", k.client(e, "-starttls", "ldap"), []string{"LDAP"}},
		{e, "OpenSSL", "StartTLS of XMPP", k.client(e, "-starttls", "xmpp"), []string{"XMPP"}},
		{e, "OpenSSL", "StartTLS of PostgreSQL", k.client(e, "-starttls", "postgres"), []string{"PostgreSQL"}},
		{k.hurried, "OpenSSL", "StartTLS of SMTP, which waits for a greeting", k.client(k.hurried, "-starttls", "smtp"), []string{"waits for the server to speak first"}},
		{k.hurried, "OpenSSL", "StartTLS of MySQL, which waits for a greeting", k.client(k.hurried, "-starttls", "mysql"), []string{"waits for the server to speak first"}},
	}
}

// names are what clients ask for that padlock does not have, or not here.
func (k workbench) names(t *testing.T) []scenario {
	other := freePort(t)
	e := newEdge(t, `certificates: {issuers: [{directory: "https://127.0.0.1:1/directory"}]}
sites:
  - hosts: [shop.localhost, "*.wild.localhost"]
  - {hosts: [elsewhere.localhost], listen: ["127.0.0.1:`+other+`"]}
  - hosts: [pending.example.com]
`, nil)
	ask := func(name string) func(*testing.T) { return k.client(e, "-servername", name) }
	return []scenario{
		{e, "OpenSSL", "a name that is served on another port", ask("elsewhere.localhost"), []string{"unrecognized_name", "its site is served on port"}},
		{e, "OpenSSL", "a name whose certificate is still to come", ask("pending.example.com"), []string{"unrecognized_name", "it has a site, but no certificate yet", "the CA cannot be reached"}},
		{e, "OpenSSL", "a name with a letter too many", ask("shopp.localhost"), []string{"unrecognized_name", "padlock serves shop.localhost"}},
		{e, "OpenSSL", "a name too deep for a wildcard", ask("a.b.wild.localhost"), []string{"*.wild.localhost stands for one label only"}},
		{e, "OpenSSL", "a name with a port", ask("shop.localhost:8443"), []string{"that no certificate can have", "it has a port", "(certain)"}},
		{e, "OpenSSL", "a name with a dot at its end", ask("shop.localhost."), []string{"ends with a dot", "(certain)"}},
		{e, "OpenSSL", "a URL instead of a name", ask("https://shop.localhost/"), []string{"it has a scheme"}},
		{e, "OpenSSL", "a wildcard instead of a name", ask("*.wild.localhost"), []string{"it is a wildcard"}},
		{e, "OpenSSL", "a name in letters beyond ASCII", ask("bücher.localhost"), []string{"punycode"}},
		{e, "OpenSSL", "asks as a CA that validates a name", k.client(e, "-servername", "shop.localhost", "-alpn", "acme-tls/1"), []string{"a CA validates the name"}},
	}
}

// protocols are other protocols' first bytes.
func (k workbench) protocols(t *testing.T) []scenario {
	dns := []byte("\x00\x00\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01")
	dns[1] = byte(len(dns) - 2)
	var all []scenario
	for _, p := range []struct{ client, situation, bytes, want string }{
		{"a mail program", "SMTP", "EHLO mail.example.com\r\n", "SMTP on a TLS port"},
		{"a mail program", "IMAP", "a001 CAPABILITY\r\n", "IMAP on a TLS port"},
		{"a mail program", "POP3", "CAPA\r\n", "POP3 on a TLS port"},
		{"an FTP client", "AUTH TLS", "AUTH TLS\r\n", "FTP on a TLS port"},
		{"Remote Desktop", "its connection request", "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00", "RDP"},
		{"an LDAP client", "a simple bind", "0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", "LDAP on a TLS port"},
		{"an AMQP client", "amqp:// instead of amqps://", "AMQP\x00\x00\x09\x01", "AMQP on a TLS port"},
		{"a resolver", "DNS over TCP", string(dns), "DNS over TCP"},
		{"a Kerberos client", "AS-REQ", "\x00\x00\x00\xa5\x6a\x81\xa2\x30\x81\x9f", "Kerberos"},
		{"a memcached client", "stats", "stats\r\n", "memcached"},
		{"a memcached client", "its binary protocol", "\x80\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "memcached"},
		{"a peer", "BitTorrent", "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05", "BitTorrent"},
		{"a MySQL client", "its answer to a greeting", "\x20\x00\x00\x01\x85\xae\xff\x19\x00\x00\x00\x01\xff", "MySQL"},
		{"a VoIP phone", "SIP", "REGISTER sip:example.com SIP/2.0\r\n", "SIP"},
		{"a scanner", "binary of its own", "\x01\x02\x03\x04\x05\x06\x07\x08", `begins with "\u{1}\u{2}`},
	} {
		all = append(all, scenario{k.local, p.client, p.situation, k.raw(k.local, p.bytes, k.waiting), []string{p.want}})
	}
	return all
}

// records are of TLS, and no hello, or none that is taken.
func (k workbench) records() []scenario {
	var large bytes.Buffer // a message of 128 KiB, which its head says at once
	large.WriteString("\x16\x03\x01\x40\x00\x01\x02\x00\x00")
	large.Write(make([]byte, 16380))
	return []scenario{
		{k.local, "a client that gave up", "an alert, and no hello", k.raw(k.local, "\x15\x03\x01\x00\x02\x02\x28", k.waiting), []string{"a TLS alert and no hello", "handshake_failure"}},
		{k.local, "a connection that was moved", "encrypted data, and no hello", k.raw(k.local, "\x17\x03\x03\x00\x20"+strings.Repeat("x", 32), k.waiting), []string{"encrypted TLS data and no hello"}},
		{k.local, "a scanner", "a heartbeat, and no hello", k.raw(k.local, "\x18\x03\x02\x00\x03\x01\x40\x00", k.waiting), []string{"heartbeat"}},
		{k.local, "a faulty client", "a hello of 128 KiB", k.raw(k.local, large.String(), k.waiting), []string{"larger than padlock takes", "the client's hello has 131072 bytes", "(certain)"}},
		{k.local, "a faulty client", "a record of 20,000 bytes", k.raw(k.local, "\x16\x03\x01\x4e\x20"+strings.Repeat("x", 64), k.waiting), []string{"record_overflow", "a record that is larger than TLS allows"}},
		{k.local, "a server", "its hello instead of a client's", k.raw(k.local, "\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03"+strings.Repeat("x", 32)+"\x00\x13\x01\x00", k.waiting), []string{"unexpected_message"}},
		{k.local, "a program for UDP", "DTLS", k.raw(k.local, "\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40", k.waiting), []string{"DTLS"}},
		{k.hurried, "a slow client", "half a hello until the timeout", k.raw(k.hurried, k.hello[:100], k.waiting), []string{"no whole hello until the handshake timeout", "the client sent 100 of at least"}},
		{k.hurried, "a SOCKS5 client", "waits for an answer until the timeout", k.raw(k.hurried, "\x05\x01\x00", k.waiting), []string{"SOCKS5"}},
	}
}

// overlap is what client and server have in common, or not.
func (k workbench) overlap() []scenario {
	e := k.local
	open := func(args ...string) func(*testing.T) {
		return k.client(e, append([]string{"-servername", "localhost"}, args...)...)
	}
	return []scenario{
		{e, "OpenSSL", "TLS 1.2 with suites in common, and no group", open("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-groups", "X448"), []string{"no key-exchange group in common", "cipher suites are in common", "it offers X448"}},
		{e, "OpenSSL", "DHE only", open("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"), []string{"finite-field Diffie-Hellman only"}},
		{e, "OpenSSL", "RSA key exchange only", open("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384"), []string{"RSA key exchange only"}},
		{e, "OpenSSL", "TLS 1.3 with a suite that few have", open("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"), []string{"of TLS 1.3's it offers none that padlock has"}},
		{e, "OpenSSL", "pre-shared keys only", open("-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256@SECLEVEL=0", "-psk", "1a2b3c"), []string{"pre-shared keys only"}},
		{e, "OpenSSL", "Camellia only", open("-tls1_2", "-cipher", "ECDHE-ECDSA-CAMELLIA128-SHA256"), []string{"kinds only that padlock does not have"}},
		{e, "OpenSSL", "HTTP/1.1 in capital letters by ALPN", open("-alpn", "HTTP/1.1"), []string{"no application protocol in common", "it offers HTTP/1.1"}},
		{e, "OpenSSL", "http/2 instead of h2 by ALPN", open("-alpn", "http/2"), []string{"no application protocol in common", "it offers http/2"}},
		{e, "OpenSSL", "TLS 1.2 without the curve of our certificate", open("-tls1_2", "-groups", "P-521"), []string{"the client hung up", "does not offer the curve", "it offers secp521r1"}},
		{e, "OpenSSL", "finite-field groups only", open("-groups", "ffdhe2048"), []string{"no key-exchange group in common", "ffdhe2048"}},
	}
}

// ends are connections that are closed by one side or the other, after the handshake or in it.
func (k workbench) ends(t *testing.T) []scenario {
	dead := freePort(t)
	idle := newEdge(t, "timeouts: {idle: 1s}\nsites: [{hosts: [localhost]}]\n", nil)
	database := newEdge(t, `timeouts: {handshake: 2s}
sites:
  - {hosts: [db.localhost], tcp: {to: ["127.0.0.1:`+dead+`"], starttls: postgres}}
  - hosts: [web.localhost]
`, nil)
	psql := need(t, "psql")
	plainPort := freePort(t)
	plain := newEdgeAt(t, "listen: {https: [\"127.0.0.1:0\"], http: [\"127.0.0.1:"+plainPort+"\"]}\naccess_log: {format: \"off\"}\n", "sites: [{hosts: [localhost]}]\n", nil)
	balancer := newEdgeAt(t, "listen: {https: [\"127.0.0.1:0\"], http: [], proxy_protocol: {from: [192.0.2.1]}}\naccess_log: {format: \"off\"}\n", "sites: [{hosts: [localhost]}]\n", nil)
	return []scenario{
		{k.local, "OpenSSL", "asks to renegotiate", k.talk(k.local, "R\n", "-tls1_2"), []string{"server hung up", "asked to renegotiate, which padlock refuses", "(certain)"}},
		{k.local, "a faulty client", "its first data is corrupt", corrupting(k.local), []string{"server hung up", "first data after the handshake could not be decrypted"}},
		{idle, "OpenSSL", "sends nothing, and keeps the connection open", k.silent(idle), []string{"server hung up", "padlock closed the connection"}},
		{database, "psql", "the database is down", k.run(nil, psql, "host=db.localhost hostaddr=127.0.0.1 port="+database.port+" sslmode=require user=x dbname=x connect_timeout=5"), []string{"server hung up", "before it was forwarded", "refused"}},
		{database, "psql", "names a site that is no database", k.run(nil, psql, "host=web.localhost hostaddr=127.0.0.1 port="+database.port+" sslmode=require user=x dbname=x connect_timeout=5"), []string{"server hung up", "the site that it names is no database", "(certain)"}},
		{database, "a client of a database", "connects, and says nothing until the timeout", k.raw(database, "", k.waiting), []string{"sent nothing until the handshake timeout"}},
		{plain, "curl", "https:// on the port of plain HTTP", k.run(nil, k.curlPath, "-sk", "https://127.0.0.1:"+plainPort+"/"), []string{"spoke TLS on the port of plain HTTP", "(certain)"}},
		{balancer, "a load balancer", "PROXY protocol, from an address that is not listed", k.raw(balancer, "PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n", k.waiting), []string{"the PROXY protocol on a TLS port"}},
		{k.local, "a client behind a firewall", "reset in the middle of its hello", k.raw(k.local, k.hello[:100], func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), []string{"left in the middle of its hello", "(possible)"}},
		{k.local, "OpenSSL", "offers X448 first, and leaves at the retry", retrying(k.local), []string{"HelloRetryRequest"}},
	}
}

// talk is s_client that says something after the handshake, and ends after a moment.
func (k workbench) talk(e *edge, text string, args ...string) func(*testing.T) {
	return func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		c := exec.CommandContext(ctx, k.openssl, append([]string{"s_client", "-connect", "127.0.0.1:" + e.port, "-servername", "localhost"}, args...)...)
		input, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		said := &log{more: make(chan struct{})}
		c.Stdout = said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said.wait(t, "Verify return code")
		_, _ = io.WriteString(input, text)
		_ = c.Wait() // padlock ends it
	}
}

// silent is a client that waits for the server's end.
func (k workbench) silent(e *edge) func(*testing.T) {
	return func(t *testing.T) {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+e.port, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
	}
}

// corrupt changes a bit of what follows the handshake.
type corrupt struct {
	net.Conn
	armed bool
}

func (c *corrupt) Write(p []byte) (int, error) {
	if c.armed && len(p) > 0 {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
	}
	return c.Conn.Write(p)
}

func corrupting(e *edge) func(*testing.T) {
	return func(t *testing.T) {
		raw, err := net.Dial("tcp", "127.0.0.1:"+e.port)
		if err != nil {
			t.Fatal(err)
		}
		below := &corrupt{Conn: raw}
		conn := tls.Client(below, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		defer conn.Close()
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		below.armed = true
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
	}
}

// retrying is a client that offers a key share for a group that is not ours, and closes when it is asked for another.
func retrying(e *edge) func(*testing.T) {
	return func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-servername", "localhost", "-groups", "X448:X25519")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		client, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		hello := make([]byte, 4096)
		n, err := client.Read(hello)
		if err != nil {
			t.Fatal(err)
		}
		server, err := net.Dial("tcp", "127.0.0.1:"+e.port)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		_, _ = server.Write(hello[:n])
		_, _ = server.Read(make([]byte, 4096))
	}
}
