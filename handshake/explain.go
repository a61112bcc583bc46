package handshake

import (
	"strconv"
	"strings"

	"padlock/handshake/wire"
	"padlock/internal/lazy"
)

// Explanation is what an error text means, whoever printed it.
type Explanation struct {
	Title   string // the condition in a few words
	Meaning string // who says it, and what happened
	Remedy  string
	Matched string // the words by which it was recognised
}

// entry lists texts of one condition. They are compared in lower case, with every run of other characters than letters,
// digits and the points of numbers as one space, so that SEC_ERROR_UNKNOWN_ISSUER, "unknown issuer" and unknown-issuer
// are the same.
type entry struct {
	title, meaning, remedy string
	texts                  []string
}

// generic texts surround more telling ones, and only count where there are none.
func (e entry) generic() bool {
	return e.title == titleRejected || e.title == titleClosed || e.title == titleQUIC
}

const (
	titleRejected = "The certificate was rejected"
	titleClosed   = "The connection was closed during the handshake"
	titleQUIC     = "HTTP/3 (QUIC) failed"
)

var (
	notWord     = lazy.Regexp(`[^a-z0-9.]+`)
	fullStop    = lazy.Regexp(`(^|[^0-9])\.|\.([^0-9]|$)`) // not that of a number
	alertNumber = lazy.Regexp(`\balert(?: number| code| description)?(?: is)?[ :(=\[]+(\d{1,3})\b|\bfatal (?:alert|error) code is (\d{1,3})\b`)
	quicAlert   = lazy.Regexp(`\b0x1([0-9a-f]{2})\b`)
	appleCode   = lazy.Regexp(`(?:^|[^0-9a-z.])-(9[78]\d\d|1[0-2]\d\d)\b`)
)

// appleCodes are those of NSURLErrorDomain and of Secure Transport, in words that the entries have.
var appleCodes = map[string]string{
	"1001": "request timed out", "1003": "could not resolve host", "1004": "connection refused", "1005": "network connection was lost",
	"1009": "appears to be offline", "1022": "app transport security", "1200": "tls error caused the secure connection to fail",
	"1201": "certificate expired", "1202": "certificate for this server is invalid", "1203": "unknown certificate authority",
	"1204": "cert not yet valid", "1205": "client certificate rejected", "1206": "certificate required",

	"9800": "tls error caused the secure connection to fail", "9801": "no shared cipher", "9805": "connection was closed by the other side", "9806": "connection was closed by the other side",
	"9807": "certificate chain is invalid", "9808": "bad certificate", "9812": "unknown root", "9813": "unknown root", "9814": "certificate expired",
	"9815": "cert not yet valid", "9816": "connection was closed by the other side", "9820": "decryption failed", "9824": "handshake failure", "9825": "bad certificate",
	"9827": "certificate revoked", "9828": "certificate expired", "9829": "certificate unknown", "9831": "unknown ca", "9832": "access denied",
	"9836": "protocol version", "9838": "internal error", "9843": "hostname mismatch", "9846": "bad record mac", "9847": "record overflow", "9858": "hostname mismatch",
	"9802": "app transport security", "9880": "not in the public logs",
}

// Explain finds what a text means; the longest known text in it decides. It reports false for what it does not know.
func Explain(text string) (Explanation, bool) {
	lower := strings.ToLower(text)
	words := notWord().ReplaceAllString(lower, " ")
	// The replacement runs twice, as two matches may share a letter.
	words = fullStop().ReplaceAllString(words, "$1 $2")
	words = strings.Join(strings.Fields(fullStop().ReplaceAllString(words, "$1 $2")), " ")
	// Programs print the number, the name or both, and the table has names.
	if number, ok := alertIn(lower, words); ok {
		words += " " + strings.ReplaceAll(wire.AlertName(number), "_", " ")
	}
	words = " " + strings.TrimSpace(words+apple(lower)) + " "
	var best Explanation
	bestIsGeneric := false
	for _, e := range entries {
		for _, known := range e.texts {
			// The longest known text is the most specific one: "certificate expired" beats "certificate".
			better := best.Matched == "" || bestIsGeneric && !e.generic() || bestIsGeneric == e.generic() && len(known) > len(best.Matched)
			if better && strings.Contains(words, " "+known+" ") {
				best, bestIsGeneric = Explanation{e.title, e.meaning, e.remedy, known}, e.generic()
			}
		}
	}

	return best, best.Matched != ""
}

// alertIn finds an alert's number: "SSL alert number 48", "48" alone, or QUIC's 0x130 (RFC 9001 section 4.8).
func alertIn(lower, words string) (byte, bool) {
	digits := ""
	if m := alertNumber().FindStringSubmatch(lower); m != nil {
		digits = m[1] + m[2]
	} else if trimmed := strings.TrimSpace(words); trimmed != "" && strings.Trim(trimmed, "0123456789") == "" {
		digits = trimmed
	} else if m := quicAlert().FindStringSubmatch(lower); m != nil {
		n, err := strconv.ParseUint(m[1], 16, 8)
		return byte(n), err == nil
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return byte(n), err == nil
}

// apple puts a code of Apple's into words; "" where there is none. NSURLErrorDomain's only count where the text is
// Apple's, as other numbers look like them.
func apple(lower string) string {
	m := appleCode().FindStringSubmatch(lower)
	if m == nil {
		return ""
	}
	// Numbers of four digits with a minus occur in any log.
	theirs := strings.Contains(lower, "nsurl") || strings.Contains(lower, "cfnetwork") || strings.Contains(lower, "kcf") || strings.Contains(lower, "error domain") ||
		strings.Contains(lower, "osstatus") || strings.TrimSpace(lower) == "-"+m[1]
	if text, ok := appleCodes[m[1]]; ok && (theirs || m[1][0] == '9') {
		return " " + text
	}
	return ""
}
