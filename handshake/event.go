package handshake

import (
	"crypto/x509"
	"log/slog"
	"time"

	"padlock/handshake/wire"
)

// Label says how padlock knows what a stage tells.
type Label string

const (
	Observed  Label = "observed"  // read off the wire in plaintext
	Decrypted Label = "decrypted" // read off the wire, decrypted with the handshake traffic secrets
	Inferred  Label = "inferred"  // from crypto/tls's callbacks or ConnectionState
)

// Side is one end of a connection.
type Side string

const (
	Client Side = "client"
	Server Side = "server"
)

// Outcome is how a connection's handshake ended.
type Outcome string

const (
	Complete Outcome = "complete" // Finished both ways and at least one application byte, or a browser's spare connection
	Silent   Outcome = "silent"   // Finished both ways, then closed without one application byte
	Failed   Outcome = "failed"   // ended before Finished both ways
	NotTLS   Outcome = "not_tls"  // the first bytes were not TLS
	Unused   Outcome = "unused"   // a browser had no use for the connection before it was complete: nothing failed
)

// Event is everything known of one handshake. It is immutable once a Sink has received it.
// Every string has been escaped: it holds no control character and only valid UTF-8.
type Event struct {
	ID       uint64 // counts from 1 in this process
	Start    time.Time
	Remote   string // host:port of the client
	Local    string
	Outcome  Outcome
	Duration time.Duration // accept to Finished both ways, or to the end
	Timings  Timings

	SNI         string
	Version     uint16 // negotiated; 0 if none
	CipherSuite string
	Group       string
	ALPN        string
	JA3, JA4    string // fingerprints of the client's first hello
	Resumed     bool
	Offered     bool // the client offered a ticket; JA4 differs then
	Retried     bool // a HelloRetryRequest was sent
	ECH         bool // encrypted client hello was accepted: SNI is the inner name
	QUIC        bool // it travelled inside QUIC (RFC 9001): every stage is inferred
	Unused      bool // a browser opened it in advance, and closed it without a byte
	Validation  bool // the CA's own validation by TLS-ALPN-01 (RFC 8737)

	Certificate       *Certificate // the leaf that the server sent, nil if none
	ClientCertificate *Certificate

	Stages  []Stage
	Notes   []string // worth knowing, though nothing failed
	Failure *Failure // nil when Complete or Unused
	Noise   string   // what kind of noise a failure is: scan, http, ssh, …; empty for what a person should look at
	After   *Earlier // an earlier rejection by the same client, nil if none

	BytesIn, BytesOut int  // captured on the wire during the handshake
	Truncated         bool // the capture limit was reached
}

// Timings of parts of a handshake; 0 where a part did not happen or cannot be told.
type Timings struct {
	RoundTrip   time.Duration // of TCP, by the kernel
	KeyExchange time.Duration // hello read to certificate chosen
	KeySchedule time.Duration // certificate chosen to handshake keys derived
	Signing     time.Duration // handshake keys to our Finished: what it costs to sign; in TLS 1.2 with the key share
	Client      time.Duration // our flight to the client's Finished: a round trip and the client's own work
}

// Earlier is a handshake that the same client rejected a short time before.
type Earlier struct {
	ID  uint64
	Ago time.Duration
}

// Stage is one step of the handshake, in wire order.
type Stage struct {
	// RFC 8446 name in snake case: client_hello, hello_retry_request, server_hello, …, first_byte, alert, close.
	Name  string
	From  Side          //
	At    time.Duration // since accept
	Size  int           // bytes of the message, header included; 0 when it has none
	Label Label
	Text  string // one line in plain words

	// Decoded facts with stable names, which the JSON holds. They are only put into words there.
	fields []slog.Attr
	hello  *helloFields
}

// helloFields are the decoded facts of a ClientHello.
type helloFields struct {
	*wire.ClientHello
	name      string // escaped, or hashed
	fragments int
}

// Certificate is what a person wants to know of an X.509 certificate.
type Certificate struct {
	Subject      string // common name, or the first name
	Organization string
	Names        []string // subject alternative names
	Issuer       string   // common name of the issuer
	NotBefore    time.Time
	NotAfter     time.Time
	KeyType      string
	ChainLength  int
	ChainBytes   int
	Problems     []string // why a browser would refuse it, whatever CAs it trusts; empty: it would not

	text   string      // for its stage
	fields []slog.Attr // for its stage

	leaf       *x509.Certificate
	faults     []fault // all that clients may mind; Problems are those that browsers do
	selfSigned bool
	alone      bool      // sent without its issuer's, which is not the local CA
	firstUntil time.Time // when the first of the CAs that are sent expires; zero: none is sent
	firstName  string    // of that CA
	top        string    // who issued the last certificate that is sent
	origin     Origin
}

// Failure says who hung up, where, and what to do.
type Failure struct {
	By         Side   // who ended it
	Stage      string // the last stage reached
	Alert      int    // number read off the wire, -1 if none
	AlertName  string // RFC name: unknown_ca
	Encrypted  bool   // the alert was encrypted
	GoError    string // what crypto/tls said; may mislead
	Cause      string // in plain words
	Kind       string // the same without what is of this client alone, so that there are few
	Remedy     string // what to do next
	Confidence string // certain | likely | possible
}

// Sink receives every finished handshake. Handshake is called from several goroutines and must not keep a caller
// waiting.
type Sink interface {
	Handshake(*Event)
}
