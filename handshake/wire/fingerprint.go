package wire

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
)

// JA3 is the MD5 of a ClientHello's version, cipher suites, extensions, groups and point formats in the order sent,
// GREASE left out (github.com/salesforce/ja3).
func (h *ClientHello) JA3() string {
	b := strconv.AppendUint(make([]byte, 0, 512), uint64(h.LegacyVersion), 10)
	for _, list := range [...][]uint16{h.CipherSuites, h.Extensions, h.Groups} {
		b = append(b, ',')
		for _, v := range list {
			if !GREASE(v) {
				b = append(strconv.AppendUint(b, uint64(v), 10), '-')
			}
		}
		b = bytes.TrimSuffix(b, []byte{'-'})
	}

	b = append(b, ',')
	for _, p := range h.PointFormats {
		b = append(strconv.AppendUint(b, uint64(p), 10), '-')
	}
	sum := md5.Sum(bytes.TrimSuffix(b, []byte{'-'}))
	return hex.EncodeToString(sum[:])
}

// JA4 is the TLS client fingerprint of that name (github.com/FoxIO-LLC/ja4, the part under the BSD licence): what is
// offered, then the hashes of the sorted cipher suites and of the sorted extensions with the signature algorithms in
// order. transport is 't' for TCP and 'q' for QUIC. It changes when a session is resumed.
func (h *ClientHello) JA4(transport byte) string {
	name := byte('i')
	if slices.Contains(h.Extensions, extServerName) {
		name = 'd'
	}

	// The lists stay on the stack. Longer ones are allocated.
	var room [3][64]uint16
	var text [1024]byte
	suites, extensions := withoutGREASE(room[0][:0], h.CipherSuites), withoutGREASE(room[1][:0], h.Extensions)
	b := make([]byte, 0, 36)
	b = append(append(append(b, transport), ja4Version(h.MaxVersion())...), name)
	b = append(appendTwoDigits(appendTwoDigits(b, len(suites)), len(extensions)), ja4ALPN(h.ALPN)...)
	slices.Sort(suites)
	b = appendJA4Hash(append(b, '_'), appendHexes(text[:0], suites))
	// The count above includes SNI and ALPN, the hash does not.
	hashed := slices.DeleteFunc(extensions, func(id uint16) bool { return id == extServerName || id == extALPN })
	slices.Sort(hashed)
	rest := appendHexes(text[:0], hashed)
	if algorithms := withoutGREASE(room[2][:0], h.SignatureAlgorithms); len(algorithms) > 0 {
		rest = appendHexes(append(rest, '_'), algorithms)
	}

	return string(appendJA4Hash(append(b, '_'), rest))
}

func appendTwoDigits(b []byte, n int) []byte {
	n = min(n, 99)
	return append(b, byte('0'+n/10), byte('0'+n%10))
}

func ja4Version(v uint16) string {
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4ALPN is the first and last character of the first protocol; of its hexadecimal form where they are not letters or
// digits.
func ja4ALPN(protocols []string) string {
	if len(protocols) == 0 || protocols[0] == "" {
		return "00"
	}
	first, last := protocols[0][0], protocols[0][len(protocols[0])-1]
	if !alphanumeric(first) || !alphanumeric(last) {
		first, last = digits[first>>4], digits[last&15]
	}
	return string([]byte{first, last})
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func appendJA4Hash(b, text []byte) []byte {
	if len(text) == 0 {
		return append(b, "000000000000"...)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(b, sum[:6])
}

func withoutGREASE(dst, values []uint16) []uint16 {
	for _, v := range values {
		if !GREASE(v) {
			dst = append(dst, v)
		}
	}
	return dst
}

const digits = "0123456789abcdef"

func appendHexes(b []byte, values []uint16) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15])
	}
	return b
}
