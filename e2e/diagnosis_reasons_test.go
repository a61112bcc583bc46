//go:build e2e

package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"testing"
	"time"
)

// reasons are situations that look like a certificate that is not trusted, and are something else; and what stands above a client's certificate.
func (k workbench) reasons(t *testing.T) []scenario {
	gnutls, ldapsearch := need(t, "gnutls-cli"), need(t, "ldapsearch")
	slow := silentBackend(t)
	bare := newAuthority(t, "Bare Root", nil)
	bare.cert.SubjectKeyId = nil // what it signs does not say by which key
	chainedDER, chainedKey := sign(t, site("chained.localhost", nil), k.middle, nil)
	bareDER, bareKey := sign(t, site("bare.localhost", nil), bare, nil)
	e := newEdge(t, fmt.Sprintf(`certificates: {files: [{cert: chained.pem, key: chained-key.pem}, {cert: bare.pem, key: bare-key.pem}]}
timeouts: {idle: 3s}
sites:
  - {hosts: [chained.localhost], routes: [{to: "%s"}]}
  - hosts: [bare.localhost]
`, slow), map[string][]byte{
		"chained.pem": pemOf("CERTIFICATE", chainedDER, k.middle.cert.Raw), "chained-key.pem": keyPEM(t, chainedKey),
		"bare.pem": pemOf("CERTIFICATE", bareDER), "bare-key.pem": keyPEM(t, bareKey),
	})
	bareRoot := k.file("bare-root.pem", pemOf("CERTIFICATE", bare.cert.Raw))
	open := func(args ...string) func(*testing.T) {
		return k.client(e, append([]string{"-servername", "chained.localhost", "-verify_return_error", "-CAfile", k.testRoot}, args...)...)
	}
	strict := func(args ...string) func(*testing.T) {
		return k.client(e, append([]string{"-servername", "bare.localhost", "-verify_return_error", "-CAfile", bareRoot, "-x509_strict"}, args...)...)
	}
	python := func(after string) func(*testing.T) {
		return k.run(nil, k.python, "-c", fmt.Sprintf(`
import socket, ssl, time
context = ssl.create_default_context(cafile=%q)
raw = socket.create_connection(("127.0.0.1", %s))
raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
conn = context.wrap_socket(raw, server_hostname="chained.localhost")
%s
`, k.testRoot, e.port, after))
	}
	mail := func(scheme, seconds string) func(*testing.T) {
		return k.run(nil, k.curlPath, "-sSk", "--max-time", seconds, "--resolve", "chained.localhost:"+e.port+":127.0.0.1", scheme+"://chained.localhost:"+e.port+"/")
	}
	gnu := func(args ...string) func(*testing.T) {
		return k.run(nil, gnutls, append([]string{"localhost", "-p", k.local.port}, args...)...)
	}
	key := []string{"-psk", "1a2b3c4d", "-psk_identity", "alice"}

	all := []scenario{
		{e, "curl", "gives up waiting for the answer to its request", k.curl(e, "chained.localhost", "--cacert", k.testRoot, "--max-time", "1"), []string{"complete"}},
		{e, "Python", "sends half a request, and waits no longer", python(`conn.sendall(b"GET / HT"); time.sleep(0.3); conn.close()`), []string{"complete"}},
		{e, "Python", "closes after the handshake", python("conn.close()"), []string{"gave up or was stopped", "does not trust the CA", "(possible)"}},
		{e, "Python", "waits after the handshake, and closes", python("time.sleep(2); conn.close()"), []string{"the client waited and closed", "(possible)"}},
		{e, "curl", "a file of CAs that it cannot read", k.curl(e, "chained.localhost", "--cacert", "/nonexistent"), []string{"could not read a file of CAs", "(possible)"}},
		{e, "curl", "a revocation list that it cannot read", k.curl(e, "chained.localhost", "--cacert", k.testRoot, "--crlfile", "/nonexistent"), []string{"or of revocation lists", "(possible)"}},
		{e, "curl", "a client certificate that it cannot read", k.curl(e, "chained.localhost", "--cert", "/nonexistent"), []string{"cannot use its own settings for TLS"}},
		{e, "curl", "imaps://, and gives up", mail("imaps", "2"), []string{"client hung up", "it waits for the server to speak first", "it names no protocol", "(possible)"}},
		{e, "curl", "smtps://, until padlock closes", mail("smtps", "9"), []string{"server hung up", "padlock closed the connection", "it names no protocol", "(certain)"}},
		{k.local, "a mail program", "waits for a greeting without TLS, and leaves", k.raw(k.local, "", func(net.Conn) { time.Sleep(1500 * time.Millisecond) }), []string{"connected, waited, and left without a byte", "waits for the server's greeting"}},

		{e, "OpenSSL", "its security level demands a larger key", open("-auth_level", "5"), []string{"bad_certificate", "its security level demands a stronger key", "OpenSSL would say unknown_ca", "(likely)"}},
		{e, "OpenSSL", "its security level demands a larger key, TLS 1.2", open("-auth_level", "5", "-tls1_2"), []string{"bad_certificate", "its security level demands a stronger key"}},
		{e, "OpenSSL", "its security level excludes our signatures", open("-cipher", "DEFAULT@SECLEVEL=4"), []string{"no signature algorithm of our certificate's key", "as at a high security level"}},
		{e, "OpenSSL", "checks for another purpose", open("-purpose", "smimesign"), []string{"unsupported_certificate", "another purpose than that of a server"}},
		{e, "OpenSSL", "checks for another purpose, TLS 1.2", open("-purpose", "smimesign", "-tls1_2"), []string{"unsupported_certificate", "for another purpose than the client checks"}},
		{e, "OpenSSL", "wants a policy", open("-policy", "1.2.3.4", "-explicit_policy"), []string{"certificate_unknown", "by a rule of its own", "a policy"}},
		{e, "OpenSSL", "checks strictly", strict(), []string{"certificate_unknown", "strict checks", "it has no authority key identifier"}},
		{e, "OpenSSL", "checks strictly, TLS 1.2", strict("-tls1_2"), []string{"certificate_unknown", "strict checks", "it has no authority key identifier", "(possible)"}},
		{e, "OpenSSL", "looks for another key (DANE)", open("-dane_tlsa_domain", "chained.localhost", "-dane_tlsa_rrdata", "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"), []string{"bad_certificate", "expects another name or key"}},
		{e, "OpenSSL", "pads its records, and leaves", open("-record_padding", "64"), []string{"closed after a complete handshake", "only probed", "(possible)"}},
		{e, "OpenSSL", "a pre-shared key, and leaves", open(key...), []string{"it offered a pre-shared key", "(possible)"}},
		{e, "OpenSSL", "a pre-shared key, and a request", k.request(e, "bare.localhost", key...), []string{"complete", "a pre-shared key that is no ticket"}},
		{e, "OpenSSL", "a pre-shared key, and does not trust the CA", k.client(e, append([]string{"-servername", "chained.localhost", "-verify_return_error"}, key...)...), []string{"unknown_ca", "does not trust the CA"}},

		{k.local, "GnuTLS", "does not trust the CA", gnu(), []string{"bad_certificate", "does not trust the CA"}},
		{k.local, "GnuTLS", "does not trust the CA, TLS 1.2", gnu("--priority", "NORMAL:-VERS-TLS1.3"), []string{"bad_certificate", "does not trust the CA"}},
		{k.local, "GnuTLS", "checks another name", gnu("--x509cafile", k.root, "--verify-hostname", "other.example"), []string{"bad_certificate", "expects another name or key"}},
		{k.local, "GnuTLS", "wants a revocation status", gnu("--x509cafile", k.root, "--ocsp"), []string{"bad_certificate", "wants a revocation status"}},
		{k.local, "GnuTLS", "256 bits at least", gnu("--x509cafile", k.root, "--priority", "SECURE256"), []string{"no signature algorithm of our certificate's key", "as at a high security level"}},
		{k.local, "ldapsearch", "ldaps://, does not trust the CA", k.run(nil, ldapsearch, "-x", "-H", "ldaps://localhost:"+k.local.port, "-b", "", "-o", "nettimeout=3"), []string{"closed after a complete handshake", "it does not trust the CA"}},
		{k.local, "Node.js", "a curve that is not served", k.run(nil, k.node, "-e", `require("https").get("https://localhost:`+k.local.port+`/", {family: 4, ecdhCurve: "secp256k1", maxVersion: "TLSv1.2"}, r => r.resume()).on("error", () => {})`), []string{"no key-exchange group in common", "it offers secp256k1"}},
		{k.local, "Java", "trusts only larger keys", k.java(k.local, "-Djava.security.properties="+k.file("larger.security", []byte("jdk.certpath.disabledAlgorithms=EC keySize < 384\n"))), []string{"no signature algorithm of our certificate's key"}},
	}
	return append(all, k.above(t)...)
}

// silentBackend accepts connections and never answers.
func silentBackend(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String()
}

// above are situations in which a client's own certificate is good, and what stands above it is not.
func (k workbench) above(t *testing.T) []scenario {
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	authorityWith := func(name string, by *authority, change func(*x509.Certificate)) *authority {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		change(template)
		return authorityOf(t, template, by)
	}
	stale := authorityWith("Stale Root", nil, past)
	staleMiddle := authorityWith("Stale Intermediate", k.ca, past)
	servers := authorityWith("Intermediate for Servers", k.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	replaced := newAuthority(t, "Test Root", nil)

	e := newEdge(t, "sites: [{hosts: [localhost], tls: {client_auth: {mode: require, ca: clients.pem}}}]\n", map[string][]byte{"clients.pem": pemOf("CERTIFICATE", k.ca.cert.Raw, stale.cert.Raw)})
	root := e.root(t)
	show := func(name string, by *authority, above ...*authority) func(*testing.T) {
		der, key := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, by, nil)
		chain := [][]byte{der}
		for _, a := range above {
			chain = append(chain, a.cert.Raw)
		}
		return k.curl(e, "localhost", "--cacert", root, "--cert", k.file(name+".pem", pemOf("CERTIFICATE", chain...)), "--key", k.file(name+"-key.pem", keyPEM(t, key)))
	}
	return []scenario{
		{e, "curl", "client certificate from a CA that has expired", show("dora", stale), []string{"server hung up", "certificate_expired", "a CA certificate above the client's has expired", "(likely)"}},
		{e, "curl", "client certificate below an intermediate that has expired", show("emil", staleMiddle, staleMiddle), []string{"server hung up", "certificate_expired", "a CA certificate above the client's has expired", "(likely)"}},
		{e, "curl", "client certificate from an intermediate for servers", show("frida", servers, servers), []string{"server hung up", "bad_certificate", "a CA above the client's certificate may not sign for clients", "(likely)"}},
		{e, "curl", "client certificate without its intermediate", show("gustav", servers), []string{"server hung up", "unknown_ca", "its intermediate certificate was not sent", "(likely)"}},
		{e, "curl", "client certificate with another's intermediate", show("hanna", newAuthority(t, "Other Root", nil), servers), []string{"server hung up", "unknown_ca", "do not lead there", "(likely)"}},
		{e, "curl", "client certificate from a CA that was replaced", show("ida", replaced), []string{"server hung up", "unknown_ca", "is not signed by its key", "(certain)"}},
	}
}
