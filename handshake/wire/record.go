// Package wire reads TLS off the wire: records, handshake messages and alerts, from bytes to structures, without
// policy.
//
//	messages := wire.Messages(records)   // whole handshake messages, however they were fragmented
//
// Every byte is taken to be hostile: lengths are checked before use, and what does not parse is an error, never a
// panic.
package wire

import (
	"errors"
	"slices"
)

// ErrMalformed is a message whose lengths do not add up.
var ErrMalformed = errors.New("malformed TLS message")

// Content types of records (RFC 8446 section 5.1).
const (
	TypeChangeCipherSpec = 20
	TypeAlert            = 21
	TypeHandshake        = 22
	TypeApplicationData  = 23
)

const (
	recordHeader  = 5
	maxCiphertext = 16384 + 2048 // TLS 1.2 allows more expansion than TLS 1.3 (RFC 5246 section 6.2.3)
)

// Record is one TLS record. Fragment aliases the bytes that it was read from.
type Record struct {
	Type     byte
	Version  uint16
	Fragment []byte
	Offset   int // of the record's first byte in the stream
}

// End is the offset just past the record.
func (r Record) End() int { return r.Offset + recordHeader + len(r.Fragment) }

// Records splits one direction of a connection, and appends to dst. It stops at an incomplete record, and reports false
// at something that is not TLS.
func Records(dst []Record, stream []byte) (records []Record, ok bool) {
	records = dst
	for offset := 0; len(stream)-offset >= recordHeader; {
		head := stream[offset:]
		n := int(head[3])<<8 | int(head[4])
		if head[0] < TypeChangeCipherSpec || head[0] > TypeApplicationData || head[1] != 3 || n > maxCiphertext {
			return records, false
		}
		if len(head) < recordHeader+n {
			break
		}

		r := Record{Type: head[0], Version: uint16(head[1])<<8 | uint16(head[2]), Fragment: head[recordHeader : recordHeader+n], Offset: offset}
		records = append(records, r)
		offset = r.End()
	}
	return records, true
}

// Types of handshake messages (RFC 8446 section 4, RFC 5246 section 7.4).
const (
	ClientHelloType         = 1
	ServerHelloType         = 2
	NewSessionTicketType    = 4
	EncryptedExtensionsType = 8
	CertificateType         = 11
	ServerKeyExchangeType   = 12
	CertificateRequestType  = 13
	ServerHelloDoneType     = 14
	CertificateVerifyType   = 15
	ClientKeyExchangeType   = 16
	FinishedType            = 20
	CertificateStatusType   = 22
	KeyUpdateType           = 24

	CompressedCertificateType = 25 // RFC 8879
)

const (
	messageHeader = 4
	maxMessage    = 1 << 18
)

// Message is one handshake message. Body does not include the header; Offset is the end of the record that completed
// it.
type Message struct {
	Type      byte
	Body      []byte
	Start     int // offset of the record that it began in
	End       int // offset just past the record that completed it
	Fragments int // records that it was spread over
}

// Size is the message's length on the wire, header included.
func (m Message) Size() int { return messageHeader + len(m.Body) }

// Assembler joins fragments of handshake messages from record to record. The zero value is ready.
type Assembler struct {
	pending   []byte
	start     int
	fragments int
}

// Add takes the next plaintext fragment and returns the messages that it completes, which may alias it.
func (a *Assembler) Add(fragment []byte, start, end int) ([]Message, error) {
	if len(a.pending) == 0 {
		a.start, a.fragments = start, 0
		a.pending = slices.Clip(fragment)
	} else {
		a.pending = append(a.pending, fragment...)
	}

	a.fragments++
	var out []Message
	for len(a.pending) >= messageHeader {
		n := int(a.pending[1])<<16 | int(a.pending[2])<<8 | int(a.pending[3])
		if n > maxMessage {
			return out, ErrMalformed
		}
		if len(a.pending) < messageHeader+n {
			break
		}

		out = append(out, Message{a.pending[0], a.pending[messageHeader : messageHeader+n], a.start, end, a.fragments})
		a.pending = a.pending[messageHeader+n:]
		a.start, a.fragments = start, 1
	}

	return out, nil
}

// Alert is one alert (RFC 8446 section 6).
type Alert struct{ Level, Description byte }

// ParseAlert reads an alert in plaintext.
func ParseAlert(b []byte) (Alert, bool) {
	if len(b) != 2 || (b[0] != 1 && b[0] != 2) {
		return Alert{}, false
	}
	return Alert{b[0], b[1]}, true
}
