package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"padlock/certs"
	"padlock/config"
	"padlock/internal/servicetest"
)

var mustStaple = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}

// respond runs OpenSSL's responder for certificates of a CA, of which some are revoked.
func respond(t *testing.T, ca *authority, port int, status map[*x509.Certificate]string) {
	t.Helper()
	dir := t.TempDir()
	index := ""
	for leaf, flag := range status {
		date := map[string]string{"R": time.Now().UTC().Add(-time.Minute).Format("060102150405Z")}[flag]
		index += fmt.Sprintf("%s\t%s\t%s\t%X\tunknown\t/CN=x\n", flag, leaf.NotAfter.UTC().Format("060102150405Z"), date, leaf.SerialNumber)
	}
	root := put(t, dir, "ca.pem", pemOf(t, ca.cert))
	command := exec.Command(servicetest.Need(t, "openssl"), "ocsp", "-index", put(t, dir, "index.txt", []byte(index)), "-port", strconv.Itoa(port),
		"-rsigner", root, "-rkey", put(t, dir, "ca.key", pemOf(t, ca.key)), "-CA", root, "-nmin", "60")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr, command.Stdout = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait(); log.Close() })
	until(t, "OpenSSL's responder", &pages{}, func() bool {
		text, _ := os.ReadFile(log.Name())
		return strings.Contains(string(text), "ACCEPT")
	})
}

// A certificate of a file comes with its responder's answer. One that demands it, and gets none, and one that is revoked are told.
func TestCertificatesOfFilesAreStapled(t *testing.T) {
	ca, port, dir, log := newRoot(t, "Root"), servicetest.FreePort(t), t.TempDir(), &pages{}
	responder := []string{"http://127.0.0.1:" + strconv.Itoa(port)}
	leaves := map[*x509.Certificate]string{}
	add := func(name, status string, template x509.Certificate) *x509.Certificate {
		key := ecKey(t)
		template.DNSNames = []string{name}
		leaf := ca.sign(&template, key.Public())
		put(t, dir, name+".pem", pemOf(t, leaf, ca.cert, key))
		if status != "" {
			leaves[leaf] = status
		}
		return leaf
	}
	good := add("good.example.com", "V", x509.Certificate{OCSPServer: responder, ExtraExtensions: []pkix.Extension{mustStaple}})
	revoked := add("revoked.example.com", "R", x509.Certificate{OCSPServer: responder})
	add("none.example.com", "", x509.Certificate{ExtraExtensions: []pkix.Extension{mustStaple}})
	add("away.example.com", "", x509.Certificate{
		OCSPServer: []string{"http://127.0.0.1:" + strconv.Itoa(servicetest.FreePort(t))}, ExtraExtensions: []pkix.Extension{mustStaple},
	})
	add("plain.example.com", "", x509.Certificate{})
	respond(t, ca, port, leaves)

	files, err := certs.NewFiles([]config.CertificateFile{{Directory: dir}}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "names no responder") || !strings.Contains(log.String(), "none.example.com") {
		t.Errorf("must-staple without a responder is not told:\n%s", log)
	}
	s := watched(t, files)
	stapled := func(s *certs.Source, name string) []byte { return staple(t, s, name) }
	until(t, "a staple", log, func() bool { return len(stapled(s, "good.example.com")) > 0 })
	if answer, err := ocsp.ParseResponseForCert(stapled(s, "good.example.com"), good, ca.cert); err != nil || answer.Status != ocsp.Good {
		t.Errorf("the staple: %v %v", answer, err)
	}
	until(t, "what is wrong", log, func() bool {
		return strings.Contains(log.String(), "the CA has revoked a certificate") && strings.Contains(log.String(), "there is none: clients that check refuse it")
	})
	for _, name := range []string{"revoked.example.com", "none.example.com", "away.example.com", "plain.example.com"} {
		if len(stapled(s, name)) > 0 {
			t.Errorf("%s has a staple", name)
		}
	}
	for _, status := range files.Status() {
		if is := status.Names[0] == revoked.DNSNames[0]; (status.Error != "") != is {
			t.Errorf("%v: %q", status.Names, status.Error)
		}
	}

	// A reload serves what is known, without asking first.
	again, err := certs.NewFiles([]config.CertificateFile{{Directory: dir}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	again.TakeStaples(files)
	if len(stapled(certs.New(certs.Options{Files: again}), "good.example.com")) == 0 {
		t.Error("after a reload the staple is missing")
	}
}

// staple is what a client gets with a certificate.
func staple(t *testing.T, s *certs.Source, name string) []byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			_ = tls.Server(c, &tls.Config{GetCertificate: s.GetCertificate}).Handshake()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true}) // the staple is what is looked at
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().OCSPResponse
}
