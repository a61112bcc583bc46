package certs_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/certs"
	"padlock/certs/localca"
	"padlock/config"
)

// pair writes a self-signed certificate and its key.
func pair(t *testing.T, key crypto.Signer, until time.Time, names ...string) config.CertificateFile {
	t.Helper()
	return selfSigned(t, key, &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: until})
}

// fileFor is a pair for an address.
func fileFor(t *testing.T, address net.IP) config.CertificateFile {
	t.Helper()
	return selfSigned(t, ecKey(t), &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "of a file"}, IPAddresses: []net.IP{address}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	})
}

func selfSigned(t *testing.T, key crypto.Signer, template *x509.Certificate) config.CertificateFile {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := config.CertificateFile{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func ecKey(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// shown makes a handshake and returns what the client is shown.
func shown(t *testing.T, source *certs.Source, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	return shownAt(t, source, "127.0.0.1", client)
}

// shownAt is shown to a client that connects to an address.
func shownAt(t *testing.T, source *certs.Source, address string, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = tls.Server(c, &tls.Config{GetCertificate: source.GetCertificate}).Handshake()
	}()
	client.InsecureSkipVerify = true // the certificate is what is looked at
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestCertificatesAreChosenByNameThenByKeyType(t *testing.T) {
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	files, err := certs.NewFiles([]config.CertificateFile{
		pair(t, ecKey(t), later, "a.example.com"),
		pair(t, rsaKey(t), later, "a.example.com"),
		pair(t, ecKey(t), later, "*.example.com", "Upper.Example.com"),
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	source := certs.New(certs.Options{Local: ca, Files: files})
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, c := range []struct {
		client *tls.Config
		name   string // "": refused
		key    x509.PublicKeyAlgorithm
	}{
		{&tls.Config{ServerName: "a.example.com"}, "a.example.com", x509.ECDSA},
		{&tls.Config{ServerName: "a.example.com", MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}, "a.example.com", x509.RSA},
		{&tls.Config{ServerName: "b.example.com"}, "*.example.com", x509.ECDSA},
		{&tls.Config{ServerName: "upper.example.com"}, "*.example.com", x509.ECDSA},
		{&tls.Config{ServerName: "deep.b.example.com"}, "", 0},
		{&tls.Config{ServerName: "example.com"}, "", 0},
		{&tls.Config{ServerName: "shop.test"}, "shop.test", x509.ECDSA},
		{&tls.Config{}, "a.example.com", x509.ECDSA},
		{&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: onlyRSA}, "a.example.com", x509.RSA},
	} {
		leaf, err := shown(t, source, c.client)
		switch {
		case c.name == "" && (err == nil || !strings.Contains(err.Error(), "unrecognized name")):
			t.Errorf("%q: %v, not unrecognized_name", c.client.ServerName, err)
		case c.name != "" && (err != nil || leaf.DNSNames[0] != c.name || leaf.PublicKeyAlgorithm != c.key):
			t.Errorf("%q: %v", c.client.ServerName, err)
		}
	}
}

func TestWithoutANameAClientGetsTheCertificateOfTheAddress(t *testing.T) {
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := certs.New(certs.Options{Local: ca})
	if leaf, err := shown(t, source, &tls.Config{}); err != nil || leaf.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("%v", err)
	}
}

func TestFilesThatCannotBeUsedAreErrorsAndDoubtfulOnesWarnings(t *testing.T) {
	good, other := pair(t, ecKey(t), time.Now().Add(time.Hour), "a.test"), pair(t, ecKey(t), time.Now().Add(time.Hour), "a.test")
	_, err := certs.NewFiles([]config.CertificateFile{{Cert: good.Cert, Key: other.Key}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), good.Cert) || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("a foreign key: %v", err)
	}
	expired := pair(t, ecKey(t), time.Now().Add(-time.Minute))
	if err := os.Chmod(expired.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := certs.NewFiles([]config.CertificateFile{expired}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"has expired", "can be read by others", "names no host"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is missing in\n%s", want, log.String())
		}
	}
}

// A client that names no host gets the certificate of the address that it has come to where a site names that address, whatever files there
// are; else that of the first file.
func TestASiteOfAnAddressGoesBeforeTheFirstFile(t *testing.T) {
	ca, err := localca.Open(t.TempDir(), localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := pair(t, ecKey(t), time.Now().Add(time.Hour), "app.example.com")
	files, err := certs.NewFiles([]config.CertificateFile{file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		for host, own := range map[string]bool{address: true, "192.0.2.1": false, "*": false, "app.example.com": false} {
			source := certs.New(certs.Options{Local: ca, Files: files, Names: func(name string) bool { return name == host }})
			leaf, err := shownAt(t, source, address, &tls.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if got := leaf.VerifyHostname(address) == nil; got != own {
				t.Errorf("a site of %s, a client at %s: a certificate for the address is shown: %v", host, address, got)
			}
			to := &net.TCPAddr{IP: net.ParseIP(address), Port: 443}
			if got := source.Private("", to); got != own {
				t.Errorf("a site of %s, a client at %s: the certificate is the local CA's: %v", host, address, got)
			}
		}
	}

	listed := fileFor(t, net.ParseIP("127.0.0.1"))
	files, err = certs.NewFiles([]config.CertificateFile{file, listed}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	source := certs.New(certs.Options{Local: ca, Files: files, Names: func(name string) bool { return name == "127.0.0.1" }})
	if leaf, err := shown(t, source, &tls.Config{}); err != nil || leaf.Subject.CommonName != "of a file" {
		t.Errorf("a file has a certificate for the address: %v, %v", leaf, err)
	}
}
