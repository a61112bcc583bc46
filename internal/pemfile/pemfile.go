// Package pemfile reads PEM (RFC 7468) and passes nothing over: every block of a file is understood, or the file is
// an error.
//
//	cas, err := pemfile.Certificates("clients.pem", data)
//	lists, err := pemfile.RevocationLists("revoked.crl", data)
//	pair, err := pemfile.LoadPair("app.pem", "app-key.pem")
//
// encoding/pem, and with it x509.CertPool and tls.X509KeyPair, skips what it cannot read: a damaged revocation list
// then revokes nobody.
package pemfile

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"padlock/internal/lazy"
)

// MaxFile is how many bytes a file of certificates or keys has at most; a bundle of all public CAs has a quarter of a
// MiB.
const MaxFile = 16 << 20

// Block is one block of a file.
type Block struct {
	Type    string            // its label in the form of RFC 7468, such as CERTIFICATE
	Headers map[string]string // those of an encrypted key (RFC 1421 section 4.6); nil without any
	Bytes   []byte
	Line    int // of its BEGIN line; the first is 1
}

// Error is a part of a file that cannot be understood.
type Error struct {
	File   string // "": not a file
	Line   int    // 0: none in particular
	Reason string
	Err    error // nil, or what the reason comes from
}

func (e *Error) Error() string {
	text := e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}

	switch {
	case e.File != "" && e.Line > 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, text)
	case e.Line > 0:
		return fmt.Sprintf("line %d: %s", e.Line, text)
	case e.File != "":
		return e.File + ": " + text
	}

	return text
}

// Unwrap returns what the reason comes from.
func (e *Error) Unwrap() error { return e.Err }

// The boundaries of a block (RFC 7468 section 3).
const (
	dashes = "-----"
	begin  = dashes + "BEGIN "
	end    = dashes + "END "
	mark   = "\xef\xbb\xbf" // a byte order mark in UTF-8
)

// canonical are the labels that older programs write (RFC 7468 sections 5.1, 7 and appendix A).
var canonical = map[string]string{
	"X509 CERTIFICATE": "CERTIFICATE", "X.509 CERTIFICATE": "CERTIFICATE", "CRL": "X509 CRL", "NEW CERTIFICATE REQUEST": "CERTIFICATE REQUEST",
}

// Parse returns the blocks of a text, which may be none. Between blocks there may be text, as OpenSSL and others
// write it; line ends may be of any kind, and may be missing between two blocks and at the end. name is what errors
// call the text. Where there is an error, the blocks before it are returned, too. The error is an *Error.
func Parse(name string, data []byte) (blocks []Block, err error) {
	p := &parser{name: name, line: 1}
	if p.rest, err = p.plain(data); err != nil {
		return nil, err
	}

	for len(p.rest) > 0 {
		if boundary := bytes.TrimLeft(p.rest, " \t"); bytes.HasPrefix(boundary, []byte(begin)) {
			p.rest = boundary
			block, err := p.block()
			if err != nil {
				return blocks, err
			}
			blocks = append(blocks, block)
			continue
		}

		at := p.line
		if err := p.between(at, p.nextLine()); err != nil {
			return blocks, err
		}
	}

	return blocks, nil
}

type parser struct {
	name string
	rest []byte // with LF as the only line end
	line int    // of its first byte
}

func (p *parser) fail(line int, format string, args ...any) error {
	return &Error{File: p.name, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// plain takes byte order marks off, of which joined files have several, and makes LF of every line end. What is no
// text is an error.
func (p *parser) plain(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, p.fail(1, "is text in UTF-16: write it in UTF-8 or ASCII (iconv -f UTF-16 -t UTF-8)")
	}
	if isDER(data) {
		return nil, p.fail(1, "is DER, and PEM is expected: openssl x509 -inform der -in FILE -out PEM converts a certificate")
	}

	text := bytes.TrimPrefix(data, []byte(mark))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\n"+mark+"-"), []byte("\n-"))

	// A file system that was cut off from its power leaves zeros where the blocks were.
	if at := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\f' || r == 0x7f }); at >= 0 {
		return nil, p.fail(1+bytes.Count(text[:at], []byte("\n")), "the byte %#02x is not text: the file is damaged, or is not PEM", text[at])
	}

	return text, nil
}

func (p *parser) nextLine() string {
	line, rest, found := bytes.Cut(p.rest, []byte("\n"))
	p.rest = rest
	if found {
		p.line++
	}
	return string(line)
}

// remains are left of a boundary that is damaged elsewhere.
var remains = lazy.Regexp(`BEGIN |END |-BEGIN|-END`)

// between judges a line outside of blocks: anything that may be left of a damaged block is an error. Rulers and
// comments are not.
func (p *parser) between(at int, text string) error {
	text = strings.TrimSpace(text)
	words := strings.Trim(text, "-")
	switch marked := strings.Contains(text, dashes[1:]); {
	case text != "" && strings.HasPrefix(mark, text):
		return p.fail(at, "a byte order mark is all that is left of a file that was joined here")
	case strings.HasPrefix(text, end):
		return p.fail(at, "%q ends a block that has not begun: its BEGIN line is missing or damaged", short(text))
	case marked && remains().MatchString(text),
		// What stands between dashes, or at one end of them.
		marked && words != "" && text[0] != '#' && len(words) < len(text),
		words == "" && text != "" && len(text) <= len(dashes) && (marked || at == 1 || at == p.line): // cut off in its dashes
		return p.fail(at, "%q is a damaged BEGIN or END line", short(text))
	case len(text) >= minBase64 && strings.Trim(text, "=") != "" && strings.Trim(text, base64Alphabet) == "":
		return p.fail(at, "base64 outside of a block: the BEGIN line before it is missing or damaged")
	}

	return nil
}

const (
	base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
	minBase64      = 48 // a line that is this long and nothing but base64 is no prose; blocks have 64 or 76 in a line
)

// block reads what begins with a BEGIN line.
func (p *parser) block() (b Block, err error) {
	b.Line = p.line
	label, err := p.boundary(begin)
	if err != nil {
		return b, err
	}

	body, found := p.rest, false
	// The first dashes decide, whatever they belong to: a block without its END line must not take in the next one.
	if at := bytes.Index(p.rest, []byte(dashes)); at >= 0 {
		body, found = p.rest[:at], true
	}
	if !found {
		return b, p.fail(b.Line, "the %s that begins here has no END line: the file is cut short", label)
	}

	contentLine := p.line
	p.rest = p.rest[len(body):]
	p.line += bytes.Count(body, []byte("\n"))
	endLine := p.line
	if !bytes.HasPrefix(p.rest, []byte(end)) {
		return b, p.fail(endLine, "%q stands where the END line of the %s of line %d is expected", short(firstLine(p.rest)), label, b.Line)
	}

	ended, err := p.boundary(end)
	switch {
	case err != nil:
		return b, err
	case ended != label:
		return b, p.fail(endLine, "END %s ends the %s that begins at line %d", ended, label, b.Line)
	}

	if err := p.behind(); err != nil {
		return b, err
	}

	if b.Headers, body, err = p.headers(body, contentLine, label); err != nil {
		return b, err
	}

	b.Bytes, err = decode(body)
	switch {
	case err != nil:
		return b, p.fail(b.Line, "the base64 of the %s that begins here is damaged: %v", label, err)
	case len(b.Bytes) == 0:
		return b, p.fail(b.Line, "the %s that begins here is empty", label)
	}

	b.Type = label
	if is, older := canonical[label]; older {
		b.Type = is
	}

	return b, nil
}

// boundary takes a BEGIN or END line off, up to its last dash, and returns its label.
func (p *parser) boundary(kind string) (label string, err error) {
	text := firstLine(p.rest)
	label, _, closed := strings.Cut(text[len(kind):], dashes)
	if !closed || !validLabel(label) {
		return "", p.fail(p.line, "%q is a damaged BEGIN or END line", short(text))
	}
	p.rest = p.rest[len(kind)+len(label)+len(dashes):]
	return label, nil
}

// behind takes off what may follow an END line: blanks, and the next BEGIN line where a line end is missing.
func (p *parser) behind() error {
	rest := bytes.TrimLeft(p.rest, " \t")
	if bytes.HasPrefix(rest, []byte(begin)) || len(rest) == 0 {
		p.rest = rest
		return nil
	}
	if rest[0] != '\n' {
		return p.fail(p.line, "%q stands behind an END line", short(firstLine(rest)))
	}
	p.rest = rest
	p.nextLine()
	return nil
}

// headers are those before the content, which end with an empty line (RFC 1421 section 4.4).
func (p *parser) headers(body []byte, line int, label string) (headers map[string]string, content []byte, err error) {
	content = body
	if first, rest, _ := bytes.Cut(body, []byte("\n")); len(bytes.TrimSpace(first)) == 0 {
		body = rest
		line++
	}

	if !strings.Contains(firstLine(body), ":") {
		return nil, content, nil
	}

	headers = map[string]string{}
	for ; ; line++ {
		text, rest, more := bytes.Cut(body, []byte("\n"))
		body = rest
		name, value, found := strings.Cut(strings.TrimSpace(string(text)), ":")
		switch {
		case name == "" && !found && more:
			return headers, body, nil
		case !found || !validLabel(name):
			return nil, nil, p.fail(line, "is neither a header of the %s nor the empty line that ends its headers", label)
		}

		headers[name] = strings.TrimSpace(value)
	}
}

// decode is strict but for white space: padding is there and bits that mean nothing are zero, so that damage shows.
func decode(body []byte) ([]byte, error) {
	text := bytes.Join(bytes.Fields(body), nil)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	return out[:n], err
}

// validLabel reports what may stand in a BEGIN line (RFC 7468 section 3).
func validLabel(label string) bool {
	for i := range len(label) {
		if c := label[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != ' ' && c != '.' && c != '-' && c != '#' && c != '_' {
			return false
		}
	}
	return label != "" && strings.TrimSpace(label) == label
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(line)
}

// content is base64 that may be a part of a key.
var content = lazy.Regexp(`[A-Za-z0-9+/=]{16,}`)

// short is a line as it may stand in a message.
func short(text string) string {
	text = content().ReplaceAllString(text, "…")
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return text
}

// Encode writes blocks and nothing else.
func Encode(blocks ...Block) []byte {
	var out bytes.Buffer
	for _, b := range blocks {
		_ = pem.Encode(&out, &pem.Block{Type: b.Type, Headers: b.Headers, Bytes: b.Bytes}) // a Buffer takes all
	}
	return out.Bytes()
}
