package lab

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// recrypter takes the server's records of TLS 1.2 apart, with the secret that crypto/tls logs, and encrypts them anew.
// It knows AES-128-GCM (RFC 5288) alone.
type recrypter struct {
	serverRandom         []byte
	clientRandom, master []byte
	aead                 cipher.AEAD
	iv                   []byte
	sequence             uint64 // of the next record that is sent
}

// recryptable has crypto/tls choose what a recrypter knows.
func recryptable(c *tls.Config) {
	only(tls.VersionTLS12)(c)
	http1Only(c)
	c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
}

// recrypted changes the content of encrypted records: change returns what is sent instead of one.
func recrypted(change func(n int, p plainRecord) []plainRecord) func() wirePlan {
	return func() wirePlan {
		r := &recrypter{}
		return wirePlan{keyLog: r, record: func(w *wire, rec record) error { return r.pass(w, rec, change) }}
	}
}

// plainRecord is the content of a record.
type plainRecord struct {
	kind    byte
	content []byte
}

// Write receives the key log.
func (r *recrypter) Write(line []byte) (int, error) {
	fields := strings.Fields(string(line))
	if len(fields) == 3 && fields[0] == "CLIENT_RANDOM" {
		r.clientRandom, _ = hex.DecodeString(fields[1])
		r.master, _ = hex.DecodeString(fields[2])
	}
	return len(line), nil
}

func (r *recrypter) pass(w *wire, rec record, change func(int, plainRecord) []plainRecord) error {
	if rec.number == 1 && len(rec.data) > recordHeader+38 {
		r.serverRandom = append([]byte(nil), rec.data[recordHeader+6:recordHeader+38]...)
	}
	if rec.protected == 0 {
		return w.send(rec.data)
	}
	if err := r.prepare(); err != nil {
		return err
	}

	content, err := r.open(rec)
	if err != nil {
		return err
	}
	for _, p := range change(rec.protected, plainRecord{rec.kind, content}) {
		if err := w.send(r.seal(p)); err != nil {
			return err
		}
	}
	return nil
}

// prepare derives the server's keys (RFC 5246 section 6.3).
func (r *recrypter) prepare() error {
	if r.aead != nil {
		return nil
	}
	if len(r.master) == 0 || len(r.serverRandom) == 0 {
		return errors.New("lab: the keys of the connection are not known")
	}
	const keys, ivs = 2 * 16, 2 * 4
	block := prf(r.master, "key expansion", append(append([]byte(nil), r.serverRandom...), r.clientRandom...), keys+ivs)
	aesBlock, err := aes.NewCipher(block[16:32])
	if err != nil {
		return err
	}
	r.aead, err = cipher.NewGCM(aesBlock)
	r.iv = block[keys+4:]
	return err
}

// prf is the pseudorandom function of TLS 1.2 (RFC 5246 section 5).
func prf(secret []byte, label string, seed []byte, n int) (out []byte) {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}

// associated is what AEAD protects beside the content (RFC 5246 section 6.2.3.3).
func associated(sequence uint64, kind byte, length int) []byte {
	b := binary.BigEndian.AppendUint64(nil, sequence)
	return append(b, kind, 3, 3, byte(length>>8), byte(length))
}

func (r *recrypter) open(rec record) ([]byte, error) {
	body := rec.data[recordHeader:]
	if len(body) < 8+r.aead.Overhead() {
		return nil, fmt.Errorf("lab: an encrypted record of %d bytes", len(body))
	}
	nonce := append(append([]byte(nil), r.iv...), body[:8]...)
	return r.aead.Open(nil, nonce, body[8:], associated(uint64(rec.protected-1), rec.kind, len(body)-8-r.aead.Overhead()))
}

func (r *recrypter) seal(p plainRecord) []byte {
	explicit := binary.BigEndian.AppendUint64(nil, r.sequence)
	nonce := append(append([]byte(nil), r.iv...), explicit...)
	sealed := r.aead.Seal(explicit, nonce, p.content, associated(r.sequence, p.kind, len(p.content)))
	r.sequence++
	return append([]byte{p.kind, 3, 3, byte(len(sealed) >> 8), byte(len(sealed))}, sealed...)
}
