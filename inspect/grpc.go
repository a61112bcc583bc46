package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// grpc reads messages of gRPC, and of gRPC-Web, whose last frame has the trailers.
func (v *View) grpc(kind, target, coding string, data []byte) {
	v.Kind = "grpc"
	if strings.HasPrefix(kind, "application/grpc-web-text") {
		data = unbase64(data)
	}
	method := grpcMethod(target)
	for n := 1; len(data) >= 5 && n <= maxFrames; n++ {
		flags, size := data[0], binary.BigEndian.Uint32(data[1:])
		data = data[5:]
		whole := uint64(size) <= uint64(len(data))
		part := data[:min(uint64(size), uint64(len(data)))]
		data = data[len(part):]

		f := Frame{Name: fmt.Sprintf("Message %d of %s", n, method), Size: size, Compressed: flags&1 != 0}
		switch {
		case flags&0x80 != 0:
			f.Name, f.Text = "Trailers of "+method, Dump(part)
		default:
			f.Text = grpcText(part, whole, f.Compressed, coding)
		}
		v.Frames = append(v.Frames, f)
	}
	if len(data) > 0 {
		v.add(strconv.Itoa(len(data)) + " bytes more")
	}
}

// unbase64 takes apart what may be several texts, each with its own padding.
func unbase64(data []byte) (out []byte) {
	for len(data) >= 4 {
		var piece [3]byte
		n, err := base64.StdEncoding.Decode(piece[:], data[:4])
		if err != nil {
			return out
		}
		out, data = append(out, piece[:n]...), data[4:]
	}
	return out
}

// grpcMethod is a service with its method, such as package.Service.Method.
func grpcMethod(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return strings.Replace(strings.TrimPrefix(path, "/"), "/", ".", 1)
}

func grpcText(data []byte, whole, packed bool, coding string) string {
	if packed {
		plain, err := decode(strings.ToLower(coding), data)
		if err != nil && len(plain) == 0 {
			return dump(data)
		}
		data = plain
	}
	var b strings.Builder
	if whole && len(data) > 0 && protobuf(&b, data, 0) {
		return b.String()
	}
	return dump(data)
}

// protobuf writes the fields of a message by their numbers, and reports whether it can be one.
func protobuf(b *strings.Builder, data []byte, level int) bool {
	indent := strings.Repeat("  ", level)
	for len(data) > 0 && b.Len() < maxShown {
		key, n := binary.Uvarint(data)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return false
		}
		data = data[n:]
		fmt.Fprintf(b, "%s%d: ", indent, key>>3)
		switch key & 7 {
		case 0:
			value, n := binary.Uvarint(data)
			if n <= 0 {
				return false
			}
			data = data[n:]
			fmt.Fprintf(b, "%d\n", value)
		case 1:
			if len(data) < 8 {
				return false
			}
			bits := binary.LittleEndian.Uint64(data)
			data = data[8:]
			fmt.Fprintf(b, "0x%016x (%g)\n", bits, math.Float64frombits(bits))
		case 5:
			if len(data) < 4 {
				return false
			}
			bits := binary.LittleEndian.Uint32(data)
			data = data[4:]
			fmt.Fprintf(b, "0x%08x (%g)\n", bits, math.Float32frombits(bits))
		case 2:
			size, n := binary.Uvarint(data)
			if n <= 0 || size > uint64(len(data)-n) {
				return false
			}
			value := data[n : n+int(size)]
			data = data[n+int(size):]
			delimited(b, value, indent, level)
		default:
			return false
		}
	}
	return true
}

// delimited is a text, a message in the message, or bytes.
func delimited(b *strings.Builder, value []byte, indent string, level int) {
	var inner strings.Builder
	switch {
	case Readable(value) && !bytes.ContainsAny(value, "\x1b"):
		fmt.Fprintf(b, "%q\n", value)
	case level < 16 && protobuf(&inner, value, level+1):
		fmt.Fprintf(b, "{\n%s%s}\n", inner.String(), indent)
	default:
		fmt.Fprintf(b, "%d bytes %x\n", len(value), value[:min(len(value), 64)])
	}
}

// grpcStatuses are the names of google.golang.org/grpc/codes.
var grpcStatuses = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCStatus is what a call of gRPC has come to, in words; "": it was none, or it is not known yet.
func (r *Request) GRPCStatus() string {
	text := Value(r.Out.Trailers, "Grpc-Status")
	if text == "" {
		text = Value(r.Response, "Grpc-Status")
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(grpcStatuses) {
		return text + " " + grpcStatuses[n]
	}
	return text
}
