package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/terminal"
)

func (p *program) consoleCommand() *cli.Command {
	return &cli.Command{
		Name: "console", Usage: "open the console of the running padlock in a browser: handshakes, requests, traffic, certificates", UsageText: "padlock console [flags]\n\nExamples:\n  padlock console\n  padlock console --admin unix:/run/padlock/admin.sock", OnUsageError: onUsageError,
		Description: "The console is on a socket that only padlock's own user can open. This command opens a port of this machine for it, until you stop the command with " +
			"Ctrl-C, and prints an address with a key that nobody else knows.",
		Flags: []cli.Flag{
			storageFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint (default: the socket in the storage directory, else that of padlock dev)"),
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:0", Usage: "loopback `ADDR` for the browser", EnvVars: []string{"PADLOCK_CONSOLE_LISTEN"}},
		},
		Action: p.console,
	}
}

func (p *program) console(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}

	cfg := config.Default()
	applyStorage(c, cfg)
	p.sayOther(runningPadlock(c, cfg))
	at := config.Admin{Address: c.String("listen")}
	// The address has no TLS, so that the key in it must not leave this machine.
	if at.TCP() == "" || at.Guarded() {
		return usageError{fmt.Errorf("--listen: %q is not a loopback address such as 127.0.0.1:2021", at.Address)}
	}

	// Asked before the address is printed, which would otherwise lead to a page of errors.
	response, err := adminGet(c.Context, cfg, "/healthz")
	if err != nil {
		return err
	}
	response.Body.Close()
	l, err := net.Listen("tcp", at.Address)
	if err != nil {
		return hint.Add(err, "choose another --listen")
	}
	host, key := consoleHost(l.Addr()), rand.Text()
	server := &http.Server{Handler: keyed(host, key, relayTo(cfg)), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(c.Context, func() { _ = server.Close() })
	defer stop()
	terminal.Say(p.stdout, "console at http://%s/?key=%s (interrupt to end)", host, key)
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}

	return nil
}

// relayTo passes requests on to the admin endpoint.
func relayTo(cfg *config.Config) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "localhost"})
			// The name of the request has been checked above. The endpoint itself expects localhost.
			r.Out.Host = "localhost"
			r.Out.Header.Del("Cookie")
			// The endpoint refuses other origins itself.
			if origin := r.In.Header.Get("Origin"); origin == "http://"+r.In.Host {
				r.Out.Header.Set("Origin", "http://localhost")
			}
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return adminDial(ctx, cfg) }},
		// Events must arrive as they happen, and not when a buffer is full.
		FlushInterval: -1,
		// The errors are those of browsers that go away.
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "padlock does not answer: "+err.Error(), http.StatusBadGateway)
		},
	}
}

const keyCookie = "padlock-console"

// consoleHost is a name of the console's own, which browsers take for this machine (RFC 6761 section 6.3). Cookies are
// for a name and all its ports: under an address, or localhost, every other service of this machine would get the
// console's. Nobody else knows this name.
func consoleHost(at net.Addr) string {
	_, port, _ := net.SplitHostPort(at.String())
	return net.JoinHostPort("console-"+strings.ToLower(rand.Text())+".localhost", port)
}

// keyed lets in whoever has the key: from the address that was printed, and then as a cookie. It answers to one host
// and port alone, so that no page that rebinds its name, and none of another service, is taken for the console's.
func keyed(host, key string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The address contains the key, which must not reach other sites in a Referer.
		w.Header().Set("Referrer-Policy", "no-referrer")
		if r.Host != host {
			http.Error(w, "Open the address that padlock console has printed: the console has no other name.", http.StatusForbidden)
			return
		}

		// The redirect takes the key out of the address bar and the history.
		if same(r.URL.Query().Get("key"), key) && r.Method == http.MethodGet {
			http.SetCookie(w, &http.Cookie{Name: keyCookie, Value: key, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}

		if cookie, err := r.Cookie(keyCookie); err != nil || !same(cookie.Value, key) {
			http.Error(w, "Open the address that padlock console has printed: it has the key.", http.StatusForbidden)
			return
		}

		next.ServeHTTP(w, r)
	})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
