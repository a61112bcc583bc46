package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/handshake"
	"padlock/proxy/paths"
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
	default:
		return
	}
	_ = c.SetDeadline(time.Now().Add(s.config().Timeouts.Header))
	rest := io.LimitReader(c, int64(s.config().Limits.Head))
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
	if found, _ := s.state.Load().table("").site(host); found == nil || !strings.HasPrefix(target, "/") {
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
		if !l.Plain && !s.state.Load().own(l.Address) {
			_, port, _ := net.SplitHostPort(l.Addr().String())
			return port
		}
	}
	return ""
}

// redirectServer answers on the plain HTTP port with the https:// URL of the same thing.
func (s *Server) redirectServer() *http.Server {
	t := s.config().Timeouts
	return &http.Server{
		ReadHeaderTimeout: t.Header,
		ReadTimeout:       t.Stall,
		WriteTimeout:      t.Stall,
		IdleTimeout:       t.Idle,
		MaxHeaderBytes:    s.config().Limits.Head,
		ErrorLog:          slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, plainKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(plainKey{}).(*plainConn); ok {
				c.understood.Store(true)
			}
			w.Header().Set("Connection", "close")
			if s.deps.Challenges != nil && s.validates(w, r) {
				return
			}
			if s.deps.Trust != nil && s.deps.Trust.AnswerHTTP(w, r, s.httpsPort()) {
				return
			}
			url, ok := s.httpsURL(r.Host, r.RequestURI, s.httpsPort())
			if !ok {
				http.Error(w, "padlock does not serve this host.", http.StatusNotFound)
				return
			}
			w.Header().Set("Location", url)
			w.WriteHeader(http.StatusPermanentRedirect)
		}),
	}
}

// validates answers a CA's request of http-01, and reports whether it was one.
func (s *Server) validates(w http.ResponseWriter, r *http.Request) bool {
	start := time.Now()
	if !s.deps.Challenges.AnswerHTTP(w, r) {
		return false
	}
	if s.deps.Recorder != nil {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		name, ok := config.CanonicalHost(hostOnly(r.Host))
		if local != nil && ok {
			s.deps.Recorder.Validation(r.RemoteAddr, local.String(), name, start)
		}
	}
	return true
}

func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// plainKey has the connection in the context of a request of plain HTTP.
type plainKey struct{}

// plainListener has what comes on a listener of plain HTTP, and is none, counted as it is on those of TLS: net/http answers some of it without a
// word to anybody else, and the rest not at all.
type plainListener struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: c, server: l.server}, nil
}

type plainConn struct {
	net.Conn
	server     *Server
	understood atomic.Bool // a request has come whole

	mu   sync.Mutex
	head []byte // what came first, enough of it to recognise a protocol
	told bool
}

const plainHead = 64

// Read implements net.Conn. It is called by one goroutine at a time.
func (c *plainConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.begun(p[:n]) && p[0] == recordTypeHandshake && c.server.deps.Recorder != nil && c.tells() {
		c.server.deps.Recorder.TLSOnPlain(c, p[:n], c.server.httpsPort()) // which gets an answer in plain text
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.understood.Load() && !c.silent() && c.tells() {
		c.server.cuts.about(traffic.SlowHead, c.client(), "on the port of plain HTTP")
	}
	return n, err
}

// Write implements net.Conn. What is written before there is a request is net/http's refusal.
func (c *plainConn) Write(p []byte) (int, error) {
	if !c.understood.Load() && c.tells() {
		status, _, _ := bytes.Cut(p, []byte("\r\n"))
		c.refused(bytes.Contains(status, []byte(" 431 ")))
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn. A client that does not speak HTTP may have ended before anything was found wrong.
func (c *plainConn) Close() error {
	if !c.understood.Load() && !c.silent() && !strings.HasPrefix(c.spoken(), "http") && c.tells() {
		c.refused(false)
	}
	return c.Conn.Close()
}

func (c *plainConn) refused(large bool) {
	reason := traffic.Malformed
	if large {
		reason = traffic.HeadSize
	}
	c.server.cuts.about(reason, c.client(), "on the port of plain HTTP, from a client that speaks "+handshake.Spoken(c.first()))
}

// begun keeps the first bytes, and reports whether these are they.
func (c *plainConn) begun(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head != nil {
		return false
	}
	c.head = bytes.Clone(p[:min(len(p), plainHead)])
	return true
}

func (c *plainConn) first() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

func (c *plainConn) silent() bool { return len(c.first()) == 0 }

func (c *plainConn) spoken() string { return handshake.Recognise(c.first()) }

// tells reports whether nothing was told of the connection yet, and notes that it is now.
func (c *plainConn) tells() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.told
	c.told = true
	return !before
}

func (c *plainConn) client() netip.Addr {
	_, addr := clientAddr(c.RemoteAddr().String())
	return addr
}
