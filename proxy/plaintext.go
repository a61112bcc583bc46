package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/handshake"
	"padlock/proxy/gateway"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
	"padlock/proxy/socket"
	"padlock/traffic"
)

// answerPlaintext says what was spoken on the TLS port, and sends plain HTTP to https://.
func (s *Server) answerPlaintext(c net.Conn, trace *handshake.Conn, head []byte) {
	kind := handshake.Recognise(head)
	if trace != nil {
		trace.NotTLS(kind)
	}

	switch kind {
	case "http", "http_connect", "http_proxy":
	// Other protocols have no answer that their client would understand, so the connection is only closed.
	default:
		return
	}

	// The handshake's deadline has been used up by waiting for TLS.
	_ = c.SetDeadline(time.Now().Add(s.config().Timeouts.Header))
	rest := io.LimitReader(c, int64(s.config().Limits.HeaderSize))
	request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), rest)))
	location, status := "", 400
	if err == nil {
		if url, ok := s.httpsURL(request.Host, request.RequestURI, ""); ok {
			location, status = "Location: "+url+"\r\n", 308
		}
	}

	text := "This port speaks HTTPS. Use https:// instead of http://.\n"
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), location, len(text), text)
}

// httpsURL is where a plain request should have gone. An empty port keeps the one that the client named.
// Only names that padlock serves are redirected to, so that it cannot be used to send people elsewhere.
func (s *Server) httpsURL(host, target, port string) (string, bool) {
	if found, _ := s.current.Load().Hosts("").Site(host); found == nil || !strings.HasPrefix(target, "/") {
		return "", false
	}

	name, own, err := net.SplitHostPort(host)
	if err != nil {
		name, own = strings.Trim(host, "[]"), ""
	}
	if port == "" {
		port = own
	}

	canonical, ok := config.CanonicalHost(name)
	if !ok {
		return "", false
	}
	authority := canonical
	// The standard port is left out, so that the URL equals the one that people type.
	if port != "" && port != "443" {
		authority = net.JoinHostPort(canonical, port)
	} else if strings.Contains(canonical, ":") {
		authority = "[" + canonical + "]"
	}

	return paths.Location("https://"+authority, target)
}

// httpsPort is that of the first listener that sites share; a reload may change it.
func (s *Server) httpsPort() string {
	for _, l := range s.Listeners() {
		if !l.Plain && !s.current.Load().Own(l.Address) {
			_, port, _ := net.SplitHostPort(l.Addr().String())
			return port
		}
	}
	return ""
}

// routes are those in force.
func (s *Server) routes() *gateway.Routes { return s.current.Load().Routes }

// onPlain answers on ports of plain HTTP.
func (s *Server) onPlain() message.Handler {
	o := gateway.PlainOptions{Routes: s.routes, AccessLog: s.access, Log: s.deps.Log, Location: func(host, target string) (string, bool) { return s.httpsURL(host, target, s.httpsPort()) }}
	if s.deps.Challenges != nil {
		o.Challenges = s.deps.Challenges.AnswerHTTP
	}
	if s.deps.Recorder != nil {
		o.Validated = s.recordValidation
	}
	if s.deps.Trust != nil {
		o.Trust = func(w http.ResponseWriter, r *http.Request) bool { return s.deps.Trust.AnswerHTTP(w, r, s.httpsPort()) }
	}
	o.Off = func(host string) bool { found, _ := s.plainSite(host); return found != nil && found.PlainOff }
	return plainHandler{s, gateway.NewPlain(o)}
}

// plainHandler has sites that are served over plain HTTP answered as over TLS, and all else by leading to HTTPS.
type plainHandler struct {
	server *Server
	leads  *gateway.Gateway
}

// Serve implements message.Handler.
func (h plainHandler) Serve(ctx *message.Context, r *message.Request, w message.Writer) {
	if h.server.servesPlain(r.Host) {
		h.server.gateway.Serve(ctx, r, w)
		return
	}
	h.leads.Serve(ctx, r, w)
}

// plainSite is the site of a host on listeners of plain HTTP.
func (s *Server) plainSite(host string) (found *sites.Site, name string) {
	return s.current.Load().Hosts("").Site(host)
}

func (s *Server) servesPlain(host string) bool {
	found, _ := s.plainSite(host)
	return found != nil && found.Plain
}

// recordValidation records a CA that has got its answer.
func (s *Server) recordValidation(r *message.Request, began time.Time) {
	if name, ok := config.CanonicalHost(sites.HostOnly(r.Host)); ok {
		s.deps.Recorder.Validation(r.Conn.Remote, r.Conn.Local, name, began)
	}
}

// servePlain takes a connection of plain HTTP to the HTTP/1.1 server.
func (s *Server) servePlain(raw *clientConn) {
	if !raw.join(s.asking) {
		return
	}

	// Load balancers send the PROXY header on every port that they forward.
	if s.proxied(raw.Conn.RemoteAddr()) {
		_ = raw.SetDeadline(time.Now().Add(s.config().Timeouts.Header))
		if err := raw.readProxyHeader(); err != nil {
			s.deps.Log.Debug("connection refused", "remote", raw.Conn.RemoteAddr(), "error", err)
			raw.Close()
			return
		}
		_ = raw.SetDeadline(time.Time{})
	}

	if !s.enter(raw) {
		return
	}

	// Connections of plain HTTP have no handshake, so no bytes are kept for one that fails.
	raw.started = true
	c := &plainConn{clientConn: raw, facts: message.Conn{Plain: true, Remote: raw.RemoteAddr().String(), Local: raw.LocalAddr().String(), Listener: raw.listener}}
	c.facts.Client, c.facts.Addr = raw.client()
	c.socket, _ = raw.Conn.(*socket.Conn)
	s.plain.ServeConn(c)
}

// plainConn is a connection of plain HTTP, as the HTTP/1.1 server sees it.
type plainConn struct {
	*clientConn
	socket *socket.Conn // nil where there is none
	facts  message.Conn

	first    atomic.Pointer[[]byte] // what came first, enough of it to recognise a protocol; nil: nothing has
	answered atomic.Bool
	logged   atomic.Bool // what is wrong with it
}

// plainHead is how much of what came first is kept.
const plainHead = 64

// Facts implements http1.Conn.
func (c *plainConn) Facts() *message.Conn { return &c.facts }

// Read records a client that speaks TLS here, which gets an answer in plain text. It is called by one goroutine at a
// time.
func (c *plainConn) Read(p []byte) (int, error) {
	n, err := c.clientConn.Read(p)
	if n > 0 && c.first.Load() == nil {
		head := bytes.Clone(p[:min(n, plainHead)])
		c.first.Store(&head)
		if recorder := c.server.deps.Recorder; recorder != nil && p[0] == recordTypeHandshake && c.logs() {
			recorder.TLSOnPlain(c.clientConn, p[:n], c.server.httpsPort())
		}
	}
	return n, err
}

// Write gives the place among those that have said nothing yet back: who is answered has said what it wants.
func (c *plainConn) Write(p []byte) (int, error) {
	c.answered.Store(true)
	// The first answer shows that the client speaks HTTP, so it counts as a connection and not as a pending one.
	c.begun.Load().leave()
	return c.clientConn.Write(p)
}

// Close logs a client that does not speak HTTP, and has ended before anything was found wrong.
func (c *plainConn) Close() error {
	if first := c.first.Load(); first != nil && !c.answered.Load() && !strings.HasPrefix(handshake.Recognise(*first), "http") {
		c.Rejected(traffic.Malformed, "")
	}
	return c.clientConn.Close()
}

// Rejected implements http1.Rejecter.
func (c *plainConn) Rejected(why traffic.Reason, what string) {
	if !c.logs() {
		return
	}
	where := "on the port of plain HTTP"
	if first := c.first.Load(); first != nil && why != traffic.SlowHeader {
		where += ", from a client that speaks " + handshake.Spoken(*first)
	}
	if what != "" {
		where += ": " + what
	}
	c.server.abuse.addDetail(why, c.facts.Addr, where)
}

// logs reports whether nothing was logged about the connection yet, and notes that it is now.
func (c *plainConn) logs() bool { return c.logged.CompareAndSwap(false, true) }

// Cork implements http1.Conn.
func (c *plainConn) Cork() {
	if c.socket != nil {
		c.socket.Cork()
	}
}

// Uncork implements http1.Conn.
func (c *plainConn) Uncork() error {
	if c.socket == nil {
		return nil
	}
	return c.socket.Uncork()
}

// CloseWrite says that nothing follows.
func (c *plainConn) CloseWrite() error {
	return errors.Join(c.Uncork(), c.clientConn.CloseWrite())
}
