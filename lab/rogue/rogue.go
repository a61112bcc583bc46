// Package rogue is a TLS 1.3 server (RFC 8446) that does as a plan says, right or wrong. It makes the faults that
// crypto/tls cannot be brought to make, and makes them whole: what it signs and derives agrees with what it has sent, so
// a client that does not look completes its handshake.
//
//	c := rogue.Server(conn, rogue.Plan{Certificate: cert, Finished: func(v []byte) []byte { v[0] ^= 1; return v }})
//	err := c.Handshake()
//
// It has one suite, TLS_AES_128_GCM_SHA256, and one group, X25519, and is for tests of clients alone.
package rogue

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Plan is what the server does. Its zero value, with a certificate, is a right server of HTTP/1.1.
type Plan struct {
	Certificate *tls.Certificate
	KeyLog      io.Writer // receives the secrets, as tls.Config.KeyLogWriter does
	RecordSize  int       // bytes of content in each record; 0: 2^14
	Padding     int       // zeros behind the content of each record

	RetryTwice bool                    // two HelloRetryRequests come first: for a group without a share, and then for X25519
	RetryShare bool                    // a HelloRetryRequest comes first, for the share that was sent
	Hello      func(*Hello)            // changes the ServerHello
	Extensions func([]Ext) []Ext       // changes EncryptedExtensions
	Skip       map[byte]bool           // messages of the flight that are not sent
	Message    func(m *Message)        // changes a message before it is sent, and so what both sides hash
	Before     func(*Conn) error       // after ServerHello, with the keys of the handshake
	Sign       Signature               // nil: what the key can
	Finished   func(mac []byte) []byte // changes verify_data
	Early      bool                    // application data goes out before the client's Finished
	After      func(*Conn) error       // after the client's Finished
	ZeroShare  bool                    // the key share is a point of small order: the secret is zero
}

// Signature makes a CertificateVerify of what is to be signed.
type Signature func(offered []uint16, content []byte) (scheme uint16, signature []byte, err error)

// Hello is a ServerHello.
type Hello struct {
	Legacy      uint16
	Session     []byte
	Suite       uint16
	Compression byte
	Extensions  []Ext
	Offered     *ClientHello
}

// Ext is an extension.
type Ext struct {
	ID   uint16
	Data []byte
}

// Message is a handshake message.
type Message struct {
	Type byte
	Body []byte
}

// Types of handshake messages and of records.
const (
	clientHello         = 1
	serverHello         = 2
	NewSessionTicket    = 4
	EncryptedExtensions = 8
	Certificate         = 11
	CertificateRequest  = 13
	CertificateVerify   = 15
	Finished            = 20
	KeyUpdate           = 24

	ChangeCipherSpec = 20
	Alert            = 21
	Handshake        = 22
	Data             = 23
)

// Extensions.
const (
	extALPN      = 16
	extEarlyData = 42
	extVersions  = 43
	extKeyShare  = 51
)

const (
	suite     = 0x1301 // TLS_AES_128_GCM_SHA256
	x25519    = 0x001d
	maxRecord = 1 << 14
	maxEarly  = 1 << 17
)

// ErrUnsuited means that the client does not offer what this server has.
var ErrUnsuited = errors.New("the client does not offer TLS 1.3 with X25519 and TLS_AES_128_GCM_SHA256")

// ErrNoGroup means that there is no group to ask the client for.
var ErrNoGroup = errors.New("the client offers no group of which it sends no key share")

// AlertError is an alert of the client.
type AlertError byte

func (a AlertError) Error() string { return fmt.Sprintf("the client sent alert %d", byte(a)) }

// Conn is the server's side of a connection. It is for one goroutine, but for Close.
type Conn struct {
	net.Conn
	plan       Plan
	random     [32]byte
	transcript []byte
	in, out    *half // nil: in plaintext
	records    reader
	pending    []byte // application data that was read and not yet taken
	messages   []byte // handshake bytes that are no whole message yet
	hello      *ClientHello
	finished   bool // the client's Finished has come
	obeyed     bool // a third hello has come
	early      int  // bytes of early data that may still come, and are passed over: no ticket is taken back
	alpn       string

	clientTraffic, serverTraffic []byte
}

// Server is a server that has not shaken hands yet.
func Server(conn net.Conn, plan Plan) *Conn {
	if plan.RecordSize == 0 {
		plan.RecordSize = maxRecord
	}
	return &Conn{Conn: conn, plan: plan, records: reader{from: conn}}
}

// ALPN is the protocol that was agreed on.
func (c *Conn) ALPN() string { return c.alpn }

// ClientFinished reports whether the client has sent its Finished: it has then accepted all that came before.
func (c *Conn) ClientFinished() bool { return c.finished }

// Obeyed reports whether the client has answered a second HelloRetryRequest. Clients that do may hash all of it in a way
// of their own, and fail later.
func (c *Conn) Obeyed() bool { return c.obeyed }

// Hello is what the client has sent.
func (c *Conn) Hello() *ClientHello { return c.hello }

// Handshake shakes hands as planned.
func (c *Conn) Handshake() error {
	if err := c.readHello(); err != nil {
		return err
	}
	if err := c.retries(); err != nil {
		return err
	}

	shared, share, err := c.agree()
	if err != nil {
		return err
	}
	if err := c.sendHello(share); err != nil {
		return err
	}
	s := c.handshakeKeys(shared)
	if c.plan.Before != nil {
		if err := c.plan.Before(c); err != nil {
			return err
		}
	}
	if err := c.flight(s); err != nil {
		return err
	}
	return c.complete(s)
}

// complete reads the client's Finished, and changes to the keys of the application.
func (c *Conn) complete(s *secrets) error {
	master := extract(expand(s.handshake, "derived", emptyHash[:], 32), make([]byte, 32))
	hash := sha256.Sum256(c.transcript)
	c.clientTraffic, c.serverTraffic = expand(master, "c ap traffic", hash[:], 32), expand(master, "s ap traffic", hash[:], 32)
	c.log("CLIENT_TRAFFIC_SECRET_0", c.clientTraffic)
	c.log("SERVER_TRAFFIC_SECRET_0", c.serverTraffic)
	c.out = newHalf(c.serverTraffic)
	if c.plan.Early {
		if err := c.answerEarly(); err != nil {
			return err
		}
	}

	m, err := c.readMessage()
	// A client that was asked for a certificate sends one, and it may be empty.
	for err == nil && (m.Type == Certificate || m.Type == CertificateVerify) {
		c.add(m)
		m, err = c.readMessage()
	}
	if err != nil {
		return err
	}
	if m.Type != Finished {
		return fmt.Errorf("the client sent message %d instead of Finished", m.Type)
	}
	c.finished = true
	if want := finishedMAC(s.client, c.transcript); !hmac.Equal(want, m.Body) {
		return errors.New("the client's Finished does not fit")
	}
	c.in = newHalf(c.clientTraffic)
	if c.plan.After != nil {
		return c.plan.After(c)
	}
	return nil
}

// answerEarly is an answer that nobody has asked for yet.
func (c *Conn) answerEarly() error {
	_, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nearly\n"))
	return err
}

func (c *Conn) readHello() error {
	m, err := c.readMessage()
	if err != nil {
		return err
	}
	if m.Type != clientHello {
		return fmt.Errorf("message %d instead of a ClientHello", m.Type)
	}
	if c.hello, err = parseHello(m.Body); err != nil {
		return err
	}
	c.add(m)
	if slices.Contains(c.hello.IDs, extEarlyData) {
		c.early = maxEarly
	}
	if !slices.Contains(c.hello.Versions, tls.VersionTLS13) || !slices.Contains(c.hello.Suites, suite) || !slices.Contains(c.hello.Groups, x25519) {
		return ErrUnsuited
	}
	return nil
}

// retries sends the HelloRetryRequests that are planned.
func (c *Conn) retries() error {
	if c.plan.RetryShare {
		if c.hello.Shares[x25519] == nil {
			return ErrUnsuited
		}
		return c.retry(x25519, true)
	}

	if !c.plan.RetryTwice {
		return nil
	}

	at := slices.IndexFunc(c.hello.Groups, func(g uint16) bool { return c.hello.Shares[g] == nil && known[g] })
	if at < 0 {
		return ErrNoGroup
	}
	if err := c.retry(c.hello.Groups[at], true); err != nil {
		return err
	}
	err := c.retry(x25519, false)
	c.obeyed = err == nil
	return err
}

// known are groups that clients offer for real: P-256, P-384, P-521 and X448.
var known = map[uint16]bool{23: true, 24: true, 25: true, 30: true}

// retry sends a HelloRetryRequest (RFC 8446 section 4.1.4) and reads the next hello.
func (c *Conn) retry(group uint16, first bool) error {
	if first {
		sum := sha256.Sum256(c.transcript)
		c.transcript = append([]byte{254, 0, 0, 32}, sum[:]...)
	}
	h := Hello{Legacy: tls.VersionTLS12, Session: c.hello.Session, Suite: suite, Extensions: []Ext{
		{extVersions, []byte{3, 4}}, {extKeyShare, []byte{byte(group >> 8), byte(group)}},
	}}
	m := Message{serverHello, h.encode(retryRandom)}
	c.add(m)
	if err := c.Send(m); err != nil {
		return err
	}
	return c.readHello()
}

var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

// agree makes the shared secret, and the key share of this side.
func (c *Conn) agree() (shared, share []byte, err error) {
	peer, err := ecdh.X25519().NewPublicKey(c.hello.Shares[x25519])
	if err != nil {
		// Only a client that has X25519 and sends no share of it comes here.
		return nil, nil, ErrUnsuited
	}
	if c.plan.ZeroShare {
		return make([]byte, 32), make([]byte, 32), nil
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	shared, err = key.ECDH(peer)
	return shared, key.PublicKey().Bytes(), err
}

func (c *Conn) sendHello(share []byte) error {
	_, _ = rand.Read(c.random[:])
	h := Hello{Legacy: tls.VersionTLS12, Session: c.hello.Session, Suite: suite, Offered: c.hello, Extensions: []Ext{
		{extVersions, []byte{3, 4}}, {extKeyShare, append([]byte{0, x25519, 0, byte(len(share))}, share...)},
	}}
	if c.plan.Hello != nil {
		c.plan.Hello(&h)
	}
	m := Message{serverHello, h.encode(c.random)}
	c.add(m)
	if err := c.Send(m); err != nil {
		return err
	}
	// RFC 8446 appendix D.4: middleboxes expect it.
	return c.Record(ChangeCipherSpec, []byte{1})
}

// flight sends the rest of the server's messages.
func (c *Conn) flight(s *secrets) error {
	extensions := []Ext{}
	if slices.Contains(c.hello.Protocols, "http/1.1") {
		c.alpn = "http/1.1"
		extensions = append(extensions, ALPN("http/1.1"))
	}
	if c.plan.Extensions != nil {
		extensions = c.plan.Extensions(extensions)
	}
	if err := c.say(Message{EncryptedExtensions, Extensions(extensions)}); err != nil {
		return err
	}
	if err := c.say(Message{Certificate, encodeCertificate(c.plan.Certificate.Certificate)}); err != nil {
		return err
	}

	if !c.plan.Skip[CertificateVerify] {
		body, err := c.verify()
		if err != nil {
			return err
		}
		if err := c.say(Message{CertificateVerify, body}); err != nil {
			return err
		}
	}

	mac := finishedMAC(s.server, c.transcript)
	if c.plan.Finished != nil {
		mac = c.plan.Finished(mac)
	}
	return c.say(Message{Finished, mac})
}

// say sends a message of the flight, if the plan lets it.
func (c *Conn) say(m Message) error {
	if c.plan.Skip[m.Type] {
		return nil
	}
	if c.plan.Message != nil {
		c.plan.Message(&m)
	}
	c.add(m)
	return c.Send(m)
}

// verify is the body of CertificateVerify (RFC 8446 section 4.4.3).
func (c *Conn) verify() ([]byte, error) {
	hash := sha256.Sum256(c.transcript)
	content := append(bytes64(), "TLS 1.3, server CertificateVerify\x00"...)
	content = append(content, hash[:]...)

	sign := c.plan.Sign
	if sign == nil {
		sign = Sign(c.plan.Certificate.PrivateKey.(crypto.Signer))
	}
	scheme, signature, err := sign(c.hello.Schemes, content)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint16(scheme)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(signature) })
	return b.Bytes()
}

func bytes64() []byte {
	b := make([]byte, 64)
	for i := range b {
		b[i] = ' '
	}
	return b
}

// Sign signs as it is right for the key: ECDSA with P-256, or RSA-PSS.
func Sign(key crypto.Signer) Signature {
	return func(_ []uint16, content []byte) (uint16, []byte, error) {
		sum := sha256.Sum256(content)
		if _, ok := key.(*ecdsa.PrivateKey); ok {
			signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
			return uint16(tls.ECDSAWithP256AndSHA256), signature, err
		}
		signature, err := key.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
		return uint16(tls.PSSWithSHA256), signature, err
	}
}

// SignPKCS1 signs as TLS 1.2 did, which TLS 1.3 forbids.
func SignPKCS1(key crypto.Signer) Signature {
	return func(_ []uint16, content []byte) (uint16, []byte, error) {
		sum := sha256.Sum256(content)
		signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
		return uint16(tls.PKCS1WithSHA256), signature, err
	}
}

// SignSHA1 signs with SHA-1, which TLS 1.3 forbids.
func SignSHA1(key crypto.Signer) Signature {
	return func(_ []uint16, content []byte) (uint16, []byte, error) {
		sum := sha1.Sum(content)
		signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA1)
		return uint16(tls.ECDSAWithSHA1), signature, err
	}
}

// Say sends a message that belongs to no flight.
func (c *Conn) Say(m Message) error { return c.Send(m) }

// Update changes the key that this side writes with, after a KeyUpdate (RFC 8446 section 7.2).
func (c *Conn) Update() {
	c.serverTraffic = expand(c.serverTraffic, "traffic upd", nil, 32)
	c.out = newHalf(c.serverTraffic)
}

func (c *Conn) add(m Message) { c.transcript = append(c.transcript, m.encode()...) }

func (c *Conn) log(label string, secret []byte) {
	if c.plan.KeyLog != nil {
		fmt.Fprintf(c.plan.KeyLog, "%s %x %x\n", label, c.hello.Random, secret)
	}
}
