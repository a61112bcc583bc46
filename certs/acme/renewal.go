package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"golang.org/x/crypto/ocsp"
)

// renewal is when a certificate should be replaced: at the time that the CA suggested (ARI, RFC 9773), else when the
// configured part of its lifetime is left, and by then in any case when a twentieth is left. Names are spread a
// little, so that what was issued together is not renewed together.
func (c *Client) renewal(name string, p *Pair) time.Time {
	return renewal(name, p, c.o.Config.RenewRatio)
}

func renewal(name string, p *Pair, ratio float64) time.Time {
	lifetime := p.Leaf.NotAfter.Sub(p.Leaf.NotBefore)
	// Even a CA that suggests a later time may be down then.
	latest := p.Leaf.NotAfter.Add(-lifetime / 20)
	if selected := p.ari.SelectedTime; !selected.IsZero() && lifetime >= ariShortest {
		return earliest(latest, selected)
	}
	window := time.Duration(float64(lifetime) * ratio)
	// A hash of the name, so that every node spreads the names in the same way.
	h := fnv.New32a()
	_, _ = io.WriteString(h, name)
	spread := time.Duration(float64(window) / 10 * float64(h.Sum32()) / (1 << 32))
	return earliest(latest, p.Leaf.NotAfter.Add(spread-window))
}

// refresh asks for what CAs say of a certificate after they have issued it. What cannot be had now is asked for again
// later.
func (c *Client) refresh(ctx context.Context, name string, p *Pair) *Pair {
	next := *p
	now := time.Now()
	if !now.Before(next.ariNext) && now.Before(next.Leaf.NotAfter) {
		c.askRenewalInfo(ctx, name, &next)
		next.Renewal = c.renewal(name, &next)
	}
	if len(next.Leaf.OCSPServer) > 0 && !now.Before(next.ocsp.next) && now.Before(next.Leaf.NotAfter) {
		c.askOCSP(ctx, name, &next)
	}
	return &next
}

// Bounds of how often a CA is asked for renewal information, whatever it suggests.
const (
	ariShortest = time.Hour // lifetime; windows are no finer than that
	ariSoonest  = time.Minute
	ariLatest   = 24 * time.Hour
)

func (c *Client) askRenewalInfo(ctx context.Context, name string, p *Pair) {
	// Set first, so that whatever goes wrong below does not lead to asking again at once.
	p.ariNext = time.Now().Add(ariLatest)
	issuer := c.issuer(p)
	if issuer == nil || p.Leaf.NotAfter.Sub(p.Leaf.NotBefore) < ariShortest {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ari, err := issuer.GetRenewalInfo(ctx, certmagic.Certificate{Certificate: *p.Certificate})
	switch {
	case errors.Is(err, acme.ErrUnsupported):
		return
	case err != nil:
		p.ariNext = time.Now().Add(10 * ariSoonest)
		if id, bad := acme.ARIUniqueIdentifier(p.Leaf); bad == nil {
			// A CA that is overloaded may ask for more patience than the usual.
			if until := earliest(c.later.of(id), time.Now().Add(ariLatest)); until.After(p.ariNext) {
				p.ariNext = until
			}
		}
		c.log.Debug("no renewal information", "name", name, "error", err)
		return
	}

	if ari.RetryAfter != nil {
		p.ariNext = time.Now().Add(min(max(time.Until(*ari.RetryAfter), ariSoonest), ariLatest))
	}
	if ari.SameWindow(p.ari) {
		// The stored information includes the time that was chosen in it, which all nodes keep to.
		return
	}

	moved := p.ari.HasWindow()
	p.ari = ari
	if moved {
		c.log.Info("the CA has moved a renewal", "name", name, "renewal", ari.SelectedTime, "explanation", ari.ExplanationURL)
	}

	if err := c.keepRenewalInfo(ctx, name, p); err != nil {
		c.log.Warn("renewal information could not be stored", "name", name, "error", err)
	}
}

// keepRenewalInfo stores it where certmagic looks before it renews, and other nodes before they ask.
func (c *Client) keepRenewalInfo(ctx context.Context, name string, p *Pair) error {
	v := c.atomicStore(p.Kind)
	if ok, err := v.TryLock(ctx, lockOf(name)); !ok || err != nil {
		// Whoever has the lock replaces the certificate.
		return err
	}
	defer func() { _ = v.Unlock(context.WithoutCancel(ctx), lockOf(name)) }()
	b, err := v.storedCert(ctx, p.Issuer, name)
	if err != nil {
		return err
	}

	if dir := certmagic.StorageKeys.CertsSitePrefix(p.Issuer, name); v.backend.Exists(ctx, v.place(dir)+journal) {
		v.spread(ctx, dir, b)
	}
	// Another node has replaced the certificate, to which this information does not apply.
	if current, err := b.open(name); err != nil || !current.Leaf.Equal(p.Leaf) {
		return err
	}

	var resource certmagic.CertificateResource
	var issued acme.Certificate
	if err := errors.Join(json.Unmarshal(b.Metadata, &resource), json.Unmarshal(resource.IssuerData, &issued)); err != nil {
		return err
	}

	issued.RenewalInfo = &p.ari
	if resource.IssuerData, err = json.Marshal(issued); err != nil {
		return err
	}

	data, err := json.MarshalIndent(resource, "", "\t")
	if err != nil {
		return err
	}

	return v.StoreFenced(ctx, lockOf(name), v.place(certmagic.StorageKeys.SiteMeta(p.Issuer, name)), data)
}

// issuer is the configured one that a certificate came from, nil if it is no longer configured.
func (c *Client) issuer(p *Pair) *certmagic.ACMEIssuer {
	for _, issuer := range c.front.Issuers {
		if issuer.IssuerKey() == p.Issuer {
			return issuer.(*certmagic.ACMEIssuer)
		}
	}
	return nil
}

// stapling is what is known from OCSP (RFC 6960). Most CAs have ended theirs; then all of it is zero.
type stapling struct {
	next   time.Time // when to ask again
	staple []byte
}

const (
	ocspTimeout = 10 * time.Second
	ocspRetry   = 5 * time.Minute
	ocspLatest  = time.Hour // so that a revocation is noticed
	ocspMax     = 64 << 10
)

func (c *Client) askOCSP(ctx context.Context, name string, p *Pair) {
	// Set first: a responder that does not answer is asked again after a while, and not with each look.
	p.ocsp.next = time.Now().Add(ocspRetry)
	raw, response, err := fetchOCSP(ctx, p)
	if err != nil {
		c.log.Debug("no OCSP response", "name", name, "error", err)
		return
	}

	p.ocsp.next = time.Now().Add(min(ocspLatest, max(time.Until(response.NextUpdate)/2, c.o.OCSPSoonest)))
	switch response.Status {
	case ocsp.Good:
		// A certificate that is served is never changed, as handshakes read it without a lock.
		stapled := *p.Certificate
		stapled.OCSPStaple = raw
		p.Certificate, p.ocsp.staple = &stapled, raw
	case ocsp.Revoked:
		p.Revoked = true
		c.log.Warn("the CA has revoked a certificate; another is ordered", "name", name, "revoked", response.RevokedAt, "reason", response.RevocationReason)
	}
}

func fetchOCSP(ctx context.Context, p *Pair) ([]byte, *ocsp.Response, error) {
	// The question contains a hash of the issuer's key.
	if len(p.Certificate.Certificate) < 2 {
		return nil, nil, errors.New("the chain does not hold the issuer")
	}
	issuer, err := x509.ParseCertificate(p.Certificate.Certificate[1])
	if err != nil {
		return nil, nil, err
	}
	return OCSP(ctx, p.Leaf, issuer)
}

// OCSP asks the responder that a certificate names (RFC 6960), and returns the response as it is stapled. One that is
// not current is an error.
func OCSP(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, *ocsp.Response, error) {
	question, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return nil, nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, ocspTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, leaf.OCSPServer[0], bytes.NewReader(question))
	if err != nil {
		return nil, nil, err
	}

	request.Header.Set("Content-Type", "application/ocsp-request")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, ocspMax))
	if err != nil {
		return nil, nil, err
	}

	response, err := ocsp.ParseResponseForCert(raw, leaf, issuer)
	if err == nil && (time.Now().After(response.NextUpdate) && !response.NextUpdate.IsZero() || time.Now().Add(5*time.Minute).Before(response.ThisUpdate)) {
		err = errors.New("the response is not current")
	}

	return raw, response, err
}
