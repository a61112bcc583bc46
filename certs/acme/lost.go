package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"padlock/certs/storage"
)

// generation is that of the storage, asked for once a second at most: every look at every name wants it.
type generation struct {
	mu     sync.Mutex
	value  string
	err    error
	asked  time.Time
	logged string // of which it was said that certificates were lost before it
}

const (
	generationAge     = time.Second
	generationTimeout = 10 * time.Second
)

// generation is "" where it cannot be known, as with a storage that cannot be written to.
func (c *Client) generation(ctx context.Context, age time.Duration) (string, error) {
	g := &c.lineage
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.asked) > age {
		ctx, cancel := context.WithTimeout(ctx, generationTimeout)
		defer cancel()
		g.value, g.err = storage.Generation(ctx, c.o.Store)
		g.asked = time.Now()
	}
	return g.value, g.err
}

// giveBack stores what is served of a name, if the storage has lost it with everything else: of many nodes each would
// order it anew, and run into the CA's limits. It reports whether there is something to load now. What somebody has
// removed stays so.
func (c *Client) giveBack(ctx context.Context, name, kind string, have *Pair) (bool, error) {
	if have == nil || have.generation == "" || have.Revoked || time.Now().After(have.Leaf.NotAfter) {
		return false, nil
	}

	now, err := c.generation(ctx, 0)
	if err != nil {
		return false, fmt.Errorf("certificate for %s: %w", name, err)
	}

	if now == have.generation {
		return false, nil
	}

	c.logLost(now)

	v := c.atomicStore(kind)
	if err := v.Lock(ctx, lockOf(name)); err != nil {
		return false, fmt.Errorf("certificate for %s: %w", name, err)
	}
	defer func() { _ = v.Unlock(context.WithoutCancel(ctx), lockOf(name)) }()
	if _, err := c.load(ctx, name, kind, nil); !errors.Is(err, fs.ErrNotExist) {
		// Another node has stored its own meanwhile, which is as good.
		return err == nil, err
	}

	b, err := have.storedCert(name)
	if err == nil {
		err = v.put(ctx, lockOf(name), certmagic.StorageKeys.CertsSitePrefix(have.Issuer, name), b)
	}
	if err != nil {
		return false, fmt.Errorf("certificate for %s: %w", name, err)
	}

	return true, nil
}

func (c *Client) logLost(generation string) {
	c.lineage.mu.Lock()
	defer c.lineage.mu.Unlock()
	if c.lineage.logged != generation {
		c.lineage.logged = generation
		c.log.Warn("the storage has lost its values; certificates that this node serves are stored again", "storage", c.o.Store.String(),
			"remedy", "have it keep them: in Redis, appendonly yes; a replica must be complete before it takes over")
	}
}

// storedCert is what is stored of a pair.
func (p *Pair) storedCert(name string) (*storedCert, error) {
	signer, ok := p.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errUnusable
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, err
	}

	issued := acme.Certificate{CA: p.ca}
	if p.ari.HasWindow() {
		issued.RenewalInfo = &p.ari
	}
	data, err := json.Marshal(issued)
	if err != nil {
		return nil, err
	}

	metadata, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}, IssuerData: data})
	if err != nil {
		return nil, err
	}

	var chain strings.Builder
	for _, der := range p.Certificate.Certificate {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder takes all
	}

	return &storedCert{Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), Certificate: chain.String(), Metadata: metadata}, nil
}
