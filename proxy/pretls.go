package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"padlock/handshake/wire"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/traffic"
)

// preTLS reads what may come before TLS: a PROXY header, PostgreSQL's request for TLS, and, where a site leaves TLS to
// its target, the hello. It reports false where the connection is served or closed. Nothing is read beyond the end of
// what it looks for, nor after the limit.
func (s *Server) preTLS(raw *clientConn, limit time.Time) bool {
	current := s.current.Load()
	found := current.Hosts(raw.listener)
	// Judged by the address of the connection itself: only those who are listed may say where a client comes from.
	proxied := s.proxied(raw.Conn.RemoteAddr())
	if !proxied && !found.StartTLS && !found.Passes {
		return true
	}

	_ = raw.SetDeadline(limit)

	if proxied {
		if err := raw.readProxyHeader(); err != nil {
			s.tooSlow(raw, limit)
			s.refuseProxied(raw, err)
			return false
		}
	}

	if found.StartTLS && !raw.answerSSLRequest() {
		s.tooSlow(raw, limit)
		s.recordUnspoken(raw)
		raw.Close()
		return false
	}

	// The name decides whether padlock terminates TLS at all, so it has to be known before TLS begins.
	if found.Passes && !raw.startTLS {
		if name, ok := raw.peekName(); ok {
			if asked := found.Asked(name, raw.LocalAddr().String()); asked != nil && asked.TCP != nil && asked.TCP.Passthrough {
				_ = raw.SetDeadline(time.Time{})
				raw.asked, raw.service = asked, current.services[asked]
				s.pass(raw, name)
				return false
			}
		}
	}

	_ = raw.SetDeadline(time.Time{})
	return true
}

// tooSlow tells of a connection that has not come as far as TLS in time.
func (s *Server) tooSlow(raw *clientConn, limit time.Time) {
	if time.Now().Before(limit) {
		return
	}
	_, client := raw.client()
	s.abuse.add(traffic.SlowHandshake, client)
}

// proxied reports whether a PROXY header must come first on connections from an address.
func (s *Server) proxied(remote net.Addr) bool {
	from := s.config().Listen.ProxyProtocol.From
	if len(from) == 0 {
		return false
	}
	_, addr := message.ClientAddr(remote.String())
	return sites.Contains(from, addr)
}

var (
	proxyV1 = []byte("PROXY ")
	proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errNone = errors.New("no PROXY header")
)

const (
	maxProxyV1 = 107
	maxProxyV2 = 4096
)

// readProxyHeader reads a PROXY header of version 1 or 2, and nothing more.
func (c *clientConn) readProxyHeader() (err error) {
	head := make([]byte, len(proxyV2), maxProxyV1)
	defer func() {
		if err != nil {
			// The recorder shows how the connection began.
			c.replay = head
		}
	}()

	// The bytes behind the header are TLS, and must stay in the socket. So the header is read in pieces of known
	// length, without a buffered reader.
	if n, err := io.ReadFull(c.Conn, head); err != nil {
		head = head[:n]
		return err
	}

	switch {
	case bytes.Equal(head, proxyV2):
		var nobody bool
		if head, nobody, err = c.readProxyV2(head); err != nil {
			return err
		}
		// An address without a family says as much as UNKNOWN does.
		if nobody {
			c.unnamed = true
			return nil
		}
	case bytes.HasPrefix(head, proxyV1):
		if head, err = c.readProxyV1(head); err != nil {
			return err
		}
	default:
		return errNone
	}

	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return err
	}
	source, destination, ok := header.TCPAddrs()
	switch {
	// The connection is the proxy's own, as for its health checks (PROXY protocol, section 2.2).
	case header.Version == 2 && header.Command.IsLocal():
	case ok:
		c.remote, c.local = source, destination
		if begun := c.begun.Load(); begun != nil {
			begun.comesFrom(source)
		}
	default:
		// UNKNOWN, a Unix socket, datagrams: the connection is some client's, but nobody says whose.
		c.unnamed = true
	}

	return nil
}

// readProxyV2 reads the rest of a header of version 2, of which the signature was read. nobody: it names no family.
func (c *clientConn) readProxyV2(head []byte) (all []byte, nobody bool, err error) {
	rest := make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, rest); err != nil {
		return head, false, err
	}

	// The length comes from the network, and room is made for it before the bytes have come.
	length := binary.BigEndian.Uint16(rest[2:])
	if length > maxProxyV2 {
		return head, false, fmt.Errorf("a PROXY header of %d bytes", length)
	}
	addresses := make([]byte, length)
	if _, err := io.ReadFull(c.Conn, addresses); err != nil {
		return head, false, err
	}

	return append(append(head, rest...), addresses...), rest[0] == 0x21 && rest[1]>>4 == 0, nil
}

// readProxyV1 reads the rest of a line, byte by byte, as the line's length is not known and TLS follows it.
func (c *clientConn) readProxyV1(head []byte) ([]byte, error) {
	for head[len(head)-1] != '\n' {
		if len(head) == maxProxyV1 {
			return head, errors.New("a PROXY header without an end")
		}
		if _, err := io.ReadFull(c.Conn, head[len(head):len(head)+1]); err != nil {
			return head, err
		}
		head = head[:len(head)+1]
	}
	return head, nil
}

// refuseProxied closes a connection from a proxy that did not say whom it speaks for. Those that are closed without a
// byte are a load balancer's looks at whether padlock is there.
func (s *Server) refuseProxied(raw *clientConn, err error) {
	defer raw.Close()
	// Health checks of load balancers connect and leave every few seconds, and are no errors.
	if errors.Is(err, io.EOF) && len(raw.replay) == 0 {
		s.recordUnspoken(raw)
		return
	}

	s.deps.Log.Debug("connection refused", "remote", raw.Conn.RemoteAddr(), "error", err)
	if s.deps.Recorder == nil {
		return
	}
	trace := s.deps.Recorder.Wrap(raw)
	if len(raw.replay) > 0 {
		_, _ = trace.Read(make([]byte, len(raw.replay)))
	}
	trace.NotTLS("no_proxy")
	trace.Done(tls.ConnectionState{}, err)
	_ = trace.Close()
}

// recordUnspoken records a connection that has ended, or has to end, before its handshake began.
func (s *Server) recordUnspoken(raw *clientConn) {
	if s.deps.Recorder == nil {
		return
	}
	trace := s.deps.Recorder.Wrap(raw)
	// Wait for the client's end, or for the deadline once more.
	_, err := trace.Read(make([]byte, 1))
	trace.Done(tls.ConnectionState{}, err)
	_ = trace.Close()
}

// PostgreSQL's requests before TLS (protocol version 3, section "SSL Session Encryption"): a length, and a code.
var (
	sslRequest    = []byte{0, 0, 0, 8, 4, 210, 22, 47}
	gssEncRequest = []byte{0, 0, 0, 8, 4, 210, 22, 48}
)

// answerSSLRequest agrees to go on with TLS where a client of PostgreSQL asks; a request for GSSAPI before it is
// declined. What the client may have sent behind its request is not plaintext to anybody: TLS reads it.
func (c *clientConn) answerSSLRequest() bool {
	// GSSAPI may be asked for first, and then TLS. A client that asks for more is not PostgreSQL's.
	for range 2 {
		head := make([]byte, len(sslRequest))
		n, err := io.ReadFull(c.Conn, head)
		answer := ""
		switch {
		case err == nil && bytes.Equal(head, sslRequest):
			answer, c.startTLS = "S", true
		case err == nil && bytes.Equal(head, gssEncRequest):
			answer = "N"
		default:
			// It is TLS at once, or something else. The handshake will show which.
			c.replay = head[:n]
			return n > 0
		}

		if _, err := io.WriteString(c.Conn, answer); err != nil {
			return false
		}
		if c.startTLS {
			return true
		}
	}
	return false
}

const (
	recordHead = 5
	maxHello   = 64 << 10
)

// peekName reads the hello's records, which TLS will read again, for the server name.
func (c *clientConn) peekName() (name string, ok bool) {
	data := c.replay
	defer func() { c.replay = data }()

	take := func(want int) bool {
		for len(data) < want {
			// crypto/tls has the same limit for a handshake message.
			if want > maxHello {
				return false
			}

			from := len(data)
			data = append(data, make([]byte, want-from)...)
			n, err := io.ReadFull(c.Conn, data[from:])
			data = data[:from+n]
			if err != nil {
				return false
			}
		}
		return true
	}

	var messages wire.Assembler
	for at := 0; take(at + recordHead); {
		if data[at] != recordTypeHandshake {
			return "", false
		}

		end := at + recordHead + int(binary.BigEndian.Uint16(data[at+3:]))
		if !take(end) {
			return "", false
		}
		found, _ := messages.Add(data[at+recordHead:end], at, end)
		for _, m := range found {
			hello, err := wire.ParseClientHello(m.Body)
			if err != nil || m.Type != wire.ClientHelloType {
				return "", false
			}
			return hello.ServerName, true
		}

		at = end
	}

	return "", false
}
