package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"padlock/handshake"
)

// Admin answers on the admin address: health, and the handshakes as they happen. It is reached from this machine only.
type Admin struct {
	recent       *handshake.Recent // nil when handshakes are off
	certificates Certificates      // nil when nothing is managed
	network      string
	reload       func() error // nil: there is no file to read again
}

// Certificates says how the managed certificates are.
type Certificates interface {
	// JSON is a list of objects, one for each certificate.
	JSON() ([]byte, error)
	// Metrics writes gauges in the text format of Prometheus.
	Metrics(w io.Writer)
	// Troubles are the names whose certificate has expired, or is about to while renewals fail.
	Troubles() []string
}

// NewAdmin is for a listener of the given network. Over TCP it answers only to loopback names, so that a web page
// that rebinds its name to 127.0.0.1 reads nothing.
func NewAdmin(recent *handshake.Recent, certificates Certificates, network string, reload func() error) *Admin {
	return &Admin{recent, certificates, network, reload}
}

// Serve answers until ctx ends, and closes the listener.
func (a *Admin) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /certificates", a.list)
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("GET /handshakes", a.handshakes)
	mux.HandleFunc("POST /reload", a.reloaded)
	server := &http.Server{
		Handler: a.guarded(mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// health answers 200 as long as padlock serves. A certificate in trouble is named, as it does not heal with a new start.
func (a *Admin) health(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
	if a.certificates == nil {
		return
	}
	for _, name := range a.certificates.Troubles() {
		_, _ = io.WriteString(w, "warning: the certificate of "+name+" has expired or expires soon, and could not be renewed\n")
	}
}

func (a *Admin) list(w http.ResponseWriter, _ *http.Request) {
	if a.certificates == nil {
		http.Error(w, "No certificate is managed.", http.StatusNotFound)
		return
	}
	data, err := a.certificates.JSON()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (a *Admin) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if a.certificates != nil {
		a.certificates.Metrics(w)
	}
}

// reloaded answers when the new configuration is served, or why it is not.
func (a *Admin) reloaded(w http.ResponseWriter, _ *http.Request) {
	if a.reload == nil {
		http.Error(w, "padlock was started without a configuration file: there is nothing to read again.", http.StatusNotFound)
	} else if err := a.reload(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	}
}

func (a *Admin) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		if a.network == "tcp" && (!loopbackHost(r.Host) || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "cross-site") {
			http.Error(w, "The admin endpoint answers to this machine only.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// handshakes streams what matches outcome, sni and remote: what is remembered, then with follow what comes. The format is
// story, line or json; colour is for terminals.
func (a *Admin) handshakes(w http.ResponseWriter, r *http.Request) {
	if a.recent == nil {
		http.Error(w, "Handshakes are not recorded: start padlock with --handshakes all.", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	kind := map[string]string{"": "application/x-ndjson", "json": "application/x-ndjson", "line": "text/plain; charset=utf-8", "story": "text/plain; charset=utf-8"}[query.Get("format")]
	if kind == "" {
		http.Error(w, "format must be story, line or json", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	tell := func(e *handshake.Event) error {
		if !matches(e, query.Get("outcome"), query.Get("sni"), query.Get("remote")) {
			return nil
		}
		return write(w, e, query.Get("format"), query.Get("colour") != "")
	}
	if query.Get("follow") == "" {
		events := a.recent.Events()
		for i := len(events) - 1; i >= 0; i-- {
			if tell(events[i]) != nil {
				return
			}
		}
		return
	}
	controller := http.NewResponseController(w)
	_ = controller.Flush() // the watcher sees that it is connected
	_ = a.recent.Follow(r.Context(), func(e *handshake.Event) error {
		if err := tell(e); err != nil {
			return err
		}
		return controller.Flush()
	})
}

func write(w io.Writer, e *handshake.Event, format string, colour bool) error {
	var b bytes.Buffer
	switch format {
	case "story":
		handshake.NewStory(&b, colour).Handshake(e)
	case "line":
		handshake.NewLine(&b).Handshake(e)
	default:
		handshake.NewJSON(&b).Handshake(e)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// matches compares whole outcomes, and parts of names and addresses.
func matches(e *handshake.Event, outcome, sni, remote string) bool {
	if outcome == "failures" && e.Outcome == handshake.Complete || outcome != "" && outcome != "failures" && outcome != string(e.Outcome) {
		return false
	}
	return strings.Contains(e.SNI, sni) && strings.Contains(e.Remote, remote)
}
