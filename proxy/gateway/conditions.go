package gateway

import (
	"crypto/x509"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"padlock/proxy/message"
)

// Sent implements sites.Asker.
func (x *Exchange) Sent() message.Fields {
	if x.sent != nil {
		return x.sent
	}
	return x.request.Fields
}

// Address implements sites.Asker.
func (x *Exchange) Address() netip.Addr { return x.where() }

// Certificate implements sites.Asker.
func (x *Exchange) Certificate() *x509.Certificate {
	c := x.request.Conn
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 {
		return nil
	}
	return c.TLS.PeerCertificates[0]
}

// drawCookie holds the number that a client has drawn, and a code by which nobody can choose it.
const (
	drawCookie = "padlock_share"
	draws      = 10_000
	drawStays  = "; Max-Age=2592000; Path=/; Secure; HttpOnly; SameSite=Lax" // 30 days
)

// Draw implements sites.Asker: the number in the client's cookie, or one that it gets now.
func (x *Exchange) Draw() float64 {
	if x.draw > 0 {
		return x.draw
	}

	var ok bool
	if x.draw, ok = x.drawnBefore(); !ok {
		n := rand.IntN(draws)
		number := strconv.Itoa(n)
		x.draw, x.drawn = percentOf(n), drawCookie+"="+number+"."+x.routes.Sign(drawCookie+" "+number)+drawStays
	}
	return x.draw
}

// drawnBefore is the number in the client's cookie, if it is one that padlock has given it.
func (x *Exchange) drawnBefore() (number float64, ok bool) {
	value, _ := x.Sent().Cookie(drawCookie)
	text, code, _ := strings.Cut(value, ".")
	n, err := strconv.Atoi(text)
	return percentOf(n), err == nil && n >= 0 && n < draws && x.routes.Signed(drawCookie+" "+text, code)
}

// percentOf is where a number lies between 0 and 100.
func percentOf(n int) float64 { return (float64(n) + 0.5) * 100 / draws }
