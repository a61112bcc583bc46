package coding

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Weights, identity, * and malformed items mean what RFC 9110 section 12.5.3 says.
func TestWhatAClientAccepts(t *testing.T) {
	for _, c := range []struct {
		accept string
		want   string
		forced bool
	}{
		{"", "", false}, {"gzip, deflate, br, zstd", "zstd br gzip", false}, {"gzip", "gzip", false}, {"GZIP;Q=1.0", "gzip", false}, {"x-gzip", "gzip", false},
		{"gzip;q=0", "", false}, {"gzip;q=0.000, br", "br", false}, {"gzip;q=0.001", "gzip", false}, {"br;q=0.5, gzip;q=0.8", "gzip br", false},
		{"*", "zstd br gzip", false}, {"*;q=0", "", true}, {"gzip, *;q=0", "gzip", true}, {"br;q=0, *", "zstd gzip", false}, {"identity", "", false},
		{"identity, gzip;q=0.5", "", false}, {"identity;q=0.5, gzip;q=0.5", "gzip", false}, {"identity;q=0", "", true}, {"identity;q=0, gzip", "gzip", true},
		{"identity;q=0, *", "zstd br gzip", true}, {"gzip;q=abc", "", false}, {"gzip;q=2", "", false}, {"gzip;q=-1", "", false}, {"gzip;q=1.0001", "", false}, {"gzip;q=", "", false},
		{"gzip;q", "", false}, {"gzip;level=9", "", false}, {"deflate", "", false}, {" gzip ; q=0.5 ,, ", "gzip", false}, {"gzipped", "", false}, {"br;q=1.5, gzip", "gzip", false},
		{"*;q=0.1, gzip;q=0", "zstd br", false}, {"identity;q=1, *;q=0.5", "", false}, {"*;q=0, identity;q=1", "", false},
	} {
		got, forced := Acceptable([]string{c.accept}, All())
		if strings.Join(got, " ") != c.want || forced != c.forced {
			t.Errorf("%q: %q %v, not %q %v", c.accept, got, forced, c.want, c.forced)
		}
	}

	if got, _ := Acceptable([]string{"gzip", "br;q=0.5"}, []string{"br", "gzip"}); !reflect.DeepEqual(got, []string{"gzip", "br"}) {
		t.Errorf("two lines: %q", got)
	}
}

func FuzzAcceptable(f *testing.F) {
	f.Add("gzip;q=0.5, *;q=0, identity")
	f.Fuzz(func(t *testing.T, accept string) {
		codings, _ := Acceptable([]string{accept}, All())
		if len(codings) > 0 && strings.Trim(accept, " \t,") == "" {
			t.Errorf("%q: %q", accept, codings)
		}
	})
}

func decode(t *testing.T, coding string, encoded []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(bytes.NewReader(encoded))
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(bytes.NewReader(encoded), zstd.WithDecoderMaxWindow(8<<20))
		defer z.Close()
		r = z
	case "br":
		r = brotli.NewReader(bytes.NewReader(encoded))
	}
	if err != nil {
		t.Fatalf("%s: %v", coding, err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", coding, err)
	}
	return content
}

// sample is content that compresses as texts do, and differs by its seed.
func sample(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < size {
		switch rng.IntN(20) {
		case 0:
			fmt.Fprintf(&b, "%x", rng.Uint64())
		case 1:
			b.WriteByte(byte(rng.IntN(256)))
		default:
			fmt.Fprintf(&b, "<td class=%q>%d</td>", []string{"name", "value", "note"}[rng.IntN(3)], rng.IntN(1000))
		}
	}
	return b.Bytes()[:size]
}

func encode(t *testing.T, coding string, level Level, content []byte, rng *rand.Rand) []byte {
	t.Helper()
	e := NewEncoder(coding, level)
	var out []byte
	take := func() {
		buffer := make([]byte, 1+rng.IntN(8<<10))
		for n := e.Take(buffer); n > 0; n = e.Take(buffer) {
			out = append(out, buffer[:n]...)
		}
		if e.Pending() > 0 {
			t.Fatalf("%s: %d are left", coding, e.Pending())
		}
	}

	for at := 0; at < len(content); {
		n := copy(e.Room()[:1+rng.IntN(len(e.Room()))], content[at:])
		if err := e.Write(e.Room()[:n]); err != nil {
			t.Fatal(err)
		}
		if at += n; Flushes(coding) && rng.IntN(4) == 0 {
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
			take()
		}
	}

	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	take()
	if rng.IntN(5) > 0 { // else it is left to the collector
		e.Release()
	}
	return out
}

// What an encoder makes decodes to what it was given, whatever the encoder was used for before, and many at once
// have nothing of each other's.
func TestContentComesBackFromEveryEncoder(t *testing.T) {
	for _, coding := range All() {
		for name, level := range Levels {
			t.Run(coding+" "+name, func(t *testing.T) {
				t.Parallel()
				for i, size := range []int{0, 1, 100, 5000, 70_000, 0, 400_000, 1, 66_000} {
					rng := rand.New(rand.NewPCG(uint64(i), 2))
					content := sample(uint64(i), size)
					if got := decode(t, coding, encode(t, coding, level, content, rng)); !bytes.Equal(got, content) {
						t.Fatalf("%d bytes came back as %d others", size, len(got))
					}
				}
			})
		}
	}
}

// After Flush everything that was written can be decoded.
func TestFlushedContentCanBeRead(t *testing.T) {
	for _, coding := range []string{"gzip", "zstd"} {
		e := NewEncoder(coding, Default)
		var out bytes.Buffer
		r, w := io.Pipe()
		got := make(chan string)
		go func() {
			var content io.Reader
			if coding == "gzip" {
				z, err := gzip.NewReader(r)
				if err != nil {
					t.Error(err)
					close(got)
					return
				}
				content = z
			} else {
				z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
				if err != nil {
					t.Error(err)
					close(got)
					return
				}
				defer z.Close()
				content = z
			}
			room := make([]byte, 100)
			for {
				n, err := content.Read(room)
				if n > 0 {
					got <- string(room[:n])
				}
				if err != nil {
					close(got)
					return
				}
			}
		}()

		for i := range 5 {
			text := fmt.Sprintf("event %d\n", i)
			if err := e.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 4096)
			n := e.Take(buffer)
			out.Write(buffer[:n])
			if _, err := w.Write(buffer[:n]); err != nil {
				t.Fatal(err)
			}
			if back := <-got; back != text {
				t.Fatalf("%s: %q, not %q", coding, back, text)
			}
		}
		w.CloseWithError(io.ErrUnexpectedEOF)
		<-got
		e.Release()
	}
}
