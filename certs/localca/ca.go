// Package localca is a certificate authority for local names: a root made on first use, leaves made on the fly.
//
//	ca, err := localca.Open(dir, localca.Options{Organization: "Example"})
//	leaf, err := ca.Leaf("localhost")
//
// The root is constrained to local names and private addresses (RFC 5280 section 4.2.1.10) and to TLS servers
// (section 4.2.1.12), so that a stolen key cannot impersonate anybody else's site, nor sign e-mail, code or a
// client's certificate.
package localca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/hostinfo"
	"padlock/internal/access"
	"padlock/internal/invoker"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime = 397 * 24 * time.Hour // the longest that browsers accept (CA/Browser Forum, since 2020)
	backdate     = time.Hour            // for clients whose clocks are slow
	maxLeaves    = 1000
	lookEvery    = time.Second            // for another root in the file
	lookPatience = 100 * time.Millisecond // of the handshake that looks
	bundleFile   = "root.pem"
	maxFile      = 1 << 20 // bytes of any file here

	// nobody is the only host whose e-mail addresses and URIs a root permits: a permitted name that nobody can have (RFC
	// 6761 section 6.4) forbids all others, and OpenSSL, unlike others, knows no excluded name that matches every one.
	nobody = "padlock.invalid"
)

// Options of Open.
type Options struct {
	Organization string           // in the subject of root and leaves
	Allow        []string         // further DNS names that the root may sign, by the user's own word: they are remembered
	Clock        func() time.Time // time.Now
}

// CA signs leaves. It is safe for use from many goroutines. When another root takes the place of the one in the file,
// as padlock trust
// --renew puts one there, the next leaves are signed by that.
type CA struct {
	options Options
	file    string
	current atomic.Pointer[authority]

	mu     sync.Mutex
	leaves map[string]*tls.Certificate

	looked  atomic.Int64 // at the file, in Unix nanoseconds
	looking atomic.Bool

	storing sync.Mutex
	asked   atomic.Bool // for a leaf, or to be stored
}

// authority is a root with its key. It never changes.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	info fs.FileInfo // of the file, as it was read
	data []byte      // what the file is still to hold; nil: it does
}

// Open reads the root below dir, or makes it. Several processes that open the same directory at once get the same
// root. A file that cannot be used is an error that names it; it is never replaced by itself. So is a root that
// permits more than local names, private addresses, and the names that this Options.Allow or one before has named. A
// root that does not permit a name of Options.Allow is replaced by one that does, which must be trusted anew.
func Open(dir string, o Options) (*CA, error) {
	ca, err := prepare(dir, o)
	if err != nil {
		return nil, err
	}

	allowed, err := ca.allowed()
	if err != nil {
		return nil, err
	}

	found, err := ca.load()
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil || missing {
		err = ca.remember()
	}

	switch {
	case err != nil:
	case missing:
		// A link, unlike a rename, never replaces what another process has put there.
		found, err = ca.create(allowed, os.Link)
	case !permitsAll(found.root, o.Allow):
		found, err = ca.replace(found.root, mergeNames(found.root.PermittedDNSDomains, o.Allow))
	}

	if err != nil {
		return nil, err
	}

	ca.current.Store(found)
	return ca, nil
}

// Peek is Open without changing anything: where there is no root, one stands in that is only in memory.
func Peek(dir string, o Options) (*CA, error) {
	ca := newCA(dir, o)
	found, err := ca.load()
	if errors.Is(err, fs.ErrNotExist) {
		found, err = ca.unwritten()
	}
	if err != nil {
		return nil, err
	}
	ca.current.Store(found)
	return ca, nil
}

// Unstored reports whether the root is only in memory, as it is after Peek where there was none, and whether it was
// to be stored, or a leaf was asked for: then somebody may come to trust it.
func (ca *CA) Unstored() (unstored, asked bool) {
	return ca.current.Load().data != nil, ca.asked.Load()
}

// Store writes a root that is only in memory, or takes the one that another process has put in its place.
func (ca *CA) Store() error {
	ca.storing.Lock()
	defer ca.storing.Unlock()
	ca.asked.Store(true)
	before := ca.current.Load()
	if before.data == nil {
		return nil
	}

	if err := invoker.MkdirAll(filepath.Dir(ca.file), 0o700); err != nil {
		return fmt.Errorf("making the directory of the local CA: %w", err)
	}

	found, err := ca.place(before.data, os.Link)
	if err != nil {
		return err
	}

	ca.mu.Lock()
	defer ca.mu.Unlock()
	// Another process has made the root meanwhile. Leaves under ours would not be trusted.
	if !found.root.Equal(before.root) {
		clear(ca.leaves)
	}

	ca.current.Store(found)
	return nil
}

func (ca *CA) unwritten() (*authority, error) {
	allowed, err := ca.allowed()
	if err != nil {
		return nil, err
	}
	data, err := ca.newRoot(allowed)
	if err != nil {
		return nil, err
	}
	pair, err := pemfile.Pair(ca.file, data, ca.file, data)
	if err != nil {
		return nil, err
	}

	return &authority{root: pair.Leaf, key: pair.PrivateKey.(*ecdsa.PrivateKey), data: data}, nil
}

// Renew puts a new root in the place of the one below dir, whatever that is, and returns the former one's
// certificate, nil where none can be read. The new one permits local names and those of every Options.Allow so far.
func Renew(dir string, o Options) (ca *CA, former *x509.Certificate, err error) {
	if ca, err = prepare(dir, o); err != nil {
		return nil, nil, err
	}

	allowed, err := ca.allowed()
	if err == nil {
		err = ca.remember()
	}
	if err != nil {
		return nil, nil, err
	}

	if data, err := regular.Read(ca.file, maxFile); err == nil {
		// The file may be damaged, which is a reason to renew. Its certificate is still of use for removing trust.
		former = certificateIn(data)
	}

	found, err := ca.replace(former, allowed)
	if err != nil {
		return nil, nil, err
	}
	ca.current.Store(found)
	return ca, former, nil
}

func newCA(dir string, o Options) *CA {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &CA{options: o, file: filepath.Join(dir, "localca", bundleFile), leaves: map[string]*tls.Certificate{}}
}

func prepare(dir string, o Options) (*CA, error) {
	ca := newCA(dir, o)
	if err := invoker.MkdirAll(filepath.Dir(ca.file), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the local CA: %w", err)
	}
	return ca, nil
}

func permitsAll(root *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !permits(root, name) })
}

// load reads certificate and key, which stand in one file so that they can never disagree.
func (ca *CA) load() (*authority, error) {
	info, err := os.Stat(ca.file)
	if err != nil {
		return nil, err
	}
	// Whoever can read the key can impersonate every local name to those who trust the root.
	if access.Others(info) != 0 && !access.Modeless(ca.file) {
		return nil, fmt.Errorf("the local CA's file %s can be read by others (mode %#o): chmod 600 it; padlock trust --renew makes a new root", ca.file, info.Mode().Perm())
	}

	data, err := regular.Read(ca.file, maxFile)
	if err != nil {
		return nil, err
	}

	pair, err := pemfile.Pair(ca.file, data, ca.file, data)
	if err != nil {
		return nil, fmt.Errorf("the local CA's file %s is damaged (%w): padlock trust --renew makes a new root", ca.file, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("the local CA's file %s does not hold a local CA: padlock trust --renew makes a new root", ca.file)
	}

	if !ca.options.Clock().Before(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("the local CA in %s has expired: padlock trust --renew makes a new root", ca.file)
	}

	allowed, err := ca.allowed()
	if err != nil {
		return nil, err
	}
	if err := bounded(pair.Leaf, allowed); err != nil {
		return nil, fmt.Errorf("the local CA's file %s: %w", ca.file, err)
	}

	return &authority{root: pair.Leaf, key: key, info: info}, nil
}

// Shared reports whether padlock's group can read the root's key, and in which file, as on a volume with an fsGroup.
func (ca *CA) Shared() (file string, shared bool) {
	info, err := os.Stat(ca.file)
	return ca.file, err == nil && access.Group(info)&access.Read != 0
}

// bounded refuses a root whose key could sign for more than padlock's own names. Roots of before, which say nothing
// of e-mail, URIs and the use of a key, are taken: see Outdated.
func bounded(root *x509.Certificate, allowed []string) error {
	const renew = "padlock trust --renew makes a new root"
	if !root.PermittedDNSDomainsCritical || len(root.PermittedDNSDomains) == 0 || len(root.PermittedIPRanges) == 0 || len(root.UnhandledCriticalExtensions) > 0 {
		return errors.New("its name constraints are missing, so that its key could sign for any name; " + renew)
	}

	// The file may come from another machine, or have been exchanged. Its constraints are checked before anybody is
	// asked to trust it.
	own := mergeNames(config.LocalDomains, allowed)
	var strange, more []string
	for _, name := range root.PermittedDNSDomains {
		if !config.Within(strings.TrimPrefix(name, "."), own) {
			strange = append(strange, name)
		}
	}

	for _, network := range root.PermittedIPRanges {
		if !private(network) {
			more = append(more, network.String())
		}
	}

	for _, name := range slices.Concat(root.PermittedEmailAddresses, root.PermittedURIDomains) {
		if name != nobody {
			more = append(more, name)
		}
	}

	servers := len(root.ExtKeyUsage) == 0 || slices.Equal(root.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	switch {
	case len(more) > 0:
		return fmt.Errorf("its key could sign for %s; %s", strings.Join(more, ", "), renew)
	case !servers || len(root.UnknownExtKeyUsage) > 0:
		return errors.New("its key could sign for others than TLS servers; " + renew)
	case len(strange) > 0:
		return fmt.Errorf("its key could sign for %s, which nobody has allowed here; if you want that: padlock trust --allow %s; else %s",
			strings.Join(strange, ", "), strings.Join(strange, " --allow "), renew)
	}

	return nil
}

// private reports whether a network lies within one of those that are nobody's on the Internet.
func private(network *net.IPNet) bool {
	ones, bits := network.Mask.Size()
	return slices.ContainsFunc(config.PrivateNetworks(), func(own *net.IPNet) bool {
		least, of := own.Mask.Size()
		return bits == of && ones >= least && own.Contains(network.IP)
	})
}

// Outdated reports whether the root was made before roots said that they are for TLS servers alone: its stolen key
// could sign e-mail, code and clients' certificates. Renew makes one that cannot.
func (ca *CA) Outdated() bool {
	root := ca.Root()
	return len(root.ExtKeyUsage) == 0 || len(root.PermittedEmailAddresses) == 0 || len(root.PermittedURIDomains) == 0
}

// replace makes a root that takes the place of the one before, which is noted for those who have trusted it.
func (ca *CA) replace(former *x509.Certificate, permitted []string) (*authority, error) {
	if former != nil {
		if err := ca.retire(former); err != nil {
			return nil, fmt.Errorf("noting the former local CA: %w", err)
		}
	}
	return ca.create(permitted, os.Rename)
}

// create makes a root and puts its file in place whole.
func (ca *CA) create(permitted []string, place func(from, to string) error) (*authority, error) {
	data, err := ca.newRoot(permitted)
	if err != nil {
		return nil, fmt.Errorf("making the local CA: %w", err)
	}
	return ca.place(data, place)
}

// place puts the file of a root in place, or finds that another process was faster.
func (ca *CA) place(data []byte, place func(from, to string) error) (*authority, error) {
	if err := writeFile(ca.file, data, place); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("storing the local CA: %w", err)
	}
	return ca.load()
}

// writeFile writes a file aside, for its owner alone, and puts it in place whole.
func writeFile(name string, data []byte, place func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())

	_, err = f.Write(data)
	// Synced before it is put in place: a root that is trusted and then lost with the power would have to be
	// trusted anew.
	if err = errors.Join(err, invoker.GiveIn(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return place(f.Name(), name)
}

func (ca *CA) newRoot(permitted []string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}

	now := ca.options.Clock()
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}

	// Constraints in the root bound what a stolen key can sign, in clients that check them.
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{ca.options.Organization},
			CommonName:   fmt.Sprintf("padlock local CA %x", serial.Bytes()[:4]),
		},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		// Of whatever it signs: clients take it for a bound.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         mergeNames(config.LocalDomains, permitted),
		PermittedIPRanges:           config.PrivateNetworks(),
		PermittedEmailAddresses:     []string{nobody},
		PermittedURIDomains:         []string{nobody},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}

	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}

	var b bytes.Buffer
	err = errors.Join(pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	return b.Bytes(), err
}

func mergeNames(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		for _, name := range list {
			if name = strings.TrimPrefix(name, "*."); !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	// The top bit keeps every serial number at the same length of 16 bytes.
	return serial.SetBit(serial, 126, 1), nil
}

// Root is the CA's certificate.
func (ca *CA) Root() *x509.Certificate { return ca.current.Load().root }

// RootPEM is the certificate alone, without its key.
func (ca *CA) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root().Raw})
}

// Fingerprint is the SHA-256 of the root, as browsers show it.
func (ca *CA) Fingerprint() string { return hostinfo.Fingerprint(ca.Root()) }

// Permits reports whether the root may sign a leaf for a canonical name or address.
func (ca *CA) Permits(name string) bool { return permits(ca.Root(), name) }

func permits(root *x509.Certificate, name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(root.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return config.Within(strings.TrimPrefix(name, "*."), root.PermittedDNSDomains)
}

// Leaf returns a certificate for a canonical name or address, made when first asked for and again before it expires.
func (ca *CA) Leaf(name string) (*tls.Certificate, error) {
	if !ca.Permits(name) {
		return nil, fmt.Errorf("the local CA is not for %q; padlock trust --allow %s makes one that is", name, name)
	}

	ca.asked.Store(true)
	ca.look()
	ca.mu.Lock()
	// Signing takes 50 µs, so waiting here costs less than a second signature.
	defer ca.mu.Unlock()
	now := ca.options.Clock()

	// Renewed with a third of the lifetime left, and anew where the clock was set back before its beginning.
	if leaf, ok := ca.leaves[name]; ok && now.Before(leaf.Leaf.NotAfter.Add(-leafLifetime/3)) && !now.Before(leaf.Leaf.NotBefore) {
		return leaf, nil
	}

	leaf, err := ca.sign(name, now)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %q: %w", name, err)
	}

	// Invented names must not fill the memory. Any entry can be made again.
	if len(ca.leaves) >= maxLeaves {
		for evicted := range ca.leaves {
			delete(ca.leaves, evicted)
			break
		}
	}

	ca.leaves[name] = leaf
	return leaf, nil
}

// look takes another root from the file once one is there. What cannot be used changes nothing. One handshake waits
// for it, and not for long: the file may be on a server that does not answer, and then comes when it does.
func (ca *CA) look() {
	last := ca.looked.Load()
	// Another process may renew the root at any time. One stat a second is enough to notice.
	if time.Since(time.Unix(0, last)) < lookEvery || !ca.looking.CompareAndSwap(false, true) {
		return
	}

	ca.looked.Store(time.Now().UnixNano())

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer ca.looking.Store(false)
		ca.follow()
	}()

	timer := time.NewTimer(lookPatience)
	defer timer.Stop()

	select {
	case <-done:
	case <-timer.C:
	}
}

func (ca *CA) follow() {
	before := ca.current.Load()
	info, err := os.Stat(ca.file)
	if err != nil || before.info != nil && os.SameFile(info, before.info) && info.ModTime().Equal(before.info.ModTime()) {
		return
	}

	found, err := ca.load()
	if err != nil {
		return
	}

	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.current.CompareAndSwap(before, found) && !found.root.Equal(before.root) {
		clear(ca.leaves)
	}
}

// Leaves are the certificates that have been signed and are in memory, in no order.
func (ca *CA) Leaves() []*tls.Certificate {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return slices.Collect(maps.Values(ca.leaves))
}

// Forget has the next leaf for a name made anew. Browsers remember for a while what they thought of the one before.
func (ca *CA) Forget(name string) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	delete(ca.leaves, name)
}

func (ca *CA) sign(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}

	serial, err := newSerial()
	if err != nil {
		return nil, err
	}

	by := ca.current.Load()
	until := now.Add(leafLifetime - backdate)
	if until.After(by.root.NotAfter) {
		// A leaf that outlives its root is rejected by some clients.
		until = by.root.NotAfter
	}

	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{ca.options.Organization}},
		NotBefore:    now.Add(-backdate), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}

	// RFC 5280 appendix A.1 bounds a common name at 64 characters. The names that clients check are the alternative
	// names below.
	if len(name) <= 64 {
		template.Subject.CommonName = name
	}

	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
		if ip.IsLoopback() {
			// Java sends no server name for localhost, and so receives the certificate of the address.
			template.DNSNames = []string{"localhost"}
		}
	} else {
		template.DNSNames = []string{name}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, by.root, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
