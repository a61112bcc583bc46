package gateway

import (
	"strings"
	"testing"

	"padlock/proxy/message"
)

// What a target says of itself is what its client finds it by; what it says of others stays as it is.
func TestURLsOfATargetBecomeTheClients(t *testing.T) {
	kept := urls{scheme: "https", authority: "app.example.com", inner: "http", sent: "app.example.com", target: "10.0.0.5:8080"}
	port := urls{scheme: "https", authority: "app.localhost:8443", inner: "http", sent: "app.localhost:8443", target: "localhost:3000"}
	prefix := urls{scheme: "https", authority: "example.com", inner: "http", sent: "app.internal:8080", target: "app.internal:8080", taken: "/app"}
	replaced := urls{scheme: "https", authority: "example.com", inner: "https", sent: "app.internal", target: "app.internal", taken: "/v1", given: "/v2"}
	below := urls{scheme: "https", authority: "example.com:8443", inner: "http", sent: "example.com:8443", target: "10.0.0.5:8080", given: "/app"}
	for _, c := range []struct {
		u             urls
		from, outward string
	}{
		{kept, "http://app.example.com/login?next=http://10.0.0.5:8080/#x", "https://app.example.com/login?next=http://10.0.0.5:8080/#x"},
		{kept, "http://10.0.0.5:8080/login", "https://app.example.com/login"},
		{kept, "http://app.example.com:8080/login", "https://app.example.com/login"},
		{kept, "http://10.0.0.5/", "https://app.example.com/"},
		{kept, "HTTP://APP.Example.com./x", "https://app.example.com/x"},
		{kept, "http://10.0.0.5:8080", "https://app.example.com"},
		{kept, "https://app.example.com/x", "https://app.example.com/x"},
		{kept, "//10.0.0.5:8080/x", "//app.example.com/x"},
		{kept, "http://10.0.0.5:9090/", "http://10.0.0.5:9090/"},
		{kept, "https://app.example.com:8443/", "https://app.example.com:8443/"},
		{kept, "http://10.0.0.5:8080@evil.example/", "http://10.0.0.5:8080@evil.example/"},
		{kept, "http://user@10.0.0.5:8080/", "http://user@10.0.0.5:8080/"},
		{kept, `http://10.0.0.5:8080\@evil.example/`, `http://10.0.0.5:8080\@evil.example/`},
		{kept, "http://10.0.0.5:8080.evil.example/", "http://10.0.0.5:8080.evil.example/"},
		{kept, "http://10.0.0.50:8080/", "http://10.0.0.50:8080/"},
		{kept, "http://other.example/?u=http://10.0.0.5:8080/", "http://other.example/?u=http://10.0.0.5:8080/"},
		{kept, "ftp://10.0.0.5:8080/", "ftp://10.0.0.5:8080/"},
		{kept, "/login", "/login"}, {kept, "login", "login"}, {kept, "?x", "?x"}, {kept, "", ""}, {kept, "mailto:a@10.0.0.5", "mailto:a@10.0.0.5"},

		{port, "http://app.localhost:8443/x", "https://app.localhost:8443/x"},
		{port, "http://app.localhost/x", "https://app.localhost:8443/x"},
		{port, "http://app.localhost:3000/x", "https://app.localhost:8443/x"},
		{port, "http://localhost:3000/x", "https://app.localhost:8443/x"},
		{port, "https://app.localhost/x", "https://app.localhost/x"},
		{port, "http://127.0.0.1:3000/x", "https://app.localhost:8443/x"},
		{port, "http://[::1]:3000/x", "https://app.localhost:8443/x"},
		{port, "http://127.0.0.1:3001/x", "http://127.0.0.1:3001/x"},
		{port, "http://127.0.0.1.evil.example:3000/", "http://127.0.0.1.evil.example:3000/"},
		{port, "http://0.0.0.0:3000/x", "https://app.localhost:8443/x"},
		{kept, "http://0.0.0.0:8080/x", "https://app.example.com/x"},
		{kept, "http://[::]:8080/x", "https://app.example.com/x"},
		{kept, "http://0.0.0.0:9090/x", "http://0.0.0.0:9090/x"},
		{kept, "http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"},
		{kept, "http://localhost:8080/x", "http://localhost:8080/x"},

		{prefix, "/login?x=/app", "/app/login?x=/app"}, {prefix, "/", "/app/"}, {prefix, "/app/login", "/app/login"}, {prefix, "/app", "/app"}, {prefix, "/apple", "/app/apple"},
		{prefix, "http://app.internal:8080/login", "https://example.com/app/login"},
		{prefix, "http://app.internal:8080?x", "https://example.com/app/?x"},
		{prefix, "https://example.com/login", "https://example.com/app/login"},
		{prefix, "https://example.com/app/login", "https://example.com/app/login"},
		{prefix, `/\evil.example`, `/\evil.example`},
		{prefix, "login", "login"},

		{replaced, "/v2/x", "/v1/x"}, {replaced, "/v2", "/v1"}, {replaced, "/v22/x", "/v22/x"}, {replaced, "/other", "/other"},
		{replaced, "https://app.internal/v2/x", "https://example.com/v1/x"},
		{replaced, "https://app.internal:443/v2/x", "https://example.com/v1/x"},
		{replaced, "http://app.internal/v2/x", "http://app.internal/v2/x"},
		{replaced, "/v2//evil.example/", "/v1//evil.example/"},

		{below, "/app/x?y", "/x?y"}, {below, "/app/", "/"}, {below, "/app", "/"}, {below, "/app?x", "/?x"}, {below, "/x", "/x"}, {below, "//app/x", "//app/x"},
		{below, "http://10.0.0.5:8080/app", "https://example.com:8443/"},
		{below, "http://10.0.0.5:8080/app//evil.example/", "https://example.com:8443//evil.example/"},
		{below, "/app//evil.example/", "https://example.com:8443//evil.example/"},
		{below, `/app/\evil.example/`, `https://example.com:8443/\evil.example/`},
		{below, "/app/\t/evil.example/", "https://example.com:8443/\t/evil.example/"},
		{below, "/app/\t\\evil.example/", "https://example.com:8443/\t\\evil.example/"},
	} {
		if got := c.u.outward(c.from); got != c.outward {
			t.Errorf("%q → %q, not %q", c.from, got, c.outward)
		}
	}

	for from, want := range map[string]string{
		"5; url=http://app.internal:8080/x":   "5; url=https://example.com/app/x",
		"0;URL='http://app.internal:8080/x' ": "0;URL='https://example.com/app/x' ",
		`5, Url = "/x"`:                       `5, Url = "/app/x"`,
		"5":                                   "5",
		"5; url=http://other.example/":        "5; url=http://other.example/",
		`5; url="/x`:                          `5; url="/x`,
		"5; curl=/x":                          "5; curl=/x",
		"5; url=":                             "5; url=",
	} {
		if got := prefix.refresh(from); got != want {
			t.Errorf("Refresh: %q → %q, not %q", from, got, want)
		}
	}

	for from, want := range map[string]string{
		"id=1; Domain=app.internal; Path=/; Secure":            "id=1; Domain=example.com; Path=/app; Secure",
		"id=1;domain=.APP.internal;path=/admin":                "id=1; Domain=example.com; Path=/app/admin",
		"id=1; Domain=other.internal; Path=/app/x":             "id=1; Domain=other.internal; Path=/app/x",
		"id=Domain=app.internal; HttpOnly":                     "id=Domain=app.internal; HttpOnly",
		"__Host-id=1; Secure; Path=/":                          "__Host-id=1; Secure; Path=/",
		"__Secure-id=1; Secure; Path=/":                        "__Secure-id=1; Secure; Path=/app",
		"id=1; Path":                                           "id=1; Path",
		"id=1; Path=; Domain=":                                 "id=1; Path=; Domain=",
		"id=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/x": "id=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/app/x",
	} {
		if got := prefix.cookie(from); got != want {
			t.Errorf("Set-Cookie: %q → %q, not %q", from, got, want)
		}
	}
	for from, want := range map[string]string{"id=1; Path=/app": "id=1; Path=/", "id=1; Path=/app/x": "id=1; Path=/x", "id=1; Path=/": "id=1; Path=/"} {
		if got := below.cookie(from); got != want {
			t.Errorf("Set-Cookie: %q → %q, not %q", from, got, want)
		}
	}
	for from, want := range map[string]string{"id=1; Domain=127.0.0.1": "id=1; Domain=app.localhost", "id=1; Domain=127.0.0.10.example": "id=1; Domain=127.0.0.10.example"} {
		if got := port.cookie(from); got != want {
			t.Errorf("Set-Cookie: %q → %q, not %q", from, got, want)
		}
	}
	if got := kept.cookie("id=1; Domain=app.example.com; Path=/"); got != "id=1; Domain=app.example.com; Path=/" {
		t.Errorf("Set-Cookie for the client's own host: %q", got)
	}

	for from, want := range map[string]string{
		"(<opaquelocktoken:1>)": "(<opaquelocktoken:1>)",
		"<https://example.com/app/x> (<opaquelocktoken:1> [\"e\"])":                             "<http://app.internal:8080/x> (<opaquelocktoken:1> [\"e\"])",
		"<https://other.example/app/x> (<urn:1>) <https://example.com/app> (Not <DAV:no-lock>)": "<https://other.example/app/x> (<urn:1>) <http://app.internal:8080/> (Not <DAV:no-lock>)",
		"<https://example.com": "<https://example.com",
	} {
		if got := prefix.conditions(from); got != want {
			t.Errorf("If: %q → %q, not %q", from, got, want)
		}
	}
}

// Whatever a target says, a field stays one that can be written, and no URL of another host becomes the client's.
func FuzzURLs(f *testing.F) {
	for _, seed := range []string{"http://10.0.0.5:8080/x", "//10.0.0.5:8080", "/x", "5; url='http://10.0.0.5:8080/'", "id=1; Path=/; Domain=10.0.0.5", "<https://app.example.com/app/x> (<urn:1>)"} {
		f.Add(seed)
	}
	u := urls{scheme: "https", authority: "app.example.com", inner: "http", sent: "10.0.0.5:8080", target: "10.0.0.5:8080", taken: "/app"}
	below := u
	below.taken, below.given = "", "/app"
	f.Add("/app//evil.example/")
	f.Fuzz(func(t *testing.T, value string) {
		if !message.FieldValue(value) {
			return
		}
		for _, got := range []string{u.outward(value), u.refresh(value), u.cookie(value), u.conditions(value)} {
			if !message.FieldValue(got) {
				t.Errorf("%q → %q", value, got)
			}
		}
		if got := u.outward(value); got != value && strings.Contains(value, "://") && !strings.Contains(strings.ToLower(value), "10.0.0.5") && !strings.Contains(strings.ToLower(value), "app.example.com") && !strings.HasPrefix(value, "/") {
			t.Errorf("%q → %q", value, got)
		}
		if got := below.outward(value); strings.HasPrefix(value, "/") && !namesHost(value) && namesHost(got) {
			t.Errorf("a path becomes another host's: %q → %q", value, got)
		}
	})
}
