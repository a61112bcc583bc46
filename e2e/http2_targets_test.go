//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	bigendian "encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	grpcstatus "google.golang.org/grpc/status"

	"padlock/internal/servicetest"
)

// nodeHTTP2 is a server by HTTP/2 alone, with TLS if it has a certificate: it sends content back, tells how many connections it has had,
// and takes WebSockets (RFC 8441), of which it sends every byte back.
const nodeHTTP2 = `
const http2 = require("http2"), fs = require("fs");
const settings = {enableConnectProtocol: true, maxConcurrentStreams: 100};
const [cert, key] = process.argv.slice(2);
const server = cert ? http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key), settings}) : http2.createServer({settings});
let sessions = 0;
server.on("session", () => sessions++);
server.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  if (headers[":protocol"] === "websocket") {
    stream.respond({":status": 200});
    stream.pipe(stream);
    return;
  }
  if (headers[":method"] === "CONNECT") { stream.respond({":status": 501}, {endStream: true}); return; }
  stream.respond({":status": 200, "x-proto": "HTTP/2.0", "x-sessions": sessions, "x-cookie": headers["cookie"] || "", "set-cookie": ["a=1", "b=2"]}, {waitForTrailers: true});
  stream.on("wantTrailers", () => stream.sendTrailers({"x-sum": "end"}));
  stream.pipe(stream);
});
server.listen(0, "127.0.0.1", function () { console.log(this.address().port); });
`

// HTTP/2 to the servers that people have behind a proxy, with TLS and without: nginx, HAProxy, Caddy, Node.js and grpc-go.
func TestHTTP2ToRealServers(t *testing.T) {
	besides(t)
	secure := httptest.NewTLSServer(kinds(t)) // its certificate is everybody's here
	defer secure.Close()
	files := t.TempDir()
	if err := os.Chmod(files, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, keyFile := filepath.Join(files, "cert.pem"), filepath.Join(files, "key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(secure.TLS.Certificates[0].PrivateKey)
	must(t, err)
	pair := [][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
	both := filepath.Join(files, "both.pem")
	must(t, os.WriteFile(cert, pair[0], 0o644))
	must(t, os.WriteFile(keyFile, pair[1], 0o644))
	must(t, os.WriteFile(both, bytes.Join(pair, nil), 0o644))
	must(t, os.WriteFile(filepath.Join(files, "server.js"), []byte(nodeHTTP2), 0o644))

	sockets := httptest.NewServer(kinds(t))
	defer sockets.Close()
	socketsAt, _ := url.Parse(sockets.URL)
	var ports [6]int
	for i := range ports {
		ports[i] = servicetest.FreePort(t)
	}
	conf := write(t, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path body; keepalive_requests 7;
  server { listen 127.0.0.1:%d http2; location / { add_header X-Proto $server_protocol; return 200 "by nginx"; } }
  server { listen 127.0.0.1:%d ssl http2; ssl_certificate %s; ssl_certificate_key %s; location / { add_header X-Proto $server_protocol; return 200 "by nginx"; } }
}
`, ports[0], ports[1], cert, keyFile))
	launch(t, nil, need(t, "nginx"), "-p", filepath.Dir(conf), "-c", conf, "-e", "stderr")
	launch(t, nil, need(t, "haproxy"), "-db", "-f", write(t, "haproxy.cfg", fmt.Sprintf(`defaults
  mode http
  timeout connect 20s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend f
  bind 127.0.0.1:%d proto h2
  bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1
  http-request return status 200 content-type text/plain string "by HAProxy" hdr x-proto HTTP/%%[req.ver] unless { path_end /chat }
  default_backend sockets
backend sockets
  server s %s
`, ports[2], ports[3], both, socketsAt.Host)))
	own := t.TempDir()
	launch(t, nil, need(t, "env"), "XDG_CONFIG_HOME="+own, "XDG_DATA_HOME="+own, need(t, "caddy"), "run", "--adapter", "caddyfile", "--config", write(t, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	skip_install_trust
	servers {
		protocols h1 h2 h2c
	}
}
http://:%d {
	header X-Proto {http.request.proto}
	respond "by Caddy"
}
https://127.0.0.1:%d, https://example.com:%d {
	tls %s %s
	header X-Proto {http.request.proto}
	respond "by Caddy"
}
`, ports[4], ports[5], ports[5], cert, keyFile)))
	nodes := [2]string{}
	for i, args := range [][]string{{}, {cert, keyFile}} {
		first := make(chan string, 1)
		launch(t, first, append([]string{need(t, "node"), filepath.Join(files, "server.js")}, args...)...)
		select {
		case port := <-first:
			nodes[i] = "127.0.0.1:" + port
		case <-time.After(60 * time.Second):
			t.Fatal("node did not start")
		}
	}

	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&secure.TLS.Certificates[0])))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	go func() { _ = server.Serve(rpc) }()
	defer server.Stop()

	places := map[string]string{
		"nginx-h2c": "h2c://" + local(ports[0]), "nginx": "https://" + local(ports[1]), "haproxy-h2c": "h2c://" + local(ports[2]), "haproxy": "https://" + local(ports[3]),
		"caddy-h2c": "h2c://" + local(ports[4]), "caddy": "https://" + local(ports[5]), "node-h2c": "h2c://" + nodes[0], "node": "https://" + nodes[1],
	}
	var routes strings.Builder
	for name, to := range places {
		fmt.Fprintf(&routes, "      - {path: /%s/, strip_prefix: true, to: %q, ca: %q, server_name: example.com, host: example.com}\n", name, to, cert)
		for waited := 0; waited < 200 && !strings.HasPrefix(name, "node"); waited++ {
			conn, err := net.Dial("tcp", to[strings.Index(to, "://")+3:])
			if err == nil {
				conn.Close()
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	text := fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: failures}
access_log: {format: "off"}
sites:
  - hosts: [localhost, 127.0.0.1]
    routes:
%[1]s      - {to: "https://%[2]s", ca: %[3]q, server_name: example.com, grpc_web: true}
      - {path: /limited/, to: "https://%[2]s", ca: %[3]q, server_name: example.com, rate_limit: {requests: 1, per: 1h}}
      - {path: /denied/, to: "https://%[2]s", ca: %[3]q, server_name: example.com, deny: [127.0.0.0/8]}
`, routes.String(), rpc.Addr(), cert)
	p := &padlock{home: t.TempDir()}
	p.storage = filepath.Join(p.home, ".local", "share", "padlock")
	p.run(t, program(plain, p.home, "run", "--config", write(t, "padlock.yaml", text)))
	u, err := url.Parse(p.url)
	must(t, err)
	address, roots := "127.0.0.1:"+u.Port(), p.roots(t)
	content := strings.Repeat("a mebibyte ", 1<<20/11)
	for name, f := range fronts(t, address, roots) {
		for place := range places {
			base := "https://" + address + "/" + place
			t.Run(name+" "+place, func(t *testing.T) {
				// More requests than nginx takes on a connection.
				for range 20 {
					if got := httpGet(t, f.client, base+"/x"); got != "HTTP/2.0" {
						t.Fatalf("it was asked over %q", got)
					}
				}
				if !strings.HasPrefix(place, "node") {
					return
				}
				response, err := f.client.Post(base+"/", "text/plain", struct{ io.Reader }{strings.NewReader(content)})
				must(t, err)
				defer response.Body.Close()
				back, err := io.ReadAll(response.Body)
				if err != nil || string(back) != content || response.Trailer.Get("X-Sum") != "end" || len(response.Header.Values("Set-Cookie")) != 2 {
					t.Errorf("%d bytes, %v, %v, %v", len(back), err, response.Trailer, response.Header)
				}
				var asking sync.WaitGroup
				for range 50 {
					asking.Go(func() { httpGet(t, f.client, base+"/") })
				}
				asking.Wait()
				response, err = f.client.Get(base + "/")
				must(t, err)
				response.Body.Close()
				// One, and on a busy machine another while a PING waits for its answer.
				if n := response.Header.Get("X-Sessions"); len(n) != 1 || n > "4" {
					t.Errorf("%s connections", n)
				}
			})
		}
		for _, place := range []string{"haproxy-h2c", "haproxy", "node-h2c", "node"} {
			t.Run(name+" WebSocket "+place, func(t *testing.T) {
				conn, err := f.socket(t, "/"+place+"/chat")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if strings.HasPrefix(place, "node") {
					mirrored(t, conn)
					return
				}
				chat(t, conn)
			})
		}
	}
	for name, f := range fronts(t, address, roots) {
		t.Run(name+" gRPC-Web", func(t *testing.T) { webCalls(t, f.client, "https://"+address) })
	}
	t.Run("gRPC", func(t *testing.T) { calls(t, address, roots) })
	t.Run("padlock's errors by gRPC", func(t *testing.T) { rpcErrors(t, u.Port(), p.root(t)) })
	t.Run("gRPC's deadline", func(t *testing.T) { deadlines(t, address, roots) })
	for _, name := range []string{"h2", "h3"} {
		t.Run(name+" gRPC by hand", func(t *testing.T) { byHand(t, fronts(t, address, roots)[name].client, "https://"+address) })
	}
}

// A client of gRPC that is not Go's reads padlock's errors as those of its server: by their status, their message and when to come again.
func rpcErrors(t *testing.T, port, root string) {
	const script = `
import sys, grpc
credentials = grpc.ssl_channel_credentials(open(sys.argv[1], "rb").read())
with grpc.secure_channel("127.0.0.1:" + sys.argv[2], credentials, [("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost")]) as channel:
    for method in ["/denied/M", "/limited/M", "/limited/M"]:
        try:
            channel.unary_unary(method)(b"", timeout=30)
        except grpc.RpcError as error:
            print(error.code().name, error.details(), "retry-after" in dict(error.trailing_metadata()))
`
	out, err := exec.Command(need(t, "/usr/bin/python3"), "-c", script, root, port).Output()
	must(t, err)
	lines := strings.Split(string(out), "\n")
	if len(lines) < 4 || !strings.HasPrefix(lines[0], "PERMISSION_DENIED 403 Forbidden: ") || !strings.HasSuffix(lines[0], ") False") ||
		!strings.HasPrefix(lines[2], "UNAVAILABLE 429 Too Many Requests: ") || !strings.HasSuffix(lines[2], ") True") {
		t.Errorf("the client says:\n%s", out)
	}
}

// httpGet is the protocol by which a target was asked.
func httpGet(t *testing.T, client *http.Client, url string) string {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	request.Header.Set("Cookie", "a=1; b=2")
	response, err := client.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 {
		t.Error(response.Status, err)
	}
	if cookie, ok := response.Header["X-Cookie"]; ok && cookie[0] != "a=1; b=2" {
		t.Errorf("the target got the cookies %q", cookie[0])
	}
	return response.Header.Get("X-Proto")
}

// mirrored sends frames, which come back as they are.
func mirrored(t *testing.T, conn io.ReadWriter) {
	frame := append([]byte{0x82, 0x80 | 126, 0x4e, 0x20, 0, 0, 0, 0}, bytes.Repeat([]byte{'x'}, 20_000)...)
	for range 3 {
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(frame))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, frame) {
			t.Fatal(err)
		}
	}
}

// webCalls are calls of gRPC-Web, binary and text: of a service that is there, and of one that is not.
func webCalls(t *testing.T, client *http.Client, base string) {
	frame := func(flag byte, text string) string {
		return string(bigendian.BigEndian.AppendUint32([]byte{flag}, uint32(len(text)))) + text
	}
	for _, kind := range []string{"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text", "application/grpc-web-text+proto"} {
		text := strings.Contains(kind, "-text")
		for _, c := range []struct{ ask, message, status string }{{frame(0, ""), frame(0, "\x08\x01"), "0"}, {frame(0, "\x0a\x06nobody"), "", "5"}} {
			content := c.ask
			if text {
				// In two pieces, each with its padding.
				content = base64.StdEncoding.EncodeToString([]byte(content[:1])) + base64.StdEncoding.EncodeToString([]byte(content[1:]))
			}
			request, err := http.NewRequest("POST", base+"/grpc.health.v1.Health/Check", strings.NewReader(content))
			must(t, err)
			request.Header.Set("Content-Type", kind)
			request.Header.Set("X-Grpc-Web", "1")
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(response.Body)
			response.Body.Close()
			must(t, err)
			status := response.Header.Get("Grpc-Status")
			for text && len(got) > 0 && status == "" {
				var whole []byte
				for at := 0; at < len(got); at += 4 {
					piece, err := base64.StdEncoding.DecodeString(string(got[at : at+4]))
					must(t, err)
					whole = append(whole, piece...)
				}
				got = whole
				break
			}
			message, trailers, _ := strings.Cut(string(got), "\x80")
			if status == "" && len(trailers) > 4 {
				for line := range strings.SplitSeq(trailers[4:], "\r\n") {
					if value, ok := strings.CutPrefix(line, "grpc-status: "); ok {
						status = value
					}
				}
			}
			if response.StatusCode != 200 || message != c.message || status != c.status || !strings.HasPrefix(response.Header.Get("Content-Type"), kind) || len(response.Trailer) > 0 {
				t.Errorf("%s: %s %q, status %q, %v", kind, response.Status, got, status, response.Header)
			}
		}
	}
}

// deadlines are gRPC's: a stream whose deadline passes ends with that, and its connection stays.
func deadlines(t *testing.T, address string, roots *x509.CertPool) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})))
	must(t, err)
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		must(t, err)
		first, err := watch.Recv()
		if err == nil {
			_, err = watch.Recv()
		}
		cancel()
		if grpcstatus.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v, %v", first, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}
