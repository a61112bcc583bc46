package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// workload measures one thing of a running server.
type workload struct {
	name, title, unit string
	setup             string // what the proxies are for, as in setups.go; "": HTTP/1.1 in plaintext to one target
	run               func(*bench, *process) (float64, error)
}

var allWorkloads = []workload{
	{"h1-1k", "HTTP/1.1 keep-alive, GET 1 KiB, 64 connections", "µs", "", wrk("/1k", 64, "")},
	{"h1-16k", "HTTP/1.1 keep-alive, GET 16 KiB, 64 connections", "µs", "", wrk("/16k", 64, "")},
	{"h2-1k", "HTTP/2, GET 1 KiB, 10 connections × 10 streams", "µs", "", h2load("/1k")},
	{"handshake", "new connection, full handshake, X25519", "µs", "", handshakes(false)},
	{"resumed", "new connection, resumed", "µs", "", handshakes(true)},
	{"download", "download 1 MiB", "µs", "", wrk("/1m", 8, "")},
	{"upload", "upload 1 MiB", "µs", "", wrk("/up", 8, `wrk.method = "POST"; wrk.body = string.rep("padlock\n", 131072)`)},
	{"idle", "memory per idle TLS keep-alive connection (5,000), after 4 s", "KiB", "", fresh(holdIdle)},
	{"start", "start to first answered request", "ms", "", timeStart},
	{"size", "size of the program's file", "MB", "", programSize},
	{"p50", "median latency at 2,000 requests/s, GET 1 KiB", "µs", "", latency(0.5)},
	{"p99", "99th percentile at 2,000 requests/s, GET 1 KiB", "µs", "", latency(0.99)},
	{"tls-1k", "TLS to the target too, HTTP/1.1, GET 1 KiB, 64 connections", "µs", toTLS, wrk("/1k", 64, "")},
	{"h2c-1k", "h2c to the target, HTTP/2, GET 1 KiB, 10 × 10 streams", "µs", toH2C, h2load("/1k")},
	{"grpc", "gRPC, unary calls of 100 bytes, 10 × 10 streams", "µs", toGRPC, grpcCalls},
	{"websocket", "WebSocket, messages of 64 bytes both ways, 32 connections", "µs", toWebSocket, exchanges(openWebSocket, 64)},
	{"ws-memory", "memory per active WebSocket (500)", "KiB", toWebSocket, fresh(holdWebSockets)},
	{"tcp-1k", "TCP site, 1 KiB both ways, 32 connections", "µs", toTCP, exchanges(openTCP, 1<<10)},
	{"tcp-bulk", "TCP site, 1 MiB both ways, 4 connections", "µs", toTCP, exchangesOf(4, openTCP, 1<<20)},
	{"sites", "one of 10,000 sites, HTTP/1.1, GET 1 KiB", "µs", manySites, wrk("/1k", 64, "")},
	{"rules", "behind 1,000 rules for paths, HTTP/1.1, GET 1 KiB", "µs", manyRules, wrk("/1k", 64, "")},
	{"file-1k", "a file of 1 KiB, HTTP/1.1, 64 connections", "µs", ownFiles, wrk("/1k", 64, "")},
	{"file-1m", "a file of 1 MiB, HTTP/1.1, 8 connections", "µs", ownFiles, wrk("/1m", 8, "")},
	{"gzip", "HTML of 64 KiB compressed with gzip, HTTP/1.1, 8 connections", "µs", compressed, coded("gzip")},
	{"gzip-size", "size of that", "KiB", compressed, codedSize("gzip")},
	{"zstd", "the same with zstd", "µs", compressed, coded("zstd")},
	{"zstd-size", "size of that", "KiB", compressed, codedSize("zstd")},
	{"br", "the same with Brotli", "µs", compressed, coded("br")},
	{"br-size", "size of that", "KiB", compressed, codedSize("br")},
	{"limit", "a rate limit by address that nobody reaches, HTTP/1.1, GET 1 KiB, 64 connections", "µs", limited, wrk("/1k", 64, "")},
}

// per is the proxy's CPU time, in microseconds, for each of what work counts.
func per(p *process, work func() (int, error)) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}

	n, err := work()
	if err != nil {
		return 0, err
	}

	after, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New("nothing was answered")
	}

	return float64((after - before).Microseconds()) / float64(n), nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)|Socket errors: connect [1-9]|Socket errors: .*(read|write|timeout) [1-9]`)
	h2Done      = regexp.MustCompile(`(\d+) succeeded, (\d+) failed`)
)

func wrk(path string, connections int, script string) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		args := []string{"-c", otherCore, "wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", int(b.length.Seconds()))}
		if script != "" {
			file := filepath.Join(b.dir, "script.lua")
			if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
				return 0, err
			}
			args = append(args, "-s", file)
		}

		return per(p, func() (int, error) {
			out, err := exec.Command("taskset", append(args, "https://localhost:"+port(p.address)+path)...).CombinedOutput()
			if err != nil {
				return 0, fmt.Errorf("wrk: %w\n%s", err, out)
			}
			if wrkErrors.Match(out) {
				return 0, fmt.Errorf("wrk met errors:\n%s", out)
			}
			return number(wrkRequests, out)
		})
	}
}

// coded asks for a page in a content coding.
func coded(coding string) func(*bench, *process) (float64, error) {
	ask := wrk("/page.html", 8, `wrk.headers["Accept-Encoding"] = "`+coding+`"`)
	return func(b *bench, p *process) (float64, error) {
		// A server that does not have the coding would look fast.
		if _, err := codedSize(coding)(b, p); err != nil {
			return 0, err
		}
		return ask(b, p)
	}
}

// codedSize is the size of a page in a content coding, in KiB.
func codedSize(coding string) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: b.tls(), DisableKeepAlives: true}}
		request, err := http.NewRequest(http.MethodGet, "https://"+p.address+"/page.html", nil)
		if err != nil {
			return 0, err
		}
		request.Host = "localhost:" + port(p.address)
		request.Header.Set("Accept-Encoding", coding)
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		size, err := io.Copy(io.Discard, response.Body)
		if err != nil {
			return 0, err
		}

		if response.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("status %d", response.StatusCode)
		}
		if response.Header.Get("Content-Encoding") != coding {
			return 0, errNoSuchSetup
		}
		return float64(size) / 1024, nil
	}
}

func h2load(path string) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		return per(p, func() (int, error) {
			out, err := exec.Command("taskset", "-c", otherCore, "h2load", "-c", "10", "-m", "10", "-D", strconv.Itoa(int(b.length.Seconds())),
				"https://localhost:"+port(p.address)+path).CombinedOutput()
			if err != nil {
				return 0, fmt.Errorf("h2load: %w\n%s", err, out)
			}
			if found := h2Done.FindSubmatch(out); found == nil || string(found[2]) != "0" {
				return 0, fmt.Errorf("h2load met errors:\n%s", out)
			}
			return number(h2Done, out)
		})
	}
}

func number(pattern *regexp.Regexp, text []byte) (int, error) {
	found := pattern.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no figure in:\n%s", text)
	}
	return strconv.Atoi(string(found[1]))
}

func (b *bench) tls() *tls.Config {
	return &tls.Config{RootCAs: b.pair.roots, ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"http/1.1"}}
}

// get asks for a file over a connection that stays open.
func get(c net.Conn, r *bufio.Reader, path, extra string) error {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n"+extra+"\r\n"); err != nil {
		return err
	}

	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}

	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}

	return nil
}

// handshakes makes connections from four clients, with a request each.
func handshakes(resumed bool) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		return per(p, func() (int, error) {
			until := time.Now().Add(b.length)
			var count atomic.Int64
			failed := make(chan error, 4)
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					config := b.tls()
					if resumed {
						config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
					}

					// The first connection of a client has no session to resume.
					for first := true; time.Now().Before(until); first = false {
						if err := connectOnce(p.address, config, resumed && !first); err != nil {
							failed <- err
							return
						}
						count.Add(1)
					}
				})
			}

			clients.Wait()

			select {
			case err := <-failed:
				return 0, err
			default:
				return int(count.Load()), nil
			}
		})
	}
}

func connectOnce(address string, config *tls.Config, resumed bool) error {
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.ConnectionState().DidResume != resumed {
		return fmt.Errorf("resumed: %v", !resumed)
	}
	return get(c, bufio.NewReader(c), "/1k", "Connection: close\r\n")
}

const idleConnections = 5000

// fresh runs a measurement on a server of its own.
func fresh(measure func(*bench, *process) (float64, error)) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		own, err := b.start(p.name, p.setup)
		if err != nil {
			return 0, err
		}
		defer own.stop()
		return measure(b, own)
	}
}

// holdIdle is how much each of many connections adds that have served a request and do nothing.
func holdIdle(b *bench, p *process) (float64, error) {
	// The first connection brings in what all others share.
	if err := connectOnce(p.address, b.tls(), false); err != nil {
		return 0, err
	}

	time.Sleep(2 * time.Second)
	before, err := p.memory()
	if err != nil {
		return 0, err
	}

	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()

	for range idleConnections {
		c, err := tls.Dial("tcp", p.address, b.tls())
		if err != nil {
			return 0, err
		}
		held = append(held, c)
		if err := get(c, bufio.NewReaderSize(c, 512), "/1k", ""); err != nil {
			return 0, err
		}
	}

	// Padlock parks idle connections after one second.
	time.Sleep(4 * time.Second)
	after, err := p.memory()
	if err != nil {
		return 0, err
	}

	// Connections that the server has closed would take no memory.
	for _, c := range held[:10] {
		if err := get(c, bufio.NewReaderSize(c, 512), "/1k", ""); err != nil {
			return 0, fmt.Errorf("an idle connection has died: %w", err)
		}
	}

	return float64(after-before) / idleConnections / 1024, nil
}

// timeStart starts a further server, and asks until it answers.
func timeStart(b *bench, p *process) (float64, error) {
	began := time.Now()
	own, err := b.start(p.name, p.setup)
	if err != nil {
		return 0, err
	}
	defer own.stop()

	for range 1000 {
		if err = connectOnce(own.address, b.tls(), false); err == nil {
			return float64(time.Since(began).Microseconds()) / 1000, nil
		}
		time.Sleep(time.Millisecond)
	}

	return 0, err
}

// latency asks at a fixed rate from 32 connections. A request that has to wait for its turn has waited: its time
// counts from when it was due.
func latency(quantile float64) func(*bench, *process) (float64, error) {
	return func(b *bench, p *process) (float64, error) {
		const clients, rate = 32, 2000
		every := time.Second * clients / rate
		var mu sync.Mutex
		var all []time.Duration
		failed := make(chan error, clients)
		var running sync.WaitGroup
		began := time.Now().Add(200 * time.Millisecond)
		for i := range clients {
			running.Go(func() {
				c, err := tls.Dial("tcp", p.address, b.tls())
				if err != nil {
					failed <- err
					return
				}
				defer c.Close()
				r := bufio.NewReader(c)
				var mine []time.Duration
				for due := began.Add(time.Duration(i) * every / clients); due.Before(began.Add(b.length)); due = due.Add(every) {
					time.Sleep(time.Until(due))
					if err := get(c, r, "/1k", ""); err != nil {
						failed <- err
						return
					}
					mine = append(mine, time.Since(due))
				}

				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
			})
		}

		running.Wait()

		select {
		case err := <-failed:
			return 0, err
		default:
		}

		slices.Sort(all)
		return float64(all[int(float64(len(all)-1)*quantile)].Microseconds()), nil
	}
}

// insert replaces what stands between the markers of a file.
func insert(file, report string) error {
	const begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: the markers are missing", file)
	}
	return os.WriteFile(file, []byte(head+begin+report+"\n"+end+tail), 0o644)
}
