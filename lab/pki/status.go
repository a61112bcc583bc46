package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"encoding/base64"

	"golang.org/x/crypto/ocsp"
)

// Status is what the responder tells of a serial number.
type Status struct {
	By      *CA
	Host    string
	Revoked bool
	asked   *atomic.Int32
}

// Serve is where the revocation server can be reached.
func (a *Authority) Serve(url string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = url
}

// Listens is called with the addresses of the endpoints before the first certificate is made.
func (a *Authority) Listens(addresses []net.IP) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listens = addresses
}

// Addresses are those of the endpoints.
func (a *Authority) Addresses() []net.IP {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.listens
}

// Watch has the revocation server answer for a certificate, and returns its address.
func (m *Maker) Watch(t *x509.Certificate, by *CA, revoked bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serials[t.SerialNumber.String()] = Status{By: by, Host: m.Host, Revoked: revoked, asked: new(atomic.Int32)}
	return m.status
}

// Asked counts how often clients asked about the certificates of a host.
func (a *Authority) Asked(host string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.serials {
		if s.Host == host {
			n += int(s.asked.Load())
		}
	}
	return n
}

// Staple is an OCSP response about a leaf.
func (m *Maker) Staple(leaf []byte, by *CA, signer *CA, status int, updated time.Time) []byte {
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		m.fail("making an OCSP response", err)
		return nil
	}
	response, err := ocsp.CreateResponse(by.Cert, signer.Cert, answer(cert.SerialNumber, status, updated), signer.Key)
	m.fail("making an OCSP response", err)
	return response
}

func answer(serial *big.Int, status int, updated time.Time) ocsp.Response {
	r := ocsp.Response{Status: status, SerialNumber: serial, ThisUpdate: updated, NextUpdate: updated.Add(2 * Day), IssuerHash: crypto.SHA1}
	if status == ocsp.Revoked {
		r.RevokedAt, r.RevocationReason = time.Now().Add(-Day), ocsp.KeyCompromise
	}
	return r
}

// ServeHTTP is the revocation server: OCSP by POST and GET (RFC 6960 appendix A), revocation lists, and the certificates
// of issuers.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/ocsp"):
		a.serveOCSP(w, r)
	case strings.HasPrefix(r.URL.Path, "/crl/"):
		a.serveCRL(w, r)
	case strings.HasPrefix(r.URL.Path, "/issuer/"):
		a.mu.Lock()
		ca := a.cas[r.PathValue("name")]
		a.mu.Unlock()
		if ca == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-cert")
		_, _ = w.Write(ca.Cert.Raw)
	default:
		http.NotFound(w, r)
	}
}

// Handler serves the revocation server.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ocsp/", a)
	mux.Handle("/ocsp", a)
	mux.Handle("/crl/{serial}", a)
	mux.Handle("/issuer/{name}", a)
	return mux
}

func (a *Authority) serveOCSP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if r.Method == http.MethodGet {
		body, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/ocsp/"))
	}
	if err != nil {
		http.Error(w, "not OCSP", http.StatusBadRequest)
		return
	}
	request, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, "not OCSP", http.StatusBadRequest)
		return
	}

	a.mu.Lock()
	s, known := a.serials[request.SerialNumber.String()]
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/ocsp-response")
	if !known {
		_, _ = w.Write(ocsp.UnauthorizedErrorResponse)
		return
	}

	s.asked.Add(1)
	status := ocsp.Good
	if s.Revoked {
		status = ocsp.Revoked
	}
	template := answer(request.SerialNumber, status, time.Now().Add(-time.Hour))
	template.IssuerHash = request.HashAlgorithm
	response, err := ocsp.CreateResponse(s.By.Cert, s.By.Cert, template, s.By.Key)
	if err != nil {
		response = ocsp.InternalErrorErrorResponse
	}
	_, _ = w.Write(response)
}

// serveCRL answers with the list of the CA that signed the serial number in the path.
func (a *Authority) serveCRL(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	s, known := a.serials[r.PathValue("serial")]
	entries := a.revokedBy(s.By)
	a.mu.Unlock()
	if !known {
		http.NotFound(w, r)
		return
	}

	s.asked.Add(1)
	now := time.Now()
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(now.Unix()), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(2 * Day), RevokedCertificateEntries: entries,
	}, s.By.Cert, s.By.Key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(list)
}

func (a *Authority) revokedBy(ca *CA) (entries []x509.RevocationListEntry) {
	for serial, s := range a.serials {
		if s.By != ca || !s.Revoked {
			continue
		}
		if n, ok := new(big.Int).SetString(serial, 10); ok {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now().Add(-Day), ReasonCode: ocsp.KeyCompromise})
		}
	}
	slices.SortFunc(entries, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	return entries
}

// Extension is one that crypto/x509 does not know.
func Extension(t *x509.Certificate, critical bool, value []byte, id ...int) {
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
}
