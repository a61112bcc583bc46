package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"padlock/config"
	"padlock/handshake"
	"padlock/proxy/paths"
)

// protocols are recognised by the first five bytes on a TLS port.
var protocols = []struct{ prefix, kind string }{
	{"PRI *", "h2c"}, {"SSH-", "ssh"}, {"PROXY", "proxy"}, {"\r\n\r\n\x00", "proxy"},
	{"GET ", "http"}, {"HEAD ", "http"}, {"POST ", "http"}, {"PUT ", "http"}, {"PATCH", "http"}, {"DELET", "http"},
	{"OPTIO", "http"}, {"TRACE", "http"}, {"CONNE", "http"},
}

func recognise(head []byte) string {
	for _, p := range protocols {
		if bytes.HasPrefix(head, []byte(p.prefix)) {
			return p.kind
		}
	}
	if len(head) >= 3 && head[0]&0x80 != 0 && head[2] == 1 {
		return "sslv2" // a two-byte length with its top bit set, then CLIENT-HELLO
	}
	return "unknown"
}

// answerPlaintext says what was spoken on the TLS port, and sends plain HTTP to https://.
func (s *Server) answerPlaintext(c net.Conn, trace *handshake.Conn, head []byte) {
	kind := recognise(head)
	if trace != nil {
		trace.NotTLS(kind)
	}
	if kind != "http" {
		return
	}
	_ = c.SetDeadline(time.Now().Add(s.cfg.Timeouts.Header))
	rest := io.LimitReader(c, int64(s.cfg.Limits.Head))
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
	t := s.cfg.Timeouts
	return &http.Server{
		ReadHeaderTimeout: t.Header,
		ReadTimeout:       t.Stall,
		WriteTimeout:      t.Stall,
		IdleTimeout:       t.Idle,
		MaxHeaderBytes:    s.cfg.Limits.Head,
		ErrorLog:          slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
