//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"padlock/internal/servicetest"
)

// kinds is an application that does everything that is forwarded: uploads, events, WebSockets.
func kinds(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select { // the next comes when the last was seen
			case <-ticks:
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Second):
				t.Error("an event was not passed on at once")
				return
			}
		}
	})
	mux.HandleFunc("/chat", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	return mux
}

// ticks lets the next event out; events are asked for one kind at a time.
var ticks = make(chan struct{})

// front is how a client speaks to padlock.
type front struct {
	client *http.Client
	// socket opens a WebSocket; what is written and read are frames.
	socket func(t *testing.T, path string) (io.ReadWriteCloser, error)
}

// Everything passes over every front to every kind of backend that can have it.
func TestEveryKindOverEveryFrontToEveryBackend(t *testing.T) {
	works(t)
	app := kinds(t)
	one := httptest.NewServer(app)
	defer one.Close()
	secure := httptest.NewTLSServer(app)
	defer secure.Close()
	two := httptest.NewServer(h2c.NewHandler(app, &http2.Server{}))
	defer two.Close()
	dir, err := os.MkdirTemp("", "padlock")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	unix, err := net.Listen("unix", filepath.Join(dir, "app.sock"))
	if err != nil {
		t.Fatal(err)
	}
	local := &httptest.Server{Listener: unix, Config: &http.Server{Handler: app}}
	local.Start()
	defer local.Close()
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	go func() { _ = server.Serve(rpc) }()
	defer server.Stop()
	ca := filepath.Join(dir, "app.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	host := func(s *httptest.Server) string { u, _ := url.Parse(s.URL); return u.Host }
	text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: failures}
access_log: {format: "off"}
sites:
  - hosts: [localhost, 127.0.0.1]
    routes:
      - {path: /http/, strip_prefix: true, to: "http://%s"}
      - {path: /https/, strip_prefix: true, to: "https://%s", ca: %s, server_name: example.com}
      - {path: /h2c/, strip_prefix: true, to: "h2c://%s"}
      - {path: /unix/, strip_prefix: true, to: "unix:%s/app.sock"}
      - {to: "h2c://%s"}
`, host(one), host(secure), ca, host(two), dir, rpc.Addr())
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	c := program(plain, p.home, "run", "--config", write(t, "padlock.yaml", text))
	p.run(t, c)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + u.Port()
	roots := p.roots(t)
	for name, f := range fronts(t, address, roots) {
		for _, back := range []string{"http", "https", "h2c", "unix"} {
			base := "https://" + address + "/" + back
			t.Run(name+" upload "+back, func(t *testing.T) { upload(t, f.client, base+"/upload") })
			t.Run(name+" events "+back, func(t *testing.T) { events(t, f.client, base+"/events") })
			t.Run(name+" websocket "+back, func(t *testing.T) {
				conn, err := f.socket(t, "/"+back+"/chat")
				if back == "h2c" { // padlock asks backends for WebSockets by HTTP/1.1 only, and says so
					if err == nil {
						t.Error("a WebSocket to h2c")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				chat(t, conn)
			})
		}
	}
	t.Run("h2 gRPC", func(t *testing.T) { calls(t, address, roots) })
	for _, name := range []string{"h2", "h3"} {
		t.Run(name+" gRPC by hand", func(t *testing.T) { byHand(t, fronts(t, address, roots)[name].client, "https://"+address) })
	}
}

func fronts(t *testing.T, address string, roots *x509.CertPool) map[string]front {
	t.Helper()
	config := func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{protocol}}
	}
	one := &http.Transport{TLSClientConfig: config("http/1.1")}
	two := &http2.Transport{TLSClientConfig: config("h2")}
	three := &http3.Transport{TLSClientConfig: config(http3.NextProtoH3), QUICConfig: servicetest.Patient(nil)}
	t.Cleanup(func() { one.CloseIdleConnections(); two.CloseIdleConnections(); three.Close() })
	client := func(rt http.RoundTripper) *http.Client { return &http.Client{Transport: rt, Timeout: 2 * time.Minute} }
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	return map[string]front{
		"h1": {client(one), func(t *testing.T, path string) (io.ReadWriteCloser, error) {
			conn, err := tls.Dial("tcp", address, config("http/1.1"))
			if err != nil {
				return nil, err
			}
			_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
			r := bufio.NewReader(conn)
			response, err := http.ReadResponse(r, nil)
			if err != nil {
				return nil, err
			}
			if response.StatusCode != 101 {
				conn.Close()
				return nil, errors.New(response.Status)
			}
			return stream{r, conn, conn.Close}, nil
		}},
		"h2": {client(two), func(t *testing.T, path string) (io.ReadWriteCloser, error) {
			reader, writer := io.Pipe()
			request, _ := http.NewRequest("CONNECT", "https://"+address+path, reader)
			request.Host = "localhost"
			request.Header = http.Header{":protocol": {"websocket"}, "Sec-WebSocket-Version": {"13"}}
			response, err := two.RoundTrip(request)
			if err != nil {
				return nil, err
			}
			if response.StatusCode != 200 {
				return nil, errors.New(response.Status)
			}
			return stream{response.Body, writer, writer.Close}, nil
		}},
		"h3": {client(three), func(t *testing.T, path string) (io.ReadWriteCloser, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			conn, err := quic.DialAddr(ctx, address, config(http3.NextProtoH3), servicetest.Patient(nil))
			if err != nil {
				return nil, err
			}
			over := (&http3.Transport{}).NewClientConn(conn)
			s, err := over.OpenRequestStream(ctx)
			if err != nil {
				return nil, err
			}
			request, _ := http.NewRequest("CONNECT", "https://"+address+path, nil)
			request.Host, request.Proto = "localhost", "websocket"
			request.Header = http.Header{"Sec-WebSocket-Version": {"13"}}
			if err := s.SendRequestHeader(request); err != nil {
				return nil, err
			}
			response, err := s.ReadResponse()
			if err != nil {
				return nil, err
			}
			if response.StatusCode != 200 {
				return nil, errors.New(response.Status)
			}
			return stream{s, s, s.Close}, nil
		}},
	}
}

// stream is a WebSocket below its frames.
type stream struct {
	io.Reader
	io.Writer
	close func() error
}

func (s stream) Close() error { return s.close() }

func upload(t *testing.T, client *http.Client, url string) {
	size := 8 << 20 // more than any buffer or window on the way holds
	if *long {
		size = 100 << 20
	}
	content := bytes.Repeat([]byte("a hundred mebibytes, "), size/21+1)[:size]
	sum := sha256.Sum256(content)
	response, err := client.Post(url, "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if want := fmt.Sprintf("%d %s <nil>", size, hex.EncodeToString(sum[:])); err != nil || string(got) != want {
		t.Errorf("%s, %v, not %s", got, err, want)
	}
}

func events(t *testing.T, client *http.Client, url string) {
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		for lines.Scan() && lines.Text() == "" {
		}
		if want := fmt.Sprintf("data: %d", i); lines.Text() != want {
			t.Fatalf("%q, not %q: %v", lines.Text(), want, lines.Err())
		}
		ticks <- struct{}{}
	}
}

// chat sends masked frames, small and large, and expects them back (RFC 6455 section 5).
func chat(t *testing.T, conn io.ReadWriter) {
	for _, size := range []int{5, 20_000} {
		head, answer := []byte{0x82, 0x80 | byte(size)}, 2
		if size > 125 {
			head, answer = []byte{0x82, 0x80 | 126, byte(size >> 8), byte(size)}, 4
		}
		payload := bytes.Repeat([]byte{'x'}, size)
		if _, err := conn.Write(append(append(head, 0, 0, 0, 0), payload...)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, answer+size)
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got[answer:], payload) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}

// calls are gRPC's own, unary and streaming both ways.
func calls(t *testing.T, address string, roots *x509.CertPool) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	status, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || status.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("unary: %v, %v", status, err)
	}
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "nobody"}); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("an error in trailers: %v", err)
	}
	both, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		ask := &grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
		if err := both.Send(ask); err != nil {
			t.Fatal(err)
		}
		answer, err := both.Recv()
		if err != nil || len(answer.GetListServicesResponse().GetService()) < 2 {
			t.Fatalf("message %d: %v, %v", i, answer, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// byHand is gRPC's unary call as any client of HTTP could make it (an empty message each way, and a status in trailers).
func byHand(t *testing.T, client *http.Client, base string) {
	request, _ := http.NewRequest("POST", base+"/grpc.health.v1.Health/Check", bytes.NewReader(make([]byte, 5)))
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Equal(body, []byte{0, 0, 0, 0, 2, 8, 1}) || response.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%s %x %v %v", response.Status, body, response.Trailer, err)
	}
}
