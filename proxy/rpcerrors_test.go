package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A client of gRPC reads padlock's errors as it reads its server's: with a status of gRPC, a message, and the time after which it may
// come again. So do pages that speak gRPC-Web. Logs have the status that others would have got.
func TestErrorsReachClientsOfGRPCAsTheirs(t *testing.T) {
	t.Parallel()
	h2c := h2cBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			<-r.Context().Done()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	})
	service := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "state=1")
		if strings.HasPrefix(r.Header.Get("X-Forwarded-Uri"), "/login") {
			http.Redirect(w, r, "https://login.test/", http.StatusFound)
			return
		}
		http.Error(w, "<p>no", http.StatusForbidden)
	})
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	silent := listen(t)
	silent.Close()

	e := startFile(t, `
sites:
  - hosts: [localhost]
    errors: {5xx: %[5]q}
    routes:
      - {path: /fine, to: %[1]q}
      - {path: /limited, to: %[1]q, rate_limit: {requests: 1, per: 1h}}
      - {path: /secured, to: %[2]q, insecure_skip_verify: true, rate_limit: {requests: 1, per: 1h}}
      - {path: /denied, to: %[1]q, deny: [127.0.0.0/8]}
      - {path: /password, to: %[1]q, basic_auth: {users: {ada: %[6]q}}}
      - {path: /small, to: %[1]q, body_limit: 1KiB}
      - {path: /gone, to: "h2c://%[3]s"}
      - {path: /slow, to: %[1]q, timeouts: {response_header: 500ms}}
      - {path: /asked, to: %[1]q, forward_auth: {to: %[4]q, uri: /}}
      - {path: /login, to: %[1]q, forward_auth: {to: %[4]q, uri: /}}
      - {path: /unasked, to: %[1]q, forward_auth: {to: "http://%[3]s", uri: /}}
  - hosts: [closed.localhost]
    maintenance: {on: true, message: "Zurück um 10 %%."}
`, h2c, secure.URL, silent.Addr().String(), service, filepath.Join(folder(t, map[string]string{"5xx.html": "<p>a page of the site"}), "5xx.html"), hash)

	call := func(host, method string, size int) (metadata.MD, error) {
		t.Helper()
		conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: e.roots, ServerName: host})),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return net.Dial("tcp", e.address) }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var trailer metadata.MD
		err = conn.Invoke(ctx, method, wrapperspb.Bytes(make([]byte, size)), &emptypb.Empty{}, grpc.Trailer(&trailer))
		return trailer, err
	}
	for _, c := range []struct {
		host, method string
		size, times  int
		code         codes.Code
		text, field  string
		status       int
	}{
		{method: "/limited/M", times: 2, code: codes.Unavailable, text: "Too many requests", field: "retry-after", status: 429},
		{method: "/secured/M", times: 2, code: codes.Unavailable, text: "Too many requests", field: "retry-after", status: 429},
		{method: "/denied/M", code: codes.PermissionDenied, text: "403 Forbidden", status: 403},
		{method: "/password/M", code: codes.Unauthenticated, text: "401 Unauthorized", field: "www-authenticate", status: 401},
		{method: "/small/M", size: 1 << 20, code: codes.ResourceExhausted, text: "too large", status: 413},
		{method: "/gone/M", code: codes.Unavailable, text: "did not answer", status: 502},
		{method: "/slow/M", code: codes.Unavailable, text: "took too long", status: 504},
		{method: "/asked/M", code: codes.PermissionDenied, text: "refuses this call", field: "set-cookie", status: 403},
		{method: "/login/M", code: codes.Unauthenticated, text: "refuses this call", field: "set-cookie", status: 401},
		{method: "/unasked/M", code: codes.Unavailable, text: "decides about access", status: 502},
		{method: "/nowhere/M", code: codes.Unimplemented, text: "nothing here", status: 404},
		{host: "closed.localhost", method: "/fine/M", code: codes.Unavailable, text: "Zurück um 10 %.", field: "retry-after", status: 503},
	} {
		if c.host == "" {
			c.host = "localhost"
		}
		var err error
		var trailer metadata.MD
		for range max(c.times, 1) {
			trailer, err = call(c.host, c.method, c.size)
		}
		got := grpcstatus.Convert(err)
		if got.Code() != c.code || !strings.Contains(got.Message(), c.text) || !strings.Contains(got.Message(), "(request ") || strings.Contains(got.Message(), "HTTP status code") {
			t.Errorf("%s: %v", c.method, err)
		}
		if c.field != "" && len(trailer[c.field]) != 1 {
			t.Errorf("%s: no %s in %v", c.method, c.field, trailer)
		}
		soonIn(t, e, fmt.Sprintf(`"target":%q,"proto":"HTTP/2.0","status":%d`, c.method, c.status))
	}

	// As it is on the wire, for every protocol and kind of call, whether or not padlock translates gRPC-Web for the route.
	for name, client := range e.everyClient(t) {
		for _, kind := range []string{"application/grpc", "application/grpc+proto", "application/grpc-web+proto", "application/grpc-web-text", "Application/gRPC-Web; charset=utf-8"} {
			request, err := http.NewRequest("POST", "https://localhost/gone/M", strings.NewReader("\x00\x00\x00\x00\x00"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", kind)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(response.Body)
			response.Body.Close()
			want, _, _ := strings.Cut(strings.ToLower(kind), ";")
			if err != nil || response.StatusCode != 200 || len(content) > 0 || response.Header.Get("Grpc-Status") != "14" || response.Header.Get("Content-Type") != want {
				t.Errorf("%s, %s: %s %v %q, %v", name, kind, response.Status, response.Header, content, err)
			}
		}
		// What only looks like a call gets a page.
		for _, c := range [][2]string{{"GET", "application/grpc"}, {"POST", "application/grpcx"}, {"POST", "application/json"}} {
			request, _ := http.NewRequest(c[0], "https://localhost/gone/M", nil)
			request.Header.Set("Content-Type", c[1])
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != 502 || response.Header.Get("Grpc-Status") != "" {
				t.Errorf("%s, %v: %s %v", name, c, response.Status, response.Header)
			}
		}
		// A connection that is not for the host: browsers try another for a 421, whatever the call.
		request, _ := http.NewRequest("POST", "https://localhost/", nil)
		request.Host = "elsewhere.test"
		request.Header.Set("Content-Type", "application/grpc-web")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 421 {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
}
