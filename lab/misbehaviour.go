package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/lab/pki"
	"padlock/lab/rogue"
)

// misbehaviours are the endpoints whose server, or somebody on the path, does not keep to the protocol.
func misbehaviours() []Endpoint {
	var all []Endpoint
	for _, list := range [][]Endpoint{signatures(), stateMachine(), records(), flips(), ends(), silences(), notTLS(), bodies()} {
		all = append(all, list...)
	}
	for i := range all {
		all[i].Group = Misbehaviour
		if all[i].rogue == nil {
			continue
		}
		if all[i].basis == "" && all[i].Name != byHandName {
			all[i].basis = byHandName
		}
		if all[i].proof == ByRequest {
			all[i].proof = ByFinished
		}
	}
	return all
}

// byHandName is the endpoint that proves that package rogue can also do right.
const byHandName = "tls-1.3-by-hand"

const noKey = "Anybody who has seen the site's certificate, which is public, poses as the site."

func signatures() []Endpoint {
	ours := func(m *pki.Maker) *tls.Certificate { return m.Chain(nil) }
	return []Endpoint{
		{Name: byHandName, Expect: ShouldAccept, Wrong: "Nothing: TLS 1.3 with X25519 and AES-128-GCM, by the server that the endpoints with faults in the protocol use.", Rule: "RFC 8446", Consequence: "Nothing can be said of the endpoints that this server has.", rogue: plan(func(*rogue.Plan) {})},
		{
			Name: "wrong-signature", Expect: MustRefuse, Wrong: "A bit of the signature in CertificateVerify is wrong.", Rule: "RFC 8446 section 4.4.3", Consequence: noKey,
			rogue: signing(func(key crypto.Signer) rogue.Signature { return damaged(rogue.Sign(key)) }, ours),
		},
		{
			Name: "wrong-key", Expect: MustRefuse, Wrong: "CertificateVerify is signed by another key than the certificate's.", Rule: "RFC 8446 section 4.4.3", Consequence: noKey,
			rogue: signing(func(crypto.Signer) rogue.Signature {
				other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				return rogue.Sign(other)
			}, ours),
		},
		{
			Name: "stale-signature", Expect: MustRefuse, Wrong: "CertificateVerify has a right signature, of another handshake.", Rule: "RFC 8446 section 4.4.3", Consequence: "Whoever has recorded one signature poses as the site for ever.",
			rogue: signing(func(key crypto.Signer) rogue.Signature {
				return func(offered []uint16, content []byte) (uint16, []byte, error) {
					other := slices.Clone(content)
					other[len(other)-1] ^= 1
					return rogue.Sign(key)(offered, other)
				}
			}, ours),
		},
		{
			Name: "zero-signature", Expect: MustRefuse, Wrong: "The ECDSA signature in CertificateVerify is (0, 0), which fits every key for who does not look.", Rule: "FIPS 186-5 section 6.4.2; CVE-2022-21449", Consequence: noKey,
			rogue: signing(func(crypto.Signer) rogue.Signature {
				return func([]uint16, []byte) (uint16, []byte, error) {
					zero, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int), new(big.Int)})
					return uint16(tls.ECDSAWithP256AndSHA256), zero, err
				}
			}, ours),
		},
		{
			Name: "empty-signature", Expect: MustRefuse, Wrong: "The signature in CertificateVerify is empty.", Rule: "RFC 8446 section 4.4.3", Consequence: noKey,
			rogue: signing(func(crypto.Signer) rogue.Signature {
				return func([]uint16, []byte) (uint16, []byte, error) { return uint16(tls.ECDSAWithP256AndSHA256), nil, nil }
			}, ours),
		},
		{
			Name: "signature-pkcs1", Expect: ShouldRefuse, Wrong: "CertificateVerify is signed with RSA PKCS #1 v1.5, which TLS 1.3 does not have.", Rule: "RFC 8446 section 4.4.3 and 4.2.3", Consequence: "Old attacks on this padding come back.",
			rogue: signing(rogue.SignPKCS1, func(m *pki.Maker) *tls.Certificate { return rsaLeaf(2048, nil)(m) }),
		},
		{
			Name: "signature-sha1", Expect: ShouldRefuse, Wrong: "CertificateVerify is signed with SHA-1, which TLS 1.3 does not have.", Rule: "RFC 8446 section 4.4.3, RFC 9155", Consequence: "Collisions of SHA-1 let an attacker on the path pose as the site (SLOTH).",
			rogue: signing(rogue.SignSHA1, ours),
		},
		{
			Name: "signature-unoffered", Expect: MustRefuse, Wrong: "CertificateVerify names a signature algorithm that does not exist.", Rule: "RFC 8446 section 4.4.3: must be one of those that the client offers", Consequence: noKey,
			rogue: signing(func(key crypto.Signer) rogue.Signature {
				return func(offered []uint16, content []byte) (uint16, []byte, error) {
					_, signature, err := rogue.Sign(key)(offered, content)
					return 0x0499, signature, err
				}
			}, ours),
		},
		{
			Name: "wrong-signature-1.2", Expect: MustRefuse, Wrong: "In TLS 1.2: a bit of the signature in ServerKeyExchange is wrong.", Rule: "RFC 5246 section 7.4.3", Consequence: noKey, basis: "tls-1.2",
			config: only(tls.VersionTLS12), chains: one(func(m *pki.Maker) *tls.Certificate { return badSigner(m.Chain(nil), false) }),
		},
		{
			Name: "wrong-key-1.2", Expect: MustRefuse, Wrong: "In TLS 1.2: ServerKeyExchange is signed by another key than the certificate's.", Rule: "RFC 5246 section 7.4.3", Consequence: noKey, basis: "tls-1.2",
			config: only(tls.VersionTLS12), chains: one(func(m *pki.Maker) *tls.Certificate { return badSigner(m.Chain(nil), true) }),
		},
	}
}

func damaged(sign rogue.Signature) rogue.Signature {
	return func(offered []uint16, content []byte) (uint16, []byte, error) {
		scheme, signature, err := sign(offered, content)
		if err == nil {
			signature[len(signature)-1] ^= 1
		}
		return scheme, signature, err
	}
}

// wrongSigner signs wrongly with a key, or rightly with another one.
type wrongSigner struct {
	crypto.Signer
	other crypto.Signer // nil: a bit of the own signature is changed
}

func badSigner(c *tls.Certificate, other bool) *tls.Certificate {
	w := wrongSigner{Signer: c.PrivateKey.(crypto.Signer)}
	if other {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil
		}
		w.other = key
	}
	c.PrivateKey = w
	return c
}

func (w wrongSigner) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if w.other != nil {
		return w.other.Sign(r, digest, o)
	}
	signature, err := w.Signer.Sign(r, digest, o)
	if err == nil {
		signature[len(signature)-1] ^= 1
	}
	return signature, err
}

func skip(types ...byte) func(*rogue.Plan) {
	return func(p *rogue.Plan) {
		p.Skip = map[byte]bool{}
		for _, t := range types {
			p.Skip[t] = true
		}
	}
}

const loose = "None is known by itself. A client that is loose about the protocol's order and fields has had holes of the SMACK kind."

const changedHello = "Attackers on the path change what the two sides agree on."

func stateMachine() []Endpoint {
	return []Endpoint{
		{
			Name: "wrong-finished", Expect: MustRefuse, Wrong: "A bit of the server's Finished is wrong; all else fits it.", Rule: "RFC 8446 section 4.4.4: must terminate", Consequence: changedHello,
			rogue: plan(func(p *rogue.Plan) {
				p.Finished = func(mac []byte) []byte {
					mac[0] ^= 1
					return mac
				}
			}),
		},
		{
			Name: "wrong-finished-1.2", Expect: MustRefuse, proof: ByExit, Wrong: "In TLS 1.2: a bit of the server's Finished is wrong, and encrypted as it is.", Rule: "RFC 5246 section 7.4.9", Consequence: changedHello, basis: "tls-1.2-recrypted",
			config: recryptable, wire: recrypted(func(n int, p plainRecord) []plainRecord {
				if n == 1 {
					p.content[4] ^= 1
				}
				return []plainRecord{p}
			}),
		},
		{
			Name: "tls-1.2-recrypted", Expect: ShouldAccept, Wrong: "Nothing: TLS 1.2 with AES-128-GCM, through what changes the records of the endpoints with faults in TLS 1.2.", Rule: "RFC 5246", Consequence: "Nothing can be said of those endpoints.",
			config: recryptable, wire: recrypted(func(_ int, p plainRecord) []plainRecord { return []plainRecord{p} }),
		},
		{
			Name: "renegotiation", Expect: May, proof: ByReport, Wrong: "In TLS 1.2: the server asks for a renegotiation before its answer, and knows none itself.", Rule: "RFC 5246 section 7.4.1.1: the client may ignore it; RFC 9325 section 3.5", Consequence: "Clients that renegotiate fail here; those that do it without RFC 5746 can be attacked.", basis: "tls-1.2-recrypted",
			config: recryptable, wire: recrypted(func(n int, p plainRecord) []plainRecord {
				if n == 2 {
					return []plainRecord{{handshakeRecord, []byte{0, 0, 0, 0}}, p}
				}
				return []plainRecord{p}
			}),
		},
		{
			Name: "short-finished", Expect: MustRefuse, Wrong: "The server's Finished has 12 bytes of 32, as in TLS 1.2.", Rule: "RFC 8446 section 4.4.4", Consequence: changedHello,
			rogue: plan(func(p *rogue.Plan) { p.Finished = func(mac []byte) []byte { return mac[:12] } }),
		},
		{Name: "no-finished", Expect: MustRefuse, Wrong: "The server leaves its Finished out, and sends data.", Rule: "RFC 8446 section 4.4.4", Consequence: changedHello, rogue: plan(func(p *rogue.Plan) {
			skip(rogue.Finished)(p)
			p.Early = true
		})},
		{Name: "no-certificate-verify", Expect: MustRefuse, Wrong: "The server leaves CertificateVerify out.", Rule: "RFC 8446 section 4.4; CVE-2020-24613, CVE-2022-25640", Consequence: noKey, rogue: plan(skip(rogue.CertificateVerify))},
		{Name: "no-certificate", Expect: MustRefuse, Wrong: "The server sends neither Certificate nor CertificateVerify, and there is no pre-shared key.", Rule: "RFC 8446 section 4.4.2", Consequence: anybody, rogue: plan(skip(rogue.Certificate, rogue.CertificateVerify))},
		{
			Name: "empty-certificate", Expect: MustRefuse, Wrong: "The list in Certificate is empty.", Rule: "RFC 8446 section 4.4.2.4: must abort with decode_error", Consequence: anybody,
			rogue: plan(func(p *rogue.Plan) {
				p.Message = func(m *rogue.Message) {
					if m.Type == rogue.Certificate {
						m.Body = make([]byte, 4)
					}
				}
			}),
		},
		{Name: "no-encrypted-extensions", Expect: ShouldRefuse, Wrong: "The server leaves EncryptedExtensions out.", Rule: "RFC 8446 section 4.3.1", Consequence: loose, rogue: plan(skip(rogue.EncryptedExtensions))},
		{
			Name: "unknown-message", Expect: ShouldRefuse, Wrong: "A handshake message of an unknown type comes before EncryptedExtensions.", Rule: "RFC 8446 section 4: unexpected_message", Consequence: loose,
			rogue: plan(func(p *rogue.Plan) {
				p.Before = func(c *rogue.Conn) error { return c.Send(rogue.Message{Type: 99, Body: []byte{1, 2, 3}}) }
			}),
		},
		{
			Name: "data-in-handshake", Expect: MustRefuse, Wrong: "Application data comes between ServerHello and EncryptedExtensions, before the server has proved who it is.", Rule: "RFC 8446 section 4: unexpected_message", Consequence: "Anybody on the path puts content in front of the site's.",
			rogue: plan(func(p *rogue.Plan) {
				p.Before = func(c *rogue.Conn) error { return c.Record(rogue.Data, []byte("HTTP/1.1 200 OK\r\n\r\n")) }
			}),
		},
		{
			Name: "plaintext-flight", Expect: MustRefuse, Wrong: "A handshake message comes in plaintext behind ServerHello.", Rule: "RFC 8446 section 5", Consequence: changedHello,
			rogue: plan(func(p *rogue.Plan) {
				p.Before = func(c *rogue.Conn) error {
					return c.Plain(rogue.Handshake, []byte{rogue.EncryptedExtensions, 0, 0, 2, 0, 0})
				}
			}),
		},
		{
			Name: "second-hello-retry", Expect: ShouldRefuse, Wrong: "The server sends HelloRetryRequest twice.", Rule: "RFC 8446 section 4.1.4: must abort", Consequence: "A client can be kept busy for ever.",
			rogue: plan(func(p *rogue.Plan) { p.RetryTwice = true }),
		},
		{
			Name: "hello-retry-for-nothing", Expect: ShouldRefuse, Wrong: "HelloRetryRequest asks for the key share that the client has sent.", Rule: "RFC 8446 section 4.1.4: must abort with illegal_parameter", Consequence: loose,
			rogue: plan(func(p *rogue.Plan) { p.RetryShare = true }),
		},
		hello("suite-unoffered", MustRefuse, "The server chooses a cipher suite that the client has not offered: 0x13fe.", "RFC 8446 section 4.1.3", changedHello, func(h *rogue.Hello) { h.Suite = 0x13fe }),
		hello("version-unoffered", MustRefuse, "supported_versions names TLS 1.4, which nobody has.", "RFC 8446 section 4.2.1", changedHello, func(h *rogue.Hello) { h.Extensions[0].Data = []byte{3, 5} }),
		hello("session-id-changed", ShouldRefuse, "legacy_session_id_echo is not what the client has sent.", "RFC 8446 section 4.1.3: must abort with illegal_parameter", loose, func(h *rogue.Hello) { h.Session = sessionOther(h.Session) }),
		hello("compression", ShouldRefuse, "legacy_compression_method is 1.", "RFC 8446 section 4.1.3: must be 0", "With compression, the length of what is encrypted tells its content (CRIME).", func(h *rogue.Hello) { h.Compression = 1 }),
		hello("hello-extension-unoffered", ShouldRefuse, "ServerHello has an extension that the client has not sent.", "RFC 8446 section 4.2: must abort with unsupported_extension", loose, func(h *rogue.Hello) { h.Extensions = append(h.Extensions, rogue.Ext{ID: 0xfe77, Data: []byte{1}}) }),
		hello("hello-extension-twice", ShouldRefuse, "ServerHello has an extension twice.", "RFC 8446 section 4.2", loose, func(h *rogue.Hello) { h.Extensions = append(h.Extensions, h.Extensions[0]) }),
		{
			Name: "extension-unoffered", Expect: ShouldRefuse, Wrong: "EncryptedExtensions has an extension that the client has not sent.", Rule: "RFC 8446 section 4.2: must abort with unsupported_extension", Consequence: loose,
			rogue: plan(func(p *rogue.Plan) {
				p.Extensions = func(e []rogue.Ext) []rogue.Ext { return append(e, rogue.Ext{ID: 0xfe77, Data: []byte{1}}) }
			}),
		},
		{
			Name: "zero-key-share", Expect: MustRefuse, Wrong: "The server's X25519 share is zero, so the secret is known to everybody.", Rule: "RFC 8446 section 7.4.2, RFC 7748 section 6.1: must abort", Consequence: "The content is encrypted with a key that everybody knows.",
			rogue: plan(func(p *rogue.Plan) { p.ZeroShare = true }),
		},
		{
			Name: "client-certificate-unoffered", Expect: MustRefuse, proof: ByReport, Wrong: "The server asks for a client certificate in the middle of the data, which the client has not offered.", Rule: "RFC 8446 section 4.6.2: must abort with unexpected_message", Consequence: "A request is tied to an identity that the client did not mean to show.",
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error {
					return c.Send(rogue.Message{Type: rogue.CertificateRequest, Body: []byte{1, 7, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3}})
				}
			}),
			tuned: func(h *tls.ClientHelloInfo) string {
				const postHandshakeAuth = 49
				if slices.Contains(h.Extensions, postHandshakeAuth) {
					return "it offers it"
				}
				return ""
			},
		},
		{
			Name: "finished-again", Expect: ShouldRefuse, proof: ByReport, Wrong: "A second Finished comes behind the handshake.", Rule: "RFC 8446 section 4.6: unexpected_message", Consequence: loose,
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error { return c.Send(rogue.Message{Type: rogue.Finished, Body: make([]byte, 32)}) }
			}),
		},
		{
			Name: "hello-request-1.3", Expect: ShouldRefuse, proof: ByReport, Wrong: "The server asks for a renegotiation, which TLS 1.3 does not have.", Rule: "RFC 8446 section 4: unexpected_message", Consequence: loose,
			rogue: plan(func(p *rogue.Plan) { p.After = func(c *rogue.Conn) error { return c.Send(rogue.Message{Type: 0}) } }),
		},
	}
}

// hello is an endpoint whose ServerHello is wrong.
func hello(name string, expect Expectation, wrong, rule, consequence string, change func(*rogue.Hello)) Endpoint {
	return Endpoint{Name: name, Expect: expect, Wrong: wrong, Rule: rule, Consequence: consequence, rogue: plan(func(p *rogue.Plan) { p.Hello = change })}
}

func sessionOther(session []byte) []byte {
	if len(session) == 0 {
		return []byte{1, 2, 3, 4}
	}
	other := slices.Clone(session)
	other[0] ^= 1
	return other
}

const flooded = "A server keeps a client busy without sending anything."

func records() []Endpoint {
	return []Endpoint{
		{
			Name: "records-of-one-byte", Expect: MustAccept, Wrong: "Nothing: each byte of the server's flight is in a record of its own, encrypted.", Rule: "RFC 8446 section 5.1: messages may be fragmented", Consequence: "The client fails at some devices, and behind some firewalls.",
			rogue: plan(func(p *rogue.Plan) { p.RecordSize = 1 }),
		},
		{
			Name: "records-of-one-byte-1.2", Expect: MustAccept, Wrong: "Nothing: in TLS 1.2, each byte of the server's flight is in a record of its own.", Rule: "RFC 5246 section 6.2.1", Consequence: "The client fails at some devices, and behind some firewalls.", basis: "tls-1.2",
			config: only(tls.VersionTLS12), wire: fragments(1),
		},
		{
			Name: "segments-of-one-byte", Expect: MustAccept, Wrong: "Nothing: each byte of the server's flight is written alone.", Rule: "RFC 9293: TCP has no boundaries", Consequence: "The client fails on slow networks.", wire: trickle(1, 0),
		},
		{
			Name: "padding", Expect: MustAccept, Wrong: "Nothing: each record has 2,000 zeros of padding.", Rule: "RFC 8446 section 5.4", Consequence: "The client fails at servers that hide the length of content.",
			rogue: plan(func(p *rogue.Plan) { p.Padding = 2000 }),
		},
		{
			Name: "record-16k", Expect: MustAccept, Wrong: "Nothing: the answer comes in a record with 2^14 bytes of content, the most that is allowed.", Rule: "RFC 8446 section 5.1", Consequence: "The client fails at most servers.",
			rogue: plan(func(*rogue.Plan) {}), answer: bigRecord(1 << 14),
		},
		{
			Name: "record-16k-and-1", Expect: ShouldRefuse, proof: ByReport, Wrong: "The answer comes in a record with 2^14 + 1 bytes of content.", Rule: "RFC 8446 section 5.4: must terminate with record_overflow", Consequence: "Buffers of 2^14 bytes overflow where nobody looks.", basis: "record-16k",
			rogue: plan(func(*rogue.Plan) {}), answer: bigRecord(1<<14 + 1),
		},
		{
			Name: "record-too-long", Expect: ShouldRefuse, proof: ByReport, Wrong: "The answer comes in a record of 2^14 + 257 encrypted bytes.", Rule: "RFC 8446 section 5.2: must terminate with record_overflow", Consequence: "Buffers of 2^14 + 256 bytes overflow where nobody looks.", basis: "record-16k",
			rogue: plan(func(*rogue.Plan) {}), answer: bigRecord(1<<14 + 257 - 17),
		},
		{
			Name: "empty-handshake-record", Expect: ShouldRefuse, Wrong: "A handshake record without content comes before EncryptedExtensions.", Rule: "RFC 8446 section 5.4: must terminate with unexpected_message", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) { p.Before = func(c *rogue.Conn) error { return c.Record(rogue.Handshake, nil) } }),
		},
		{
			Name: "record-of-padding", Expect: ShouldRefuse, Wrong: "An encrypted record has nothing but zeros: not even a type.", Rule: "RFC 8446 section 5.4: must terminate with unexpected_message", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) { p.Before = func(c *rogue.Conn) error { return c.Record(0, nil) } }),
		},
		{
			Name: "empty-data-flood", Expect: May, proof: ByReport, Wrong: "1,000 records of application data without content come before the answer.", Rule: "RFC 8446 section 5.1 allows them; clients bound their number", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error { return times(1000, func() error { return c.Record(rogue.Data, nil) }) }
			}),
		},
		{
			Name: "key-update", Expect: MustAccept, Wrong: "Nothing: the server updates its key once before its answer.", Rule: "RFC 8446 section 4.6.3", Consequence: "The client fails on long connections.",
			rogue: plan(func(p *rogue.Plan) { p.After = update(1) }),
		},
		{
			Name: "key-update-flood", Expect: May, proof: ByReport, Wrong: "The server updates its key 1,000 times before its answer.", Rule: "RFC 8446 section 4.6.3 sets no limit; clients do", Consequence: flooded, basis: "key-update",
			rogue: plan(func(p *rogue.Plan) { p.After = update(1000) }),
		},
		{
			Name: "key-update-illegal", Expect: ShouldRefuse, proof: ByReport, Wrong: "A KeyUpdate has the value 2.", Rule: "RFC 8446 section 4.6.3: must terminate with illegal_parameter", Consequence: loose, basis: "key-update",
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error {
					defer c.Update()
					return c.Send(rogue.Message{Type: rogue.KeyUpdate, Body: []byte{2}})
				}
			}),
		},
		{
			Name: "ticket-flood", Expect: May, proof: ByReport, Wrong: "The server sends 1,000 tickets before its answer.", Rule: "RFC 8446 section 4.6.1 sets no limit", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) {
				p.After = func(c *rogue.Conn) error {
					return times(1000, func() error { return c.Send(rogue.Message{Type: rogue.NewSessionTicket, Body: ticket()}) })
				}
			}),
		},
		{
			Name: "change-cipher-spec-flood", Expect: May, Wrong: "100 ChangeCipherSpec records come with the flight.", Rule: "RFC 8446 section 5: they are dropped; some clients bound their number", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) {
				p.Before = func(c *rogue.Conn) error {
					return times(100, func() error { return c.Record(rogue.ChangeCipherSpec, []byte{1}) })
				}
			}),
		},
		{
			Name: "warning-flood", Expect: ShouldRefuse, Wrong: "1,000 alerts of the level warning come with the flight.", Rule: "RFC 8446 section 6: all alerts of errors are fatal", Consequence: flooded,
			rogue: plan(func(p *rogue.Plan) {
				p.Before = func(c *rogue.Conn) error {
					return times(1000, func() error { return c.Record(rogue.Alert, []byte{1, 112}) })
				}
			}),
		},
	}
}

func times(n int, f func() error) error {
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func update(n int) func(*rogue.Conn) error {
	return func(c *rogue.Conn) error {
		return times(n, func() error {
			defer c.Update()
			return c.Send(rogue.Message{Type: rogue.KeyUpdate, Body: []byte{0}})
		})
	}
}

// ticket is a NewSessionTicket (RFC 8446 section 4.6.1) that nobody will take back.
func ticket(extensions ...rogue.Ext) []byte {
	b := make([]byte, 4+4+1+8+2+32)
	b[2], b[3] = 0x1c, 0x20 // two hours
	_, _ = rand.Read(b[4:])
	b[8] = 8
	b[17], b[18] = 0, 32
	return append(b, rogue.Extensions(extensions)...)
}

// bigRecord answers with one record of n bytes.
func bigRecord(n int) func(*session, appConn) error {
	return func(s *session, app appConn) error {
		head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\nContent-Length: "
		body := n - len(head) - len("12345\r\n\r\n")
		text := head + strconv.Itoa(body) + "\r\n\r\n" + strings.Repeat("0123456789abcdef\n", body)[:body]
		server := app.(*firstByte).appConn.(*rogue.Conn)
		if err := server.Record(rogue.Data, []byte(text)); err != nil {
			return err
		}
		return s.finish(app)
	}
}

const tampered = "Attackers on the path change content without notice."

func flips() []Endpoint {
	flipped := func(name, what string, wire func() wirePlan) Endpoint {
		return Endpoint{
			Name: name, Expect: MustRefuse, Wrong: "A bit of " + what + " is changed on the way.", Rule: "RFC 8446 section 5.2: must terminate with bad_record_mac", Consequence: tampered, basis: "tls-1.3",
			config: only(tls.VersionTLS13), wire: wire,
		}
	}
	retried := flipped("flip-hello-retry", "the session ID in HelloRetryRequest", flipPlain(1, recordHeader+4+2+32+1))
	retried.Rule, retried.basis, retried.config = "RFC 8446 section 4.1.3 and 4.1.4: must abort with illegal_parameter", "hello-retry", both(only(tls.VersionTLS13), curves(tls.CurveP384))
	hello := flipped("flip-server-hello", "the random in ServerHello", flipPlain(1, recordHeader+4+2+7))
	hello.Rule = "RFC 8446 section 7.1: the keys depend on it, so what follows cannot be decrypted"
	asked := flipped("flip-certificate-request", "CertificateRequest", flip(encryptedExtensions+1))
	asked.config, asked.basis = both(only(tls.VersionTLS13), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }), "client-certificate-optional"
	ticket := flipped("flip-ticket", "NewSessionTicket", flip(firstData))
	ticket.config, ticket.proof = both(only(tls.VersionTLS13), http1Only, gives), ByReport
	data := flipped("flip-data", "the encrypted answer", flip(firstData))
	data.config, data.proof = both(only(tls.VersionTLS13), http1Only), ByReport
	return append([]Endpoint{
		retried, hello, asked,
		flipped("flip-encrypted-extensions", "EncryptedExtensions", flip(encryptedExtensions)),
		flipped("flip-certificate", "Certificate", flip(certificateMessage)),
		flipped("flip-certificate-verify", "CertificateVerify", flip(certificateVerify)),
		flipped("flip-finished", "Finished", flip(finishedMessage)),
		ticket, data,
	}, oldFlips()...)
}

// oldFlips are those of TLS 1.2, where the handshake is in plaintext: what no message notices by itself, the hashes in
// Finished do.
func oldFlips() []Endpoint {
	const hashes = "RFC 5246 section 7.4.9"
	flipped := func(name, what, rule string, wire func() wirePlan, config ...func(*tls.Config)) Endpoint {
		return Endpoint{
			// With False Start (RFC 7918) the request is on its way before the server's Finished has come.
			Name: name, Expect: MustRefuse, proof: ByExit, Wrong: "In TLS 1.2: a bit of " + what + " is changed on the way.", Rule: rule, Consequence: tampered, basis: "tls-1.2",
			config: both(append(config, only(tls.VersionTLS12), http1Only)...), wire: wire,
		}
	}
	key := flipped("flip-key-exchange-1.2", "the key in ServerKeyExchange", "RFC 5246 section 7.4.3", flipMessage(serverKeyExchange, 4+9))
	key.proof = ByRequest
	ticket := flipped("flip-ticket-1.2", "NewSessionTicket", hashes+", RFC 5077 section 3.3", flipMessage(newSessionTicket, -1), gives)
	ticket.tuned = func(hello *tls.ClientHelloInfo) string {
		const sessionTicket = 35
		if slices.Contains(hello.Extensions, sessionTicket) {
			return ""
		}
		return "it asks for no ticket"
	}
	return []Endpoint{
		flipped("flip-server-hello-1.2", "the random in ServerHello", "RFC 5246 section 7.4.3: it is signed", flipMessage(serverHello, 2+7)),
		flipped("flip-certificate-1.2", "Certificate, in the signature on the intermediate,", "RFC 5280 section 6.1.3 (a)(1)", flipMessage(certificate, -1)),
		key,
		flipped("flip-certificate-request-1.2", "CertificateRequest", hashes, flipMessage(certificateRequest, -3), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }),
		flipped("flip-hello-done-1.2", "ServerHelloDone, in its type,", "RFC 5246 section 7.4: unexpected messages are fatal", flipMessage(serverHelloDone, -4)),
		ticket,
		flipped("flip-finished-1.2", "the encrypted Finished", "RFC 5246 section 6.2.3.3: must terminate with bad_record_mac", flip(1)),
		flipped("flip-data-1.2", "the encrypted answer", "RFC 5246 section 6.2.3.3: must terminate with bad_record_mac", flip(2)),
	}
}

// both is every change to a config in turn.
func both(changes ...func(*tls.Config)) func(*tls.Config) {
	return func(c *tls.Config) {
		for _, change := range changes {
			change(c)
		}
	}
}

// gives has crypto/tls send a ticket.
func gives(c *tls.Config) { c.SessionTicketsDisabled = false }

const hangs = "The client reports nothing, or the wrong thing, when a server or network fails."

func ends() []Endpoint {
	ended := func(name, wrong string, wire func() wirePlan) Endpoint {
		return Endpoint{
			Name: name, Expect: ShouldRefuse, proof: ByExit, Wrong: wrong, Rule: "RFC 8446 section 6.1: an end without close_notify is an error here", Consequence: hangs, basis: "tls-1.3",
			config: both(only(tls.VersionTLS13), http1Only), wire: wire,
		}
	}
	old := func(name, wrong string, records int) Endpoint {
		e := ended(name, "In TLS 1.2: "+wrong, after(records, 0, fin))
		e.Rule, e.basis, e.config = "RFC 5246 section 7.2.1: an end without close_notify is an error here", "tls-1.2", both(only(tls.VersionTLS12), http1Only)
		return e
	}
	return []Endpoint{
		{Name: "close-hello", Expect: ShouldRefuse, proof: ByExit, Wrong: "The connection ends behind the client's hello.", Rule: "RFC 8446 section 6.1", Consequence: hangs, raw: func(*session) {}},
		ended("close-server-hello", "The connection ends behind ServerHello.", after(1, 0, fin)),
		ended("close-encrypted-extensions", "The connection ends behind EncryptedExtensions.", after(0, encryptedExtensions, fin)),
		ended("close-certificate", "The connection ends behind Certificate.", after(0, certificateMessage, fin)),
		ended("close-certificate-verify", "The connection ends behind CertificateVerify.", after(0, certificateVerify, fin)),
		ended("close-flight", "The connection ends behind the server's Finished.", after(0, finishedMessage, fin)),
		{Name: "close-handshake", Expect: ShouldRefuse, proof: ByExit, Wrong: "The connection ends once the request has come, without an answer.", Rule: "RFC 9112 section 9.5", Consequence: hangs, config: http1Only, answer: (*session).cut},
		old("close-server-hello-1.2", "the connection ends behind ServerHello.", 1),
		old("close-certificate-1.2", "the connection ends behind Certificate.", 2),
		old("close-key-exchange-1.2", "the connection ends behind ServerKeyExchange.", 3),
		old("close-hello-done-1.2", "the connection ends behind ServerHelloDone.", 4),
		old("close-change-cipher-spec-1.2", "the connection ends behind the server's ChangeCipherSpec, before its Finished.", 5),
		old("close-flight-1.2", "the connection ends behind the server's Finished.", 6),
		ended("reset-server-hello", "The connection is reset (RST) behind ServerHello.", after(1, 0, rst)),
		ended("reset-flight", "The connection is reset (RST) behind the server's Finished.", after(0, finishedMessage, rst)),
		{Name: "reset-hello", Expect: ShouldRefuse, proof: ByExit, Wrong: "The connection is reset (RST) behind the client's hello.", Rule: "RFC 9293", Consequence: hangs, raw: func(s *session) { reset(s.conn) }},
		ended("half-server-hello", "The connection ends in the middle of ServerHello.", half(1, fin)),
		ended("half-record", "The connection ends in the middle of an encrypted record of the flight.", half(4, fin)),
	}
}

func http1Only(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }

const waits = "A program that waits without a limit stops for ever when a server or network does. No protocol sets the limit, so choose one."

func silences() []Endpoint {
	silent := func(name, wrong string, wire func() wirePlan) Endpoint {
		return Endpoint{Name: name, Expect: May, proof: ByEnd, Wrong: wrong, Rule: "none: a timeout is the program's own", Consequence: waits, config: http1Only, wire: wire}
	}
	return []Endpoint{
		{Name: "silence", Expect: May, proof: ByEnd, Wrong: "The server says nothing behind the client's hello.", Rule: "none: a timeout is the program's own", Consequence: waits, raw: func(s *session) { hold(s.ctx, s.conn) }},
		silent("silence-server-hello", "The server says nothing behind ServerHello.", after(1, 0, mute)),
		silent("silence-half-record", "The server says nothing after half of ServerHello.", half(1, mute)),
		{Name: "silence-request", Expect: May, proof: ByEnd, Wrong: "The server says nothing behind the request.", Rule: "none: a timeout is the program's own", Consequence: waits, config: http1Only, answer: func(s *session, app appConn) error {
			hold(s.ctx, app)
			return errCut
		}},
		{Name: "silence-body", Expect: May, proof: ByEnd, Wrong: "The server says nothing after half of its answer.", Rule: "none: a timeout is the program's own", Consequence: waits, config: http1Only, answer: func(s *session, app appConn) error {
			if _, err := io.WriteString(app, head("Content-Length: 1000")+s.body()); err != nil {
				return err
			}
			hold(s.ctx, app)
			return errCut
		}},
		*silenceOf(3),
		silent("one-byte-a-second", "The server's flight comes with one byte a second: a quarter of an hour.", trickle(1, time.Second)),
		{Name: "one-byte-a-second-body", Expect: May, proof: ByEnd, Wrong: "The answer comes with one byte a second, for many minutes.", Rule: "none: a timeout is the program's own", Consequence: waits, config: http1Only, answer: func(s *session, app appConn) error {
			_ = app.SetDeadline(time.Now().Add(holdTimeout))
			return drip(s.ctx, app, []byte(head("Content-Length: 1000")+strings.Repeat("x", 1000)), 1, time.Second)
		}},
	}
}

func notTLS() []Endpoint {
	write := func(name string, expect Expectation, wrong, rule, consequence string, data []byte) Endpoint {
		return Endpoint{Name: name, Expect: expect, proof: ByExit, Wrong: wrong, Rule: rule, Consequence: consequence, raw: func(s *session) { _, _ = s.recorded.Write(data) }}
	}
	noise := sha256.Sum256([]byte("padlock lab"))
	all := []Endpoint{
		write("plain-http", MustRefuse, "The server answers in plain HTTP on the port of TLS.", "RFC 9110 section 4.2.2", "Content that nobody has encrypted passes for the site's.", []byte(head("Content-Length: 6")+"plain\n")),
		write("garbage", ShouldRefuse, "The server answers with bytes that are no TLS.", "RFC 8446 section 5.1", hangs, noise[:]),
		write("ssl-2", ShouldRefuse, "The server answers with a hello of SSL 2.0.", "RFC 6176", oldVersion, []byte{0x80, 0x0b, 4, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0}),
		write("close-notify", ShouldRefuse, "The server answers the hello with close_notify.", "RFC 8446 section 6.1", hangs, []byte{alertRecord, 3, 3, 0, 2, 1, 0}),
	}
	for _, alert := range []int{20, 40, 48, 70, 80, 112, 255} {
		e := alertOf(alert)
		all = append(all, *e)
	}
	return append(all, Endpoint{
		Name: "warning-unrecognized-name", Expect: May, Wrong: "An alert unrecognized_name of the level warning comes first; the handshake (TLS 1.2) goes on.", Rule: "RFC 6066 section 3: not recommended, and clients differ", Consequence: "Servers that send it exclude clients.",
		config: only(tls.VersionTLS12), wire: before(1, []byte{alertRecord, 3, 3, 0, 2, 1, 112}), basis: "tls-1.2",
	})
}

func alertOf(n int) *Endpoint {
	return &Endpoint{
		Name: fmt.Sprintf("alert-%d", n), Group: Misbehaviour, Expect: ShouldRefuse, proof: ByExit, Wrong: fmt.Sprintf("The server answers the hello with the fatal alert %d. Any number works: alert-N.lab.localhost.", n), Rule: "RFC 8446 section 6.2", Consequence: hangs,
		raw: func(s *session) { _, _ = s.recorded.Write([]byte{alertRecord, 3, 3, 0, 2, 2, byte(n)}) },
	}
}

// silenceOf is a server that is slow to answer, and then right.
func silenceOf(seconds int) *Endpoint {
	// Whoever has no patience for so short a time fails on slow networks; all else is the program's own choice.
	const short = 3
	e := &Endpoint{
		Name: fmt.Sprintf("silence-%d", seconds), Group: Misbehaviour, Expect: ShouldAccept,
		Wrong: fmt.Sprintf("The server says nothing for %d s behind the client's hello, and then goes on as it should. Any number up to %d works: silence-N.lab.localhost.", seconds, maxSilence),
		Rule:  "none: a timeout is the program's own", Consequence: "The client fails on slow networks, and at busy servers.", wire: pause(time.Duration(seconds) * time.Second),
	}
	if seconds > short {
		e.Expect = May
	}
	return e
}

// maxSilence is the longest of silence-N, in seconds.
const maxSilence = 300

// numbered is alert-N or silence-N for any N; nil: the name is another one.
func numbered(name string) *Endpoint {
	for prefix, kind := range map[string]struct {
		most int
		make func(int) *Endpoint
	}{"alert-": {255, alertOf}, "silence-": {maxSilence, silenceOf}} {
		digits, ok := strings.CutPrefix(name, prefix)
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n >= 0 && n <= kind.most && strconv.Itoa(n) == digits {
			return kind.make(n)
		}
	}
	return nil
}

func head(fields ...string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

const cutText = "Whoever is on the path cuts downloads, pages and lists where it suits him, and the rest seems complete."

func bodies() []Endpoint {
	answered := func(name string, expect Expectation, proof Proof, wrong, rule string, answer func(*session, appConn) error) Endpoint {
		return Endpoint{Name: name, Expect: expect, proof: proof, Wrong: wrong, Rule: rule, Consequence: cutText, config: http1Only, answer: answer}
	}
	all := []Endpoint{
		answered("body-until-close", MustAccept, ByRequest, "Nothing: the answer has no length, and ends with close_notify.", "RFC 9112 section 6.3", func(s *session, app appConn) error {
			if _, err := io.WriteString(app, head()+s.body()); err != nil {
				return err
			}
			return s.finish(app)
		}),
		answered("truncated", MustRefuse, ByReport, "The answer has no length, and the connection ends without close_notify in its middle.", "RFC 8446 section 6.1, RFC 9112 section 9.8", say((*session).cut, "")),
		answered("truncated-length", MustRefuse, ByReport, "The connection ends, without close_notify, before as many bytes have come as Content-Length says.", "RFC 9112 section 8", say((*session).cut, "Content-Length: 1000")),
		answered("truncated-chunked", MustRefuse, ByReport, "The connection ends, without close_notify, in the middle of a chunk.", "RFC 9112 section 8", say((*session).cut, "Transfer-Encoding: chunked")),
		answered("truncated-head", MustRefuse, ByReport, "The connection ends, without close_notify, in the middle of the head of the answer: Strict-Transport-Security: max-age=3, of 31536000.", "RFC 9112 section 8", func(s *session, app appConn) error {
			if _, err := io.WriteString(app, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nStrict-Transport-Security: max-age=3"); err != nil {
				return err
			}
			return s.cut(app)
		}),
		answered("no-close-notify", May, ByRequest, "All of the answer has come, as Content-Length says; the connection ends without close_notify.", "RFC 9112 section 9.8: the answer is complete; RFC 8446 section 6.1: the end is not", func(s *session, app appConn) error {
			body := s.body()
			if _, err := io.WriteString(app, head("Content-Length: "+strconv.Itoa(len(body)))+body); err != nil {
				return err
			}
			return s.cut(app)
		}),
		answered("reset-body", MustRefuse, ByReport, "The connection is reset (RST) in the middle of an answer without a length.", "RFC 9112 section 8", say(func(s *session, app appConn) error {
			// What was sent would be lost with the reset.
			time.Sleep(50 * time.Millisecond)
			reset(s.conn)
			return nil
		}, "")),
		answered("alert-body", MustRefuse, ByReport, "A fatal alert comes in the middle of an answer without a length.", "RFC 8446 section 6.2", nil),
		answered("plaintext-body", MustRefuse, ByReport, "The answer comes in plaintext, behind a right handshake.", "RFC 8446 section 5", func(s *session, app appConn) error {
			if _, err := io.WriteString(s.recorded, head("Content-Length: 6")+"plain\n"); err != nil {
				return err
			}
			return s.cut(app)
		}),
	}
	for i := range all {
		if all[i].Name == "alert-body" {
			all[i].rogue = plan(func(*rogue.Plan) {})
			all[i].answer = func(s *session, app appConn) error {
				if _, err := io.WriteString(app, head()+s.body()[:60]); err != nil {
					return err
				}
				if err := app.(*firstByte).appConn.(*rogue.Conn).Record(rogue.Alert, []byte{2, 80}); err != nil {
					return err
				}
				return s.cut(app)
			}
		}
		if all[i].Expect == MustRefuse && all[i].Name != "plaintext-body" && all[i].rogue == nil {
			all[i].basis = "body-until-close"
		}
	}
	return all
}

// say answers with a head and half a body, and then does something else.
func say(then func(*session, appConn) error, fields ...string) func(*session, appConn) error {
	if fields[0] == "" {
		fields = nil
	}
	return func(s *session, app appConn) error {
		body := s.body()[:60]
		if len(fields) > 0 && strings.HasPrefix(fields[0], "Transfer-Encoding") {
			body = "200\r\n" + body
		}
		if _, err := io.WriteString(app, head(fields...)+body); err != nil {
			return err
		}
		return then(s, app)
	}
}

// finish ends the answer with close_notify, and waits for the client's end.
func (s *session) finish(app appConn) error {
	if err := app.CloseNotify(); err != nil {
		return err
	}
	s.linger()
	return nil
}

// cut ends the connection without close_notify.
func (s *session) cut(appConn) error {
	s.linger()
	return nil
}
