package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/handshake"
	"padlock/lab/pki"
)

// Options of a Lab.
type Options struct {
	Listen  []string // addresses, all with the same port
	Storage string   // the directory that keeps the root; "": a new root each time
	Log     *slog.Logger
	Sinks   []handshake.Sink              // receive the log of all handshakes
	Story   func(*handshake.Event) string // renders one for the page; nil: none
}

// Lab serves the endpoints. It is safe for use from many goroutines.
type Lab struct {
	authority *pki.Authority
	endpoints []*Endpoint
	byHost    map[string]*Endpoint // those of the table
	listeners []net.Listener
	status    net.Listener
	port      string
	recorder  *handshake.Recorder
	recent    *handshake.Recent
	visits    *visits
	log       *slog.Logger
	tickets   [32]byte
	story     func(*handshake.Event) string

	mu      sync.Mutex
	asked   map[string]*Endpoint // of numbered, by host, as far as somebody has asked for them
	chains  map[*Endpoint]*chains
	open    map[net.Conn]bool
	browser map[*Endpoint]Result // of the page's own test
	current *Endpoint            // for clients that send no name; nil: by address
	work    sync.WaitGroup
}

// Open listens, and makes the root.
func Open(o Options) (*Lab, error) {
	l := &Lab{
		endpoints: Endpoints(), byHost: map[string]*Endpoint{}, visits: newVisits(), recent: handshake.NewRecent(maxVisits), log: o.Log,
		asked: map[string]*Endpoint{}, chains: map[*Endpoint]*chains{}, browser: map[*Endpoint]Result{}, open: map[net.Conn]bool{}, story: o.Story,
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}

	var err error
	if o.Storage != "" {
		l.authority, err = pki.Open(o.Storage)
	} else {
		l.authority, err = pki.New()
	}
	if err != nil {
		return nil, err
	}
	if err := l.listen(o.Listen); err != nil {
		return nil, err
	}
	for _, e := range l.endpoints {
		if e.Name == addressName {
			e.Host = l.Address()
		}
		l.byHost[e.Hostname()] = e
	}
	l.recorder = handshake.NewRecorder(handshake.Options{Log: l.log, Sinks: append([]handshake.Sink{l.visits, l.recent}, o.Sinks...)})
	return l, nil
}

// anyPort is how often a port that the kernel has chosen is given up because another address has it in use.
const anyPort = 10

// listen opens every address with the port of the first, and the revocation server.
func (l *Lab) listen(addresses []string) error {
	err := l.tryListen(addresses)
	for range anyPort {
		if _, port, _ := net.SplitHostPort(addresses[0]); err == nil || port != "0" {
			break
		}
		err = l.tryListen(addresses)
	}
	return err
}

func (l *Lab) tryListen(addresses []string) (err error) {
	defer func() {
		if err != nil {
			l.closeListeners()
			l.listeners = nil
		}
	}()

	for i, address := range addresses {
		if host, port, _ := net.SplitHostPort(address); i > 0 && port == "0" {
			address = net.JoinHostPort(host, l.port)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		l.listeners = append(l.listeners, listener)
		l.port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}

	// Revocation servers speak plain HTTP (RFC 6960 appendix A), so this cannot be the same port.
	l.status, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.authority.Serve("http://" + l.status.Addr().String())
	l.authority.Listens(l.addresses())
	return nil
}

func (l *Lab) closeListeners() {
	for _, listener := range l.listeners {
		listener.Close()
	}
	if l.status != nil {
		l.status.Close()
	}
}

// Port is the one of every endpoint.
func (l *Lab) Port() string { return l.port }

// Address is what the names of the endpoints must lead to.
func (l *Lab) Address() string {
	ip := l.listeners[0].Addr().(*net.TCPAddr).IP
	if ip.IsUnspecified() {
		// All addresses of the machine, this one among them.
		return addressHost
	}
	return ip.String()
}

// addresses are those that the lab listens on; all of the loopback's if it listens on every one.
func (l *Lab) addresses() (all []net.IP) {
	for _, listener := range l.listeners {
		ip := listener.Addr().(*net.TCPAddr).IP
		if ip.IsUnspecified() {
			return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		}
		all = append(all, ip)
	}
	return all
}

// Public reports whether other machines can reach the lab.
func (l *Lab) Public() bool {
	return slices.ContainsFunc(l.listeners, func(listener net.Listener) bool { return !listener.Addr().(*net.TCPAddr).IP.IsLoopback() })
}

// Elsewhere reports whether names below localhost, as most programs and hosts files know them, do not lead to the lab.
func (l *Lab) Elsewhere() bool { return l.Address() != addressHost }

// Root is the lab's root, which a client that is checked must trust.
func (l *Lab) Root() []byte { return l.authority.Root.PEM() }

// Endpoints are all that the lab serves.
func (l *Lab) Endpoints() []*Endpoint { return l.endpoints }

// URL is where an endpoint is.
func (l *Lab) URL(e *Endpoint) string {
	return "https://" + net.JoinHostPort(e.Hostname(), l.port) + "/"
}

// PageURL is where the page is that lists all endpoints.
func (l *Lab) PageURL() string { return "https://" + net.JoinHostPort(Domain, l.port) + "/" }

// Serve serves until the context ends. It is called once, and closes the lab.
func (l *Lab) Serve(ctx context.Context) error {
	failed := make(chan error, len(l.listeners)+1)
	for _, listener := range l.listeners {
		l.work.Go(func() { failed <- l.accept(ctx, listener) })
	}
	var datagrams []*packets
	for _, listener := range l.listeners {
		p, err := l.openQUIC(ctx, listener.Addr().String())
		if err != nil {
			// Somebody else may have that port; most clients speak TCP alone.
			l.log.Warn("the lab does not serve QUIC", "error", err)
			continue
		}
		datagrams = append(datagrams, p)
		l.work.Go(func() { p.serve(ctx) })
	}
	server := &http.Server{Handler: l.authority.Handler(), ReadHeaderTimeout: handshakeTimeout, ErrorLog: slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)}
	l.work.Go(func() { failed <- server.Serve(l.status) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	_ = server.Close()
	l.closeListeners()
	for _, p := range datagrams {
		p.close()
	}
	l.mu.Lock()
	for conn := range l.open {
		conn.Close()
	}
	l.mu.Unlock()
	l.work.Wait()
	l.recorder.Close()
	return err
}

func (l *Lab) accept(ctx context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accepting connections: %w", err)
		}
		if !l.keep(conn) {
			// A crowd cannot be what anybody wants to test here.
			conn.Close()
			continue
		}
		l.work.Go(func() {
			defer l.forget(conn)
			l.serve(ctx, conn)
		})
	}
}

// maxConnections may be open at once.
const maxConnections = 1000

func (l *Lab) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxConnections {
		return false
	}
	l.open[conn] = true
	return true
}

func (l *Lab) forget(conn net.Conn) {
	conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// chains are the certificates of an endpoint, each made when the first client wants it.
type chains struct {
	mu   sync.Mutex
	made []*tls.Certificate
}

func (l *Lab) chainsOf(e *Endpoint) *chains {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.chains[e]
	if c == nil {
		c = &chains{made: make([]*tls.Certificate, len(e.makers()))}
		l.chains[e] = c
	}
	return c
}

// endpoint is the one with a host name; nil: there is none.
func (l *Lab) endpoint(host string) *Endpoint {
	if e := l.byHost[host]; e != nil {
		return e
	}
	name, ok := strings.CutSuffix(host, "."+Domain)
	if !ok {
		return nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.asked[host]
	if e == nil {
		if e = numbered(name); e != nil {
			l.asked[host] = e
		}
	}
	return e
}

// makers are the functions that make an endpoint's certificates, in the order in which they are tried.
func (e *Endpoint) makers() []func(*pki.Maker) *tls.Certificate {
	if len(e.chains) > 0 {
		return e.chains
	}
	return []func(*pki.Maker) *tls.Certificate{leaf(nil), rsaLeaf(2048, nil)}
}

// certificate is the first of the endpoint's that the client can use, else the first.
func (l *Lab) certificate(e *Endpoint, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := l.chainsOf(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, makeChain := range e.makers() {
		if c.made[i] == nil {
			m := l.authority.Maker(e.Hostname())
			made := makeChain(m)
			if m.Err() != nil {
				return nil, m.Err()
			}
			c.made[i] = made
		}
		if len(c.made) == 1 || hello == nil || hello.SupportsCertificate(c.made[i]) == nil {
			return c.made[i], nil
		}
	}
	return c.made[0], nil
}

// handshakeTimeout is long enough for clients on a busy machine.
const handshakeTimeout = 30 * time.Second
