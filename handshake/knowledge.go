package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
)

// Knowledge is what the program around a recorder knows beyond the wire. Each may be nil. They are asked off the
// connections' path, from several goroutines.
type Knowledge struct {
	// Origin says where a certificate comes from that was sent.
	Origin func(*tls.Certificate) Origin
	// Root is the local CA's certificate.
	Root func() *x509.Certificate
	// Unserved says why there is no certificate for a name, as the client wrote it, on the listener with this local
	// address; "" if nothing more is known than that.
	Unserved func(name, local string) (why, remedy string)
}

// Origin is where a certificate comes from.
type Origin struct {
	Kind string // local, file, acme, imported; "" if that is not known
	File string // for a file's: its path
	Key  string // of the configuration, for a file's: certificates.files[0]
	Test bool   // from a CA for tests, which nobody trusts

	Rooted bool // its issuer is known to be a root
}

type knowledge struct{ current atomic.Pointer[Knowledge] }

// Know gives a recorder what is known beyond the wire. It may be called at any time.
func (r *Recorder) Know(k Knowledge) { r.knowledge.current.Store(&k) }

func (k *knowledge) origin(c *tls.Certificate) Origin {
	if known := k.current.Load(); known != nil && known.Origin != nil && c != nil {
		return known.Origin(c)
	}
	return Origin{}
}

func (k *knowledge) root() *x509.Certificate {
	if known := k.current.Load(); known != nil && known.Root != nil {
		return known.Root()
	}
	return nil
}

func (k *knowledge) unserved(name, local string) (why, remedy string) {
	if known := k.current.Load(); known != nil && known.Unserved != nil {
		return known.Unserved(name, local)
	}
	return "", ""
}
