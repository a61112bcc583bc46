//go:build e2e

package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"padlock/handshake/wire"
)

// kinds are what many programs meet in ways of their own: faults of our certificate of which they say little, and boxes between that cut
// or change what passes.
func (k workbench) kinds(t *testing.T) []scenario {
	all := k.faults(t)
	all = append(all, k.issuers(t)...)
	all = append(all, k.between(t)...)
	return append(all, k.vague(t)...)
}

// faults are of certificates for localhost, so that programs that cannot be told an address can ask for it.
func (k workbench) faults(t *testing.T) []scenario {
	wget, git, gnutls := need(t, "wget"), need(t, "git"), need(t, "gnutls-cli")
	truststore := filepath.Join(t.TempDir(), "test.p12")
	if out, err := exec.Command(need(t, "keytool"), "-importcert", "-noprompt", "-alias", "test", "-file", k.testRoot, "-keystore", truststore, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	serving := func(by *authority, usage x509.KeyUsage, above ...*authority) *edge {
		der, key := sign(t, site("localhost", func(c *x509.Certificate) { c.KeyUsage = usage }), by, nil)
		chain := [][]byte{der}
		for _, a := range above {
			chain = append(chain, a.cert.Raw)
		}
		return newEdge(t, "certificates: {files: [{cert: site.pem, key: site-key.pem}]}\nsites: [{hosts: [localhost]}]\n",
			map[string][]byte{"site.pem": pemOf("CERTIFICATE", chain...), "site-key.pem": keyPEM(t, key)})
	}
	self, lone := serving(nil, x509.KeyUsageDigitalSignature), serving(k.middle, x509.KeyUsageDigitalSignature)
	agreeing, issuing := serving(k.middle, x509.KeyUsageKeyAgreement, k.middle), serving(k.middle, x509.KeyUsageCertSign, k.middle)

	get := func(e *edge) func(*testing.T) {
		return k.run(nil, wget, "-qO/dev/null", "--tries=1", "--ca-certificate="+k.testRoot, "https://localhost:"+e.port+"/")
	}
	list := func(e *edge) func(*testing.T) {
		return k.run([]string{"GIT_SSL_CAINFO=" + k.testRoot, "GIT_TERMINAL_PROMPT=0"}, git, "ls-remote", "https://localhost:"+e.port+"/")
	}
	node := func(e *edge) func(*testing.T) {
		return k.run([]string{"NODE_EXTRA_CA_CERTS=" + k.testRoot}, k.node, "-e", `require("https").get("https://localhost:`+e.port+`", {family: 4}, r => r.resume()).on("error", () => {})`)
	}
	gnu := func(e *edge) func(*testing.T) {
		return k.run(nil, gnutls, "--x509cafile", k.testRoot, "localhost", "-p", e.port)
	}
	java := func(e *edge) func(*testing.T) {
		return k.java(e, "-Djavax.net.ssl.trustStore="+truststore, "-Djavax.net.ssl.trustStorePassword=changeit")
	}
	const replaced = "to do: get a certificate without this fault: replace"
	return []scenario{
		{self, "wget", "a self-signed certificate", get(self), []string{"it does not trust our certificate, which is self-signed", "(possible)", "if it is about trust: install"}},
		{self, "Node.js", "a self-signed certificate", node(self), []string{"it does not trust our certificate, which is self-signed", "(likely)"}},
		{self, "GnuTLS", "a self-signed certificate", gnu(self), []string{"which is self-signed", "(likely)"}},
		{self, "Java", "a self-signed certificate", java(self), []string{"which is self-signed", "(likely)"}},
		{lone, "wget", "the intermediate certificate is not sent", get(lone), []string{"it lacks the intermediate certificate, which is not sent, or does not trust the CA", "(possible)"}},
		{lone, "git", "the intermediate certificate is not sent", list(lone), []string{"it lacks the intermediate certificate, which is not sent, or does not trust the CA", "(possible)"}},
		{lone, "Node.js", "the intermediate certificate is not sent", node(lone), []string{"it lacks the intermediate certificate, which is not sent, or does not trust the CA", "(likely)"}},
		{lone, "Java", "the intermediate certificate is not sent", java(lone), []string{"our chain is incomplete, as no intermediate certificate is sent", "(likely)"}},
		{lone, "GnuTLS", "the intermediate certificate is not sent", gnu(lone), []string{"its chain is incomplete, as no intermediate certificate is sent", "(likely)"}},
		{agreeing, "Java", "a key that may not sign", java(agreeing), []string{"its key may not sign", "many programs mind", "(likely)", replaced}},
		{agreeing, "GnuTLS", "a key that may not sign", gnu(agreeing), []string{"internal_error", "its key may not sign", "(likely)", replaced}},
		{agreeing, "OpenSSL", "a key that may not sign, which it accepts", k.request(agreeing, "localhost", "-CAfile", k.testRoot), []string{"complete", "note: a browser would refuse our certificate: its key may not sign"}},
		{issuing, "Node.js", "a key for certificates only", node(issuing), []string{"it rejected our certificate", "its key may not sign", "(likely)", replaced}},
		{issuing, "curl", "a key for certificates only", k.curl(issuing, "localhost", "--cacert", k.testRoot), []string{"unsupported_certificate", "its key may not sign", "(likely)", replaced}},
		{issuing, "wget", "a key for certificates only, which it accepts", get(issuing), []string{"complete", "its key may not sign"}},
	}
}

// issuers are CAs that cannot have issued our certificate, or may not.
func (k workbench) issuers(t *testing.T) []scenario {
	limited := authorityOf(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Last Intermediate"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, k.ca)
	below := newAuthority(t, "Intermediate Too Many", limited)
	none := authorityOf(t, &x509.Certificate{Subject: pkix.Name{CommonName: "No CA"}, KeyUsage: x509.KeyUsageDigitalSignature}, k.ca)
	replaced := newAuthority(t, "Test Intermediate", k.ca) // has the name of the one that is sent

	b, files := "certificates:\n  files:\n", map[string][]byte{}
	for _, c := range []struct {
		host  string
		by    *authority
		above []*authority
	}{{"deep.example", below, []*authority{below, limited}}, {"noca.example", none, []*authority{none}}, {"replaced.example", replaced, []*authority{k.middle}}} {
		der, key := sign(t, site(c.host, nil), c.by, nil)
		chain := [][]byte{der}
		for _, a := range c.above {
			chain = append(chain, a.cert.Raw)
		}
		files[c.host+".pem"], files[c.host+"-key.pem"] = pemOf("CERTIFICATE", chain...), keyPEM(t, key)
		b += fmt.Sprintf("    - {cert: %[1]s.pem, key: %[1]s-key.pem}\n", c.host)
	}
	e := newEdge(t, b+"sites: [{hosts: [deep.example, noca.example, replaced.example]}]\n", files)
	const remedy = "to do: get a certificate from a CA that may issue it"
	return []scenario{
		{e, "curl", "more CAs in its chain than one allows", k.curl(e, "deep.example", "--cacert", k.testRoot), []string{"unknown_ca", "path length", "(likely)", remedy}},
		{e, "curl", "an issuer that is no CA", k.curl(e, "noca.example", "--cacert", k.testRoot), []string{"unknown_ca", "No CA, which is no CA", "(likely)", remedy}},
		{e, "curl", "an issuer that has another key now", k.curl(e, "replaced.example", "--cacert", k.testRoot), []string{"unknown_ca", "which may have been replaced", "(likely)", remedy}},
	}
}

// box stands between curl and padlock. It changes one record of one direction.
type box struct {
	client bool // whose record
	number int  // counted from 1
	change func(record []byte) (passed []byte, end bool)
}

func bitFlipped(record []byte) ([]byte, bool) {
	record[len(record)-1] ^= 1
	return record, false
}

func halved(record []byte) ([]byte, bool) { return record[:len(record)/2], true }

func doubled(record []byte) ([]byte, bool) { return append(record, record...), false }

// behind runs curl through a box, until both have ended.
func (k workbench) behind(e *edge, b box, args ...string) func(*testing.T) {
	return func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var both sync.WaitGroup
		defer both.Wait()
		both.Go(func() {
			k.run(nil, k.curlPath, append([]string{"-sS", "-o", "/dev/null", "--max-time", "10", "https://localhost:" + portOf(l.Addr().String()) + "/"}, args...)...)(t)
		})
		client, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server, err := net.Dial("tcp", "127.0.0.1:"+e.port)
		if err != nil {
			t.Fatal(err)
		}
		both.Go(func() { b.pass(server, client, b.client) })
		both.Go(func() { b.pass(client, server, !b.client) })
	}
}

// pass copies records, and changes the one that is meant if it is in this direction.
func (b box) pass(to, from net.Conn, here bool) {
	defer func() { _ = to.(*net.TCPConn).CloseWrite() }()
	var seen []byte
	buffer := make([]byte, 16<<10)
	for done := 0; ; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		seen = append(seen, buffer[:n]...)
		records, _ := wire.Records(nil, seen)
		whole := 0
		for _, r := range records {
			record, end := seen[r.Offset:r.End():r.End()], false
			if done++; here && done == b.number {
				record, end = b.change(record)
			}
			if _, err := to.Write(record); err != nil || end {
				return
			}
			whole = r.End()
		}
		seen = seen[whole:]
	}
}

func (k workbench) between(t *testing.T) []scenario {
	e := k.local
	trusting := []string{"--cacert", k.root}
	older := append(trusting, "--tls-max", "1.2")
	return []scenario{
		{e, "curl", "a box that changes its hello", k.behind(e, box{true, 1, bitFlipped}, trusting...), []string{"client hung up", "something between changed it", "(possible)"}},
		{e, "curl", "a box that sends its hello twice", k.behind(e, box{true, 1, doubled}, trusting...), []string{"server hung up", "as when its hello comes twice", "(likely)"}},
		{e, "curl", "a box that cuts its hello", k.behind(e, box{true, 1, halved}, trusting...), []string{"in the middle of its hello", "(possible)"}},
		{e, "curl", "a box that cuts its answer", k.behind(e, box{true, 3, halved}, trusting...), []string{"in the middle of its answer", "(possible)"}},
		{e, "curl", "a box that cuts its request", k.behind(e, box{true, 4, halved}, trusting...), []string{"first data after the handshake did not come whole", "(likely)"}},
		{e, "curl", "a box that changes our hello", k.behind(e, box{false, 1, bitFlipped}, trusting...), []string{"client hung up", "something between changed it", "(possible)"}},
		{e, "curl", "a box that changes our certificate, TLS 1.2", k.behind(e, box{false, 2, bitFlipped}, older...), []string{"client hung up", "decrypt_error", "something between changed our answer", "(possible)"}},
		{e, "curl", "a box that changes its Finished, TLS 1.2", k.behind(e, box{true, 4, bitFlipped}, older...), []string{"server hung up", "bad_record_mac", "something between changed it", "(possible)"}},
	}
}

// vague are what was told too vaguely once.
func (k workbench) vague(t *testing.T) []scenario {
	mosquitto := need(t, "mosquitto_sub")
	queue := freePort(t)
	general := freePort(t)
	e := newEdgeAt(t, "listen: {https: [\"127.0.0.1:"+general+"\"], http: []}\naccess_log: {format: \"off\"}\n", `sites:
  - hosts: [localhost, 127.0.0.1]
  - {hosts: [queue.localhost], listen: ["127.0.0.1:`+queue+`"], tcp: {to: ["127.0.0.1:`+freePort(t)+`"], alpn: [mqtt]}}
`, nil)
	balancer := newEdgeAt(t, "listen: {https: [\"127.0.0.1:0\"], http: [], proxy_protocol: {from: [127.0.0.0/8]}}\naccess_log: {format: \"off\"}\n", "timeouts: {handshake: 2s}\nsites: [{hosts: [localhost]}]\n", nil)
	header := func(text string, then func(net.Conn)) func(*testing.T) { return k.raw(balancer, text, then) }
	ends := func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); _, _ = io.Copy(io.Discard, c) }
	return []scenario{
		{e, "Mosquitto", "an address that is served on another port", k.run(nil, mosquitto, "-h", "127.0.0.1", "-p", queue, "-t", "x", "--cafile", e.root(t), "-W", "5", "-C", "1"), []string{"unrecognized_name", "its site is served on port " + general + " only", "(certain)"}},
		{e, "OpenSSL", "HTTP by ALPN, where a site speaks MQTT", k.run(nil, k.openssl, "s_client", "-connect", "127.0.0.1:"+queue, "-servername", "queue.localhost", "-alpn", "h2"), []string{"it offers h2, we speak mqtt", "(certain)", "add what it offers to the site's tcp.alpn"}},
		{k.local, "OpenSSL", "an address in brackets instead of a name", k.client(k.local, "-servername", "[::1]"), []string{"that no certificate can have", "it is an address", "(certain)"}},
		{k.local, "a mail program", "waits for a greeting, and says QUIT", k.raw(k.local, "QUIT\r\n", k.waiting), []string{"the server greets first", "(likely)"}},
		{k.local, "an Oracle client", "its connection request", k.raw(k.local, "\x00\x3a\x00\x00\x01\x00\x00\x00\x01\x39\x01\x2c\x00\x00\x08\x00\x7f\xff", k.waiting), []string{"Oracle's protocol"}},
		{k.local, "a Cassandra client", "asks for options", k.raw(k.local, "\x04\x00\x00\x00\x05\x00\x00\x00\x00", k.waiting), []string{"Cassandra's protocol"}},
		{k.local, "a video encoder", "RTMP", k.raw(k.local, "\x03\x00\x16\xf3\x88\x00\x00\x00\x00gE\x8bk\xc6#{2i", k.waiting), []string{"RTMP"}},
		{k.local, "an OpenVPN client", "over TCP", k.raw(k.local, "\x00\x0e\x38ABCDEFGH\x00\x00\x00\x00\x00", k.waiting), []string{"OpenVPN"}},
		{balancer, "a load balancer", "a PROXY header without ports", header("PROXY TCP4 192.0.2.1 192.0.2.2\r\n", k.waiting), []string{"the PROXY header of the client is malformed", "(certain)"}},
		{balancer, "a load balancer", "half a PROXY header", header("\r\n\r\n\x00\r\nQUIT\n\x21\x11", ends), []string{"the PROXY header of the client is malformed, or not whole", "(certain)"}},
		{balancer, "a load balancer", "no PROXY header, and a hello", header(k.hello, k.waiting), []string{"without the PROXY header", "(certain)"}},
		{balancer, "a load balancer", "nothing, where a PROXY header is expected", header("", k.waiting), []string{"sent nothing until the handshake timeout, and padlock expects a PROXY header"}},
	}
}
