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
	Number     int
	Size       uint32
	Compressed bool
	Hex        string
}

const (
	maxDecoded = 1 << 20 // bytes that compressed content may become
	maxHex     = 4 << 10 // bytes that are shown so
	maxFrames  = 200
)

// NewView reads what is known of content.
func NewView(fields []Field, c *Content) View {
	v := View{Type: Value(fields, "Content-Type")}
	if len(c.Data) == 0 {
		return View{}
	}
	if c.Cut {
		v.Note = fmt.Sprintf("cut: the first %d of %d bytes", len(c.Data), c.Size)
	}

	data := c.Data
	if coding := Value(fields, "Content-Encoding"); coding != "" && coding != "identity" {
		decoded, err := decode(strings.ToLower(coding), data)
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

	v.read(kindOf(fields), data)
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
	case strings.HasPrefix(kind, "application/grpc"):
		v.Kind, v.Frames = "grpc", grpcFrames(data)
	case raster(data) != "":
		v.Kind = "image"
	case kind == "application/x-www-form-urlencoded" && Readable(data):
		v.Kind, v.Text, v.Pairs = "form", string(data), formPairs(string(data))
	case Readable(data):
		v.Kind, v.Text = "text", string(data)
		if strings.HasSuffix(kind, "json") || kind == "" && len(data) > 0 && strings.IndexByte("{[", data[0]) >= 0 {
			v.pretty(data)
		}
	default:
		v.Kind, v.Hex = "binary", dump(data)
	}
}

// pretty indents JSON, or says where it is none.
func (v *View) pretty(data []byte) {
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
	if coding := Value(fields, "Content-Encoding"); coding != "" {
		data, _ = decode(strings.ToLower(coding), data)
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

func grpcFrames(data []byte) (frames []Frame) {
	for len(data) >= 5 && len(frames) < maxFrames {
		f := Frame{Number: len(frames) + 1, Compressed: data[0]&1 != 0, Size: binary.BigEndian.Uint32(data[1:])}
		data = data[5:]
		n := min(uint64(f.Size), uint64(len(data)))
		f.Hex = dump(data[:n])
		data = data[n:]
		frames = append(frames, f)
	}
	return frames
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
