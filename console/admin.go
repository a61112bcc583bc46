package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"padlock/handshake"
	"padlock/inspect"
	"padlock/traffic"
)

// Options of NewAdmin. What is nil is not known, or not to be had.
type Options struct {
	Version  string
	Recent   *handshake.Recent // nil: handshakes are off
	Trends   *Trends
	Requests *inspect.Store // of the sites that remember theirs
	// Sends a request that is remembered once more, and returns the number of the new one; nil: it cannot be done.
	Replay        func(ctx context.Context, id uint64, edit inspect.Edit) (uint64, error)
	Metrics       *Metrics
	Traffic       func() traffic.Counts
	Dropped       func() uint64          // handshake records that were dropped
	TracesDropped func() uint64          // spans that did not reach the collector; nil where none are sent
	Certificates  func() []Certificate   // nil: nothing is known of any
	UnusableFiles func() []string        // files of certificates that cannot be used as they are now, each once
	Packets       func(id uint64) []byte // a handshake as pcapng, with its secrets; nil: secrets are not given away
	Reload        func() error           // reads the configuration file again; nil: there is none
	Leaving       func() bool            // padlock takes no new connections
	Overrides     func() []string        // what commands have changed beside the configuration, in words
	// What commands of whoever runs padlock change, by pattern. Only those answer that the guard tells apart from other
	// users of the machine.
	Commands map[string]http.HandlerFunc
}

// Admin answers on the admin addresses: the console, metrics, health, and what padlock's own commands ask. It is safe
// for use from many goroutines.
type Admin struct {
	o       Options
	started time.Time
	pages   *pages
	mux     *http.ServeMux
	closed  *http.ServeMux    // without commands, for listeners whose clients could be anybody
	shown   *handshake.Recent // what watchers have on their pages, so that it can be opened though many came after it
	missed  atomic.Uint64     // events that watchers of the console did not get in time
	history *history          // nil: nothing is counted
}

const rememberedRows = 512

// NewAdmin makes an Admin, which Serve opens to clients.
func NewAdmin(o Options) *Admin {
	a := &Admin{o: o, started: time.Now(), pages: newPages(), mux: http.NewServeMux(), closed: http.NewServeMux(), shown: handshake.NewRecent(rememberedRows)}
	if o.Traffic != nil {
		a.history = newHistory(o.Traffic)
	}
	if o.Metrics != nil {
		// A registry of its own: the global one has the metrics of every library.
		own := prometheus.NewRegistry()
		own.MustRegister(view{a})
		a.mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{o.Metrics.registry, own}, promhttp.HandlerOpts{}))
	}

	for pattern, serve := range map[string]http.HandlerFunc{
		"GET /healthz": a.health, "GET /readyz": a.readiness, "GET /status": a.serveStatus, "GET /certificates": a.serveCertificates,
		"GET /handshakes": a.handshakes, "POST /reload": a.reload,
		"GET /{$}": a.handshakePage, "GET /traffic": a.trafficPage, "GET /traffic/{kind}": a.trafficDetail, "GET /keys": a.certificatePage, "GET /live": a.live, "GET /trends": a.trends,
		"GET /handshakes/{id}": a.handshake, "GET /console.css": a.pages.asset("text/css; charset=utf-8", consoleStyle),
		"GET /console.js": a.pages.asset("text/javascript; charset=utf-8", consoleScript),
	} {
		a.mux.HandleFunc(pattern, serve)
	}

	for _, private := range []map[string]http.HandlerFunc{o.Commands, a.requestHandlers()} {
		for pattern, serve := range private {
			a.mux.HandleFunc(pattern, serve)
			if pattern != requestList {
				a.closed.HandleFunc(pattern, notHere)
			}
		}
	}
	a.closed.HandleFunc(requestList, a.requestsElsewhere)
	a.closed.Handle("/", a.mux)
	return a
}

// requestList is where the page with all requests is.
const requestList = "GET /inspect"

// requestsElsewhere says how requests can be seen, on an address that every user of the machine can reach.
func (a *Admin) requestsElsewhere(w http.ResponseWriter, _ *http.Request) {
	a.pages.show(w, http.StatusForbidden, "requests-elsewhere", a.head("Requests", "/inspect"))
}

// notHere is for commands on an address of the machine, which every user of it can reach.
func notHere(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "This address can be reached by every user of the machine: use the socket in the storage directory, or set admin.token.", http.StatusForbidden)
}

// Serve answers whoever the guard lets in until ctx ends, and closes the listener.
func (a *Admin) Serve(ctx context.Context, l net.Listener, g Guard) error {
	handler := a.mux
	if !g.personal() {
		handler = a.closed
	}
	server := &http.Server{
		Handler: g.protect(handler), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// A failed handshake is no news for this log: whoever connects sees the error.
		ErrorLog: discard,
	}
	// Close rather than Shutdown, as live pages never end by themselves.
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Observe notes, minute by minute, what the proxy counts, until ctx ends.
func (a *Admin) Observe(ctx context.Context) {
	if a.history != nil {
		a.history.run(ctx)
	}
}

// health answers 200 as long as padlock runs. What is in trouble is named, as it does not heal with a new start.
func (a *Admin) health(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
	// Restarting padlock cures none of these, so the status stays 200.
	for _, warning := range a.warnings() {
		_, _ = io.WriteString(w, "warning: "+warning+"\n")
	}
}

// readiness answers 200 while new connections are taken.
func (a *Admin) readiness(w http.ResponseWriter, _ *http.Request) {
	if !a.ready() {
		http.Error(w, "leaving: no new connections are taken", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

func (a *Admin) ready() bool { return a.o.Leaving == nil || !a.o.Leaving() }

func (a *Admin) serveStatus(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.status()) }

func (a *Admin) serveCertificates(w http.ResponseWriter, _ *http.Request) {
	if a.o.Certificates == nil {
		http.Error(w, "No certificate is managed.", http.StatusNotFound)
		return
	}
	writeJSON(w, a.o.Certificates())
}

// ErrRestarting is why a command that changes something is refused, among them Reload: another padlock is about to take
// over, and would not know. The same request reaches that one soon.
var ErrRestarting = errors.New("padlock is being restarted, and nothing has changed: run the command again in a moment")

// Restarting answers a request that ErrRestarting refuses: with 503 and Retry-After, which padlock's own commands obey.
func Restarting(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, ErrRestarting.Error(), http.StatusServiceUnavailable)
}

// reload answers when the new configuration is served, or why it is not.
func (a *Admin) reload(w http.ResponseWriter, _ *http.Request) {
	if a.o.Reload == nil {
		http.Error(w, "padlock was started without a configuration file: there is nothing to read again.", http.StatusNotFound)
	} else if err := a.o.Reload(); errors.Is(err, ErrRestarting) {
		Restarting(w)
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	}
}
