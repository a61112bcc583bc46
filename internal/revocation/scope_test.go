package revocation

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"padlock/internal/pemfile"
)

// scope is an issuing distribution point (RFC 5280 section 5.2.5).
type scope struct {
	Point          point          `asn1:"optional,tag:0"`
	Users          bool           `asn1:"optional,tag:1"`
	CAs            bool           `asn1:"optional,tag:2"`
	Reasons        asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	AttributeCerts bool           `asn1:"optional,tag:5"`
}

type point struct {
	Full []asn1.RawValue `asn1:"optional,tag:0"`
}

func at(uris ...string) (p point) {
	for _, uri := range uris {
		p.Full = append(p.Full, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
	}
	return p
}

// scoped is a list of less than all certificates, which began some time ago.
func (a *authority) scoped(t *testing.T, s scope, began time.Duration, serials ...int64) pemfile.Block {
	t.Helper()
	value, err := asn1.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	list := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-began), NextUpdate: time.Now().Add(48 * time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: value}},
	}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pemfile.Block{Type: "X509 CRL", Bytes: der}
}

// A list that says that it has not all revoked certificates of its CA passes for complete in nothing: it is refused, or what it is not about
// is not known.
func TestAListOfLessThanAllIsNoCompleteList(t *testing.T) {
	t.Parallel()
	var nobody *authority
	root := nobody.issue(t, 1, "root", true)
	below := root.issue(t, 7, "below", true)
	leaf, other := root.issue(t, 8, "leaf", false), below.issue(t, 9, "other", false)
	leaf.cert.CRLDistributionPoints = []string{"http://crl.test/1"}
	cas := []*x509.Certificate{root.cert, below.cert}
	direct, deep := []*x509.Certificate{leaf.cert, root.cert}, []*x509.Certificate{other.cert, below.cert, root.cert}
	all, hour := below.scoped(t, scope{}, time.Hour), time.Hour

	for name, c := range map[string]struct {
		list         pemfile.Block
		refused      string
		direct, deep string // why a client below the root, and one below the intermediate, does not get in
	}{
		"all":                       {root.scoped(t, scope{}, hour), "", "", ""},
		"attribute certificates":    {root.scoped(t, scope{AttributeCerts: true}, hour), "onlyContainsAttributeCerts", "", ""},
		"some reasons":              {root.scoped(t, scope{Reasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}}, hour), "onlySomeReasons", "", ""},
		"an indirect list":          {root.scoped(t, scope{Indirect: true}, hour), "it is an indirect list", "", ""},
		"users and CAs alone":       {root.scoped(t, scope{Users: true, CAs: true}, hour), "contradicts itself", "", ""},
		"a name without a URI":      {root.scoped(t, scope{Point: point{Full: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a")}}}}, hour), "has no URI", "", ""},
		"users alone":               {root.scoped(t, scope{Users: true}, hour), "", "", "no revocation list of CN=root"},
		"users alone, with it":      {root.scoped(t, scope{Users: true}, hour, 8), "", "revoked", "no revocation list of CN=root"},
		"CAs alone":                 {root.scoped(t, scope{CAs: true}, hour, 8), "", "no revocation list of CN=root", ""},
		"CAs alone, with it":        {root.scoped(t, scope{CAs: true}, hour, 7), "", "no revocation list of CN=root", "revoked"},
		"its part of the lists":     {root.scoped(t, scope{Point: at("http://crl.test/0", "http://crl.test/1")}, hour), "", "", "no revocation list of CN=root"},
		"another part of the lists": {root.scoped(t, scope{Point: at("http://crl.test/2")}, hour), "", "no revocation list of CN=root", "no revocation list of CN=root"},
		"from tomorrow on":          {root.scoped(t, scope{}, -24*hour), "which is to come", "", ""},
		"a clock a minute ahead":    {root.scoped(t, scope{}, -time.Minute), "", "", ""},
	} {
		lists, err := Read(file(t, c.list, all), cas, time.Now())
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, not %q", name, err, c.refused)
		}
		if err != nil {
			continue
		}
		for want, chain := range map[*string][]*x509.Certificate{&c.direct: direct, &c.deep: deep} {
			if _, err := lists.Check(chain, time.Now()); (err == nil) != (*want == "") || err != nil && !strings.Contains(err.Error(), *want) {
				t.Errorf("%s: of %s: %v, not %q", name, chain[0].Subject, err, *want)
			}
		}
	}
}

// Two lists that share a CA's certificates between them are as good as one.
func TestListsThatCompleteEachOtherCoverAChain(t *testing.T) {
	t.Parallel()
	var nobody *authority
	root := nobody.issue(t, 1, "root", true)
	below := root.issue(t, 7, "below", true)
	cas := []*x509.Certificate{root.cert, below.cert}
	lists, err := Read(file(t, root.scoped(t, scope{Users: true}, time.Hour), root.scoped(t, scope{CAs: true}, time.Hour), below.list(t, time.Now().Add(time.Hour))), cas, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, chain := range [][]*x509.Certificate{{root.issue(t, 8, "leaf", false).cert, root.cert}, {below.issue(t, 9, "leaf", false).cert, below.cert, root.cert}} {
		if _, err := lists.Check(chain, time.Now()); err != nil {
			t.Errorf("%s: %v", chain[0].Issuer, err)
		}
	}
}

// With lists, every CA of the bundle has one that is made with its key, whatever its name; and a client of a CA without is not let in.
func TestEveryCAHasAListOfItsOwnKey(t *testing.T) {
	t.Parallel()
	var nobody *authority
	old, renewed, other := nobody.issue(t, 1, "ca", true), nobody.issue(t, 2, "ca", true), nobody.issue(t, 3, "other", true)
	pinned, ended := nobody.issue(t, 4, "pinned", false), nobody.issue(t, 5, "ended", true)
	ended.cert.NotAfter = time.Now().Add(-time.Minute)
	sameKey := *old.cert
	sameKey.SerialNumber = big.NewInt(6)
	later := time.Now().Add(time.Hour)

	for name, c := range map[string]struct {
		cas   []*x509.Certificate
		lists []pemfile.Block
		want  string
	}{
		"each its own":                   {[]*x509.Certificate{old.cert, other.cert}, []pemfile.Block{old.list(t, later), other.list(t, later)}, ""},
		"no list for another":            {[]*x509.Certificate{old.cert, other.cert}, []pemfile.Block{old.list(t, later)}, `no revocation list is of "CN=other", so none`},
		"another key of the same name":   {[]*x509.Certificate{old.cert, renewed.cert}, []pemfile.Block{old.list(t, later)}, `made with another key than the one of the CA with serial number 2`},
		"a list for each key":            {[]*x509.Certificate{old.cert, renewed.cert}, []pemfile.Block{old.list(t, later), renewed.list(t, later)}, ""},
		"renewed with the same key":      {[]*x509.Certificate{old.cert, &sameKey}, []pemfile.Block{old.list(t, later)}, ""},
		"a client's own certificate":     {[]*x509.Certificate{old.cert, pinned.cert}, []pemfile.Block{old.list(t, later)}, ""},
		"a CA that has expired":          {[]*x509.Certificate{old.cert, ended.cert}, []pemfile.Block{old.list(t, later)}, ""},
		"no lists, so none are missing":  {[]*x509.Certificate{old.cert, other.cert}, nil, ""},
		"each its own, in another order": {[]*x509.Certificate{other.cert, old.cert}, []pemfile.Block{old.list(t, later), other.list(t, later)}, ""},
	} {
		var lists Lists
		var err error
		if c.lists != nil {
			if lists, err = Read(file(t, c.lists...), c.cas, time.Now()); err != nil {
				t.Fatal(name, err)
			}
		}
		if err = lists.Complete(c.cas, time.Now()); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", name, err, c.want)
		}
		for _, ca := range c.cas {
			if ca != other.cert && ca != renewed.cert {
				continue
			}
			by := map[*x509.Certificate]*authority{other.cert: other, renewed.cert: renewed}[ca]
			if _, err := lists.Check([]*x509.Certificate{by.issue(t, 99, "client", false).cert, ca}, time.Now()); (err == nil) != (c.want == "") {
				t.Errorf("%s: a client of %s: %v", name, ca.Subject, err)
			}
		}
	}
}

// What a chain proves ends with the first of its certificates and lists.
func TestAJudgementHoldsUntilTheFirstEnd(t *testing.T) {
	t.Parallel()
	var nobody *authority
	root := nobody.issue(t, 1, "root", true)
	leaf := root.issue(t, 8, "leaf", false)
	cas, chain := []*x509.Certificate{root.cert}, []*x509.Certificate{leaf.cert, root.cert}
	for name, next := range map[string]time.Time{"the list": time.Now().Add(time.Minute), "the leaf": time.Now().Add(3 * time.Hour)} {
		lists, err := Read(file(t, root.list(t, next)), cas, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		want := leaf.cert.NotAfter
		if name == "the list" {
			want = next.Truncate(time.Second).UTC()
		}
		if until, err := lists.Check(chain, time.Now()); err != nil || !until.Equal(want) {
			t.Errorf("%s: until %v, %v, not %v", name, until, err, want)
		}
	}
}

// A list in a block with the label that older programs write counts like any other.
func TestAListUnderItsOlderLabelCounts(t *testing.T) {
	t.Parallel()
	var nobody *authority
	one, other := nobody.issue(t, 1, "one", true), nobody.issue(t, 2, "other", true)
	later := time.Now().Add(time.Hour)
	second := other.list(t, later, 9)
	second.Type = "CRL"
	lists, err := Read(file(t, one.list(t, later), second), []*x509.Certificate{one.cert, other.cert}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lists.Check([]*x509.Certificate{other.issue(t, 9, "gone", false).cert, other.cert}, time.Now()); err == nil {
		t.Error("revoked in the block CRL, and let in")
	}
}
