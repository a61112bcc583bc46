package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// script is a connection on which everything has come.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

// What comes before TLS is hostile: whatever it is, nothing of it is lost to TLS but what was looked for.
func FuzzPreface(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n\x16\x03\x01"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02rest"))
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x16\x03\x01"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{in: bytes.NewReader(data)}
		c := &clientConn{Conn: s}
		if err := c.readProxyHeader(); err == nil {
			used := len(data) - s.in.Len()
			if used < 15 || used > 16+maxProxyV2 {
				t.Errorf("a header of %d bytes", used)
			}
		}
		s = &script{in: bytes.NewReader(data)}
		c = &clientConn{Conn: s}
		if c.answerSSLRequest() && !c.startTLS {
			if all, _ := io.ReadAll(io.MultiReader(bytes.NewReader(c.replay), s.in)); !bytes.Equal(all, data) && s.out.Len() == 0 {
				t.Errorf("%q was read again as %q", data, all)
			}
		}
		s = &script{in: bytes.NewReader(data)}
		c = &clientConn{Conn: s}
		name, ok := c.peekName()
		if !ok && name != "" {
			t.Errorf("a name of no hello: %q", name)
		}
		if all, _ := io.ReadAll(io.MultiReader(bytes.NewReader(c.replay), s.in)); !bytes.Equal(all, data) {
			t.Errorf("%q was read again as %q", data, all)
		}
	})
}
