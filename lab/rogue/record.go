package rogue

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
)

// secrets are those of the handshake (RFC 8446 section 7.1).
type secrets struct{ handshake, client, server []byte }

var emptyHash = sha256.Sum256(nil)

func (c *Conn) handshakeKeys(shared []byte) *secrets {
	early := extract(nil, make([]byte, 32))
	s := &secrets{handshake: extract(expand(early, "derived", emptyHash[:], 32), shared)}
	hash := sha256.Sum256(c.transcript)
	s.client, s.server = expand(s.handshake, "c hs traffic", hash[:], 32), expand(s.handshake, "s hs traffic", hash[:], 32)
	c.log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", s.client)
	c.log("SERVER_HANDSHAKE_TRAFFIC_SECRET", s.server)
	c.in, c.out = newHalf(s.client), newHalf(s.server)
	return s
}

func extract(salt, secret []byte) []byte {
	out, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		panic(err) // the lengths are constants
	}
	return out
}

// expand is HKDF-Expand-Label.
func expand(secret []byte, label string, context []byte, n int) []byte {
	var b cryptobyte.Builder
	b.AddUint16(uint16(n))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(context) })
	out, err := hkdf.Expand(sha256.New, secret, string(b.BytesOrPanic()), n)
	if err != nil {
		panic(err) // the lengths are constants
	}
	return out
}

func finishedMAC(secret, transcript []byte) []byte {
	hash := sha256.Sum256(transcript)
	mac := hmac.New(sha256.New, expand(secret, "finished", nil, 32))
	mac.Write(hash[:])
	return mac.Sum(nil)
}

// half protects one direction.
type half struct {
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
}

func newHalf(secret []byte) *half {
	block, err := aes.NewCipher(expand(secret, "key", nil, 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &half{aead: aead, iv: expand(secret, "iv", nil, 12)}
}

func (h *half) nonce() []byte {
	nonce := append([]byte(nil), h.iv...)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^h.sequence)
	return nonce
}

func (h *half) seal(header, content []byte) []byte {
	sealed := h.aead.Seal(header, h.nonce(), content, header)
	h.sequence++
	return sealed
}

// open counts no record that it cannot open: it belongs to other keys.
func (h *half) open(header, fragment []byte) ([]byte, error) {
	content, err := h.aead.Open(nil, h.nonce(), fragment, header)
	if err == nil {
		h.sequence++
	}
	return content, err
}

// Send sends a handshake message in as many records as the plan's size makes of it.
func (c *Conn) Send(m Message) error { return c.split(Handshake, m.encode()) }

func (c *Conn) split(kind byte, data []byte) error {
	var all []byte
	for len(data) > 0 {
		n := min(len(data), c.plan.RecordSize)
		all = append(all, c.protect(kind, data[:n])...)
		data = data[n:]
	}
	_, err := c.Conn.Write(all)
	return err
}

// Record sends one record of any length: in plaintext before the keys, and for ChangeCipherSpec.
func (c *Conn) Record(kind byte, content []byte) error {
	_, err := c.Conn.Write(c.protect(kind, content))
	return err
}

// Plain sends one record in plaintext, whatever the keys.
func (c *Conn) Plain(kind byte, content []byte) error {
	_, err := c.Conn.Write(plain(kind, content))
	return err
}

func plain(kind byte, content []byte) []byte {
	return append([]byte{kind, 3, 3, byte(len(content) >> 8), byte(len(content))}, content...)
}

func (c *Conn) protect(kind byte, content []byte) []byte {
	if c.out == nil || kind == ChangeCipherSpec {
		return plain(kind, content)
	}
	inner := append(append([]byte(nil), content...), kind)
	inner = append(inner, make([]byte, c.plan.Padding)...)
	length := len(inner) + c.out.aead.Overhead()
	header := []byte{Data, 3, 3, byte(length >> 8), byte(length)}
	return c.out.seal(header, inner)
}

// reader reads whole records.
type reader struct{ from io.Reader }

func (r *reader) next() (kind byte, header, fragment []byte, err error) {
	header = make([]byte, 5)
	if _, err := io.ReadFull(r.from, header); err != nil {
		return 0, nil, nil, err
	}
	length := int(binary.BigEndian.Uint16(header[3:]))
	if length > maxRecord+256 {
		return 0, nil, nil, errors.New("the client sent an oversize record")
	}
	fragment = make([]byte, length)
	_, err = io.ReadFull(r.from, fragment)
	return header[0], header, fragment, err
}

// record reads the next record that is no ChangeCipherSpec.
func (c *Conn) record() (kind byte, content []byte, err error) {
	for {
		kind, header, fragment, err := c.records.next()
		switch {
		case err != nil:
			return 0, nil, err
		case kind == ChangeCipherSpec, kind == Data && c.in == nil && c.passOver(fragment):
			continue
		case kind != Data || c.in == nil:
			// OpenSSL sends alerts in plaintext before it has seen our keys to be right.
			return kind, fragment, nil
		}

		inner, err := c.in.open(header, fragment)
		if err != nil && c.passOver(fragment) {
			continue
		}
		if err != nil {
			return 0, nil, errors.New("the client's record cannot be decrypted")
		}
		c.early = 0
		for len(inner) > 0 && inner[len(inner)-1] == 0 {
			inner = inner[:len(inner)-1]
		}
		if len(inner) == 0 {
			return 0, nil, errors.New("the client sent a record of padding")
		}
		return inner[len(inner)-1], inner[:len(inner)-1], nil
	}
}

// passOver reports whether a record may be early data, which a server that takes no ticket back passes over (RFC 8446
// section 4.2.10).
func (c *Conn) passOver(fragment []byte) bool {
	if c.early <= 0 {
		return false
	}
	c.early -= len(fragment)
	return true
}

func alertOf(content []byte) error {
	if len(content) == 2 && content[1] == 0 {
		return io.EOF // close_notify
	}
	if len(content) == 2 {
		return AlertError(content[1])
	}
	return errors.New("the client sent a damaged alert")
}

// readMessage reads the next handshake message.
func (c *Conn) readMessage() (Message, error) {
	for {
		if len(c.messages) >= 4 {
			n := 4 + (int(c.messages[1])<<16 | int(c.messages[2])<<8 | int(c.messages[3]))
			if n > 1<<17 {
				return Message{}, errors.New("the client sent an oversize message")
			}
			if len(c.messages) >= n {
				m := Message{c.messages[0], c.messages[4:n:n]}
				c.messages = c.messages[n:]
				return m, nil
			}
		}

		kind, content, err := c.record()
		switch {
		case err != nil:
			return Message{}, err
		case kind == Alert:
			return Message{}, alertOf(content)
		case kind != Handshake:
			return Message{}, fmt.Errorf("the client sent a record of type %d in the handshake", kind)
		}
		c.messages = append(c.messages, content...)
	}
}

// Read reads application data.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.pending) == 0 {
		kind, content, err := c.record()
		switch {
		case err != nil:
			return 0, err
		case kind == Alert:
			return 0, alertOf(content)
		case kind == Data:
			c.pending = content
		case kind == Handshake && len(content) > 0 && content[0] == KeyUpdate:
			c.clientTraffic = expand(c.clientTraffic, "traffic upd", nil, 32)
			c.in = newHalf(c.clientTraffic)
		default:
			return 0, fmt.Errorf("the client sent a record of type %d", kind)
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// Write sends application data.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.split(Data, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseNotify ends this side's data as it is right (RFC 8446 section 6.1).
func (c *Conn) CloseNotify() error { return c.Record(Alert, []byte{1, 0}) }
