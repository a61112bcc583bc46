package servicetest

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Responder answers by OCSP for the certificates of a Pebble that was started with its URL and with RSA.
type Responder struct {
	URL   string
	Valid time.Duration // how long an answer is good for: two minutes, unless it is set before anybody asks

	t       testing.TB
	mu      sync.Mutex
	ca      *CA
	revoked *big.Int
}

// StartResponder starts a responder; For tells it whose certificates it answers for, before anybody asks.
func StartResponder(t testing.TB) *Responder {
	t.Helper()
	r := &Responder{t: t, Valid: 2 * time.Minute}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// For is called once the CA runs that was started with the responder's URL.
func (r *Responder) For(ca *CA) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ca = ca
}

// Revoke makes one certificate a revoked one from now on.
func (r *Responder) Revoke(serial *big.Int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = serial
}

// ServeHTTP implements http.Handler. Answers are good for a while only, so that whoever staples them has to come again.
func (r *Responder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	question, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	issuer, signer := r.issuer()
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: question.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(r.Valid)}
	if r.revoked != nil && r.revoked.Cmp(question.SerialNumber) == 0 {
		answer.Status, answer.RevokedAt = ocsp.Revoked, time.Now()
	}

	der, err := ocsp.CreateResponse(issuer, issuer, answer, signer)
	if err != nil {
		r.t.Error(err)
	}

	_, _ = w.Write(der)
}

// issuer is what Pebble signs leaves with.
func (r *Responder) issuer() (*x509.Certificate, crypto.Signer) {
	certificate, key := r.ca.IntermediateKey()
	c, _ := pem.Decode(certificate)
	k, _ := pem.Decode(key)
	issuer, err := x509.ParseCertificate(c.Bytes)
	if err != nil {
		r.t.Error(err)
	}
	signer, err := x509.ParsePKCS1PrivateKey(k.Bytes)
	if err != nil {
		r.t.Error(err)
	}
	return issuer, signer
}
