package handshake

import (
	"log/slog"
	"time"
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
	Complete Outcome = "complete" // Finished both ways and at least one application byte
	Silent   Outcome = "silent"   // Finished both ways, then closed without one application byte
	Failed   Outcome = "failed"   // ended before Finished both ways
	NotTLS   Outcome = "not_tls"  // the first bytes were not TLS
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

	SNI         string
	Version     uint16 // negotiated; 0 if none
	CipherSuite string
	Group       string
	ALPN        string
	Resumed     bool
	Retried     bool // a HelloRetryRequest was sent

	Certificate       *Certificate // the leaf that we sent, nil if none
	ClientCertificate *Certificate

	Stages  []Stage
	Failure *Failure // nil when Complete

	BytesIn, BytesOut int  // captured on the wire during the handshake
	Truncated         bool // the capture limit was reached
}

// Stage is one step of the handshake, in wire order.
type Stage struct {
	Name   string        // RFC 8446 name in snake case: client_hello, hello_retry_request, server_hello, …, first_byte, alert, close
	From   Side          //
	At     time.Duration // since accept; negative when it shares the time of the stage before (same flight)
	Size   int           // bytes of the message, header included; 0 when it has none
	Label  Label
	Text   string      // one line in plain words
	Fields []slog.Attr // decoded facts, stable names
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
	Remedy     string // what to do next
	Confidence string // certain | likely | possible
}

// Sink receives every finished handshake. Handshake is called from several goroutines and must not keep a caller waiting.
type Sink interface {
	Handshake(*Event)
}
