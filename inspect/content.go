package inspect

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// View is content as people read it. Nothing in it may be taken for markup.
type View struct {
	Kind   string  // json | form | image | text | grpc | binary; "": there is none
	Type   string  // of the message, as it says
	Text   string  // pretty, of json; else as it came
	Pairs  []Field // of a form
	Frames []Frame // of gRPC
	Hex    string  // of what is no text: the beginning
	Coding string  // that was taken off
	Note   string  // what is missing, or wrong
}

// Frame is a message of gRPC (its HTTP/2 specification, "Length-Prefixed-Message").
type Frame struct {
	Name       string
	Size       uint32
	Compressed bool
	Text       string // its fields, as far as they can be told without a schema; else its bytes
}

const (
	maxDecoded = 1 << 20   // bytes that compressed content may become
	maxShown   = 256 << 10 // bytes of a text on a page
	maxHex     = 4 << 10   // bytes that are shown so
	maxFrames  = 200
	maxPairs   = 500
	// Each level of JSON is indented once more: a few KiB of brackets would become megabytes of blanks.
	maxDepth = 64
)

// NewView reads what is known of content. target names what a message of gRPC is for.
func NewView(fields []Field, c *Content, target string) View {
	v := View{Type: Value(fields, "Content-Type")}
	if len(c.Data) == 0 {
		return View{}
	}
	if c.Cut {
		v.Note = fmt.Sprintf("cut: the first %d of %d bytes", len(c.Data), c.Size)
	}

	data := c.Data
	coding := coded(fields)
	switch {
	case coding == "":
	case c.Decoded:
		v.Coding = coding
	default:
		decoded, err := decode(coding, data)
		if len(decoded) == 0 && err != nil {
			v.add("its content coding " + coding + " cannot be taken off: " + err.Error())
			v.Kind, v.Hex = "binary", dump(data)
			return v
		}
		if err != nil && !c.Cut {
			v.add("what is decoded is not all: " + err.Error())
		}
		v.Coding, data = coding, decoded
	}

	if kind := kindOf(fields); strings.HasPrefix(kind, "application/grpc") {
		v.grpc(kind, target, Value(fields, "Grpc-Encoding"), data)
	} else {
		v.read(kind, data)
	}
	if len(v.Text) > maxShown {
		v.add(fmt.Sprintf("the first %d KiB are shown", maxShown>>10))
		v.Text = v.Text[:maxShown]
	}
	return v
}

func (v *View) add(note string) {
	if v.Note != "" {
		v.Note += "; "
	}
	v.Note += note
}

func (v *View) read(kind string, data []byte) {
	switch {
	case raster(data) != "":
		v.Kind = "image"
	case kind == "application/x-www-form-urlencoded" && Readable(data):
		v.Kind, v.Text = "form", string(data)
		if v.Pairs = formPairs(v.Text); len(v.Pairs) > maxPairs {
			v.add(fmt.Sprintf("the first %d of %d fields are shown", maxPairs, len(v.Pairs)))
			v.Pairs = v.Pairs[:maxPairs]
		}
	case Readable(data):
		v.Kind, v.Text = "text", string(data)
		if strings.HasSuffix(kind, "json") || kind == "" && strings.IndexByte("{[", data[0]) >= 0 {
			v.pretty(data)
		}
	default:
		v.Kind, v.Hex = "binary", dump(data)
	}
}

// pretty indents JSON, or says where it is none.
func (v *View) pretty(data []byte) {
	if depth(data) > maxDepth {
		v.add(fmt.Sprintf("not indented: it is nested deeper than %d levels", maxDepth))
		return
	}
	var b bytes.Buffer
	err := json.Indent(&b, data, "", "  ")
	if err == nil {
		v.Kind, v.Text = "json", b.String()
		return
	}
	var wrong *json.SyntaxError
	// Of what is cut the end is no error.
	if errors.As(err, &wrong) && v.Note == "" {
		v.add(fmt.Sprintf("no JSON: %v, at byte %d", err, wrong.Offset))
	}
}

// depth is how deep JSON is nested.
func depth(data []byte) (deepest int) {
	open, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}', c == ']':
			open--
		}
	}
	return deepest
}

// Readable reports whether data is text. The end may be in the middle of a character.
func Readable(data []byte) bool {
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			return len(data) < utf8.UTFMax && !utf8.FullRune(data)
		}
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' && r != '\f' && r != 0x1b {
			return false
		}
		data = data[n:]
	}
	return true
}

// raster is the type of an image that browsers show and that cannot have scripts; "": it is none.
func raster(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(data, []byte("GIF87a")), bytes.HasPrefix(data, []byte("GIF89a")):
		return "image/gif"
	case len(data) > 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return "image/webp"
	}
	return ""
}

// Image is content that is an image, with its type; nil: it is none.
func Image(fields []Field, c *Content) (data []byte, kind string) {
	data = c.Data
	if coding := coded(fields); coding != "" && !c.Decoded {
		data, _ = decode(coding, data)
	}
	if kind = raster(data); kind == "" {
		return nil, ""
	}
	return data, kind
}

// decode takes a content coding off, of as much as there is.
func decode(coding string, data []byte) ([]byte, error) {
	var from io.Reader
	switch coding {
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		from = r
	case "deflate":
		// RFC 9110 section 8.4.1.2 means zlib, whose head is two bytes; many send what follows alone.
		if len(data) > 2 && data[0]&15 == 8 && binary.BigEndian.Uint16(data)%31 == 0 {
			data = data[2:]
		}
		from = flate.NewReader(bytes.NewReader(data))
	case "br":
		from = brotli.NewReader(bytes.NewReader(data))
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(16<<20))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		from = r
	default:
		return nil, fmt.Errorf("%q is not known", coding)
	}
	// A few bytes can become gigabytes.
	return io.ReadAll(io.LimitReader(from, maxDecoded))
}

func formPairs(form string) (pairs []Field) {
	for pair := range strings.SplitSeq(strings.TrimRight(form, "\r\n"), "&") {
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, Field{Name: unescaped(name), Value: unescaped(value)})
	}
	return pairs
}

func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// dump shows the beginning of bytes, beside their characters.
func dump(data []byte) string {
	text := hex.Dump(data[:min(len(data), maxHex)])
	if len(data) > maxHex {
		text += fmt.Sprintf("… and %d bytes more\n", len(data)-maxHex)
	}
	return text
}

// Dump is a message as text, or as bytes beside their characters.
func Dump(data []byte) string {
	if Readable(data) {
		return string(data)
	}
	return dump(data)
}
