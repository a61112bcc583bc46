package proxy_test

import (
	"strings"
	"testing"
)

// Rules are for what a path means to the target, whatever it is written like and whatever it comes by: nothing that a target could take for
// another route's goes there.
func TestNoPathGoesAroundARule(t *testing.T) {
	to := echoTargets(t)
	const hash = "$2a$04$WMg4YtwSwcf7ocRHkdFcweoxtr0FPofx8tGvpt2gjCuCBqf6i/UAm"
	routes := `
    routes:
      - {to: %q, basic_auth: {users: {alice: "` + hash + `"}}}
      - {path: /public, to: %[1]q}
      - {path: /public/secret, to: %[1]q, deny: [127.0.0.1]}
      - {path: /hidden, respond: {status: 404}}
      - {path: /app, strip_prefix: true, to: %[1]q}
      - {path: /app/internal, deny: [127.0.0.1], strip_prefix: true, to: %[1]q}
      - {exact: /public/exact, deny: [127.0.0.1], to: %[1]q}
`
	for name, c := range map[string]struct {
		keys string
		want map[string]string // the target that is forwarded, or a status
	}{
		"default": {"", map[string]string{
			"/": "401", "/x": "401", "/public": "/public", "/public/a%20b?c=../../": "/public/a%20b?c=../../", "/public/caf%C3%A9": "/public/caf%C3%A9",
			"/public/x;v=1/y": "/public/x;v=1/y", "/public/files//x": "/public/files//x", "/public/S3=Key+%2B%3D&": "/public/S3=Key+%2B%3D&",
			"/%70ublic/x": "/public/x", "/public/secret": "403", "/public/%73ecret": "403", "/public/exact": "403", "/hidden": "404",
			"/public/../admin": "400", "/public/..%2fadmin": "400", "/public/%2e%2e/admin": "400", "/public/..;/admin": "400", "/public/..;a=b/admin": "400",
			`/public/..\admin`: "400", `/public\..\admin`: "400", "/public/..%5cadmin": "400", "/public/%00/../admin": "400", "/public/x%00": "400",
			"/public/%252e%252e/admin": "400", "/public%2f..%2fadmin": "400", "/public/%c0%ae%c0%ae/": "400", "/./x": "400", "/x%0d%0a": "400",
			"/public/SECRET": "400", "/public/secret;a=b/": "400", "/public//secret": "400", "/PUBLIC": "400", "//public/x": "400", "/public;x/y": "400",
			"/public/secret.": "400", "/public/secret%20": "400", "/public/secret%3fx": "400", "/public/secret%3bx": "400", "/public/exact/": "400", "/public/exact;/x": "400", "/public/exact;a/b": "400", "/public/secret:$i30:$INDEX_ALLOCATION/x": "400",
			"/public/sec%e2%80%8cret": "400", "/public/%c2%adsecret/x": "400", "/app/;/x/internal": "/x/internal",
			"/public/EXACT": "400", "/Hidden": "400", "//x/hidden": "400", "//x/public/secret": "400", "//public/hidden": "400",
			"/app/x%20y//z": "/x%20y//z", "/app": "/", "/app/INTERNAL/x": "400", "/app/internal;/x": "400", "/app//internal": "400", "/%61pp/x": "/x",
		}},
		"normalize": {"paths: normalize", map[string]string{
			"/": "401", "/public/a%20b": "/public/a%20b", "/public//x/./y": "/public/x/y", "/public/../admin": "401", "/x/../public/y": "/public/y",
			"/public/..%2fadmin": "401", "/x%2f..%2fpublic/y?%2f": "/public/y?%2f", `/x\..\public\y`: "/public/y", "/x/..;a=b/public": "/public",
			"/public/x/../secret": "403", "/public%2fsecret": "403", "//public/secret": "403", "/public//secret": "403", "/hidden/.": "404",
			"/public/%252e%252e/admin": "400", "/public/%00": "400", "/public/SECRET": "400", "/public/secret;x": "400", "/PUBLIC": "400",
			"//app//x%20y//z": "/x%20y/z", "/x/../app/%61%2e%2e%3b": "/a..%3B", "/app/internal/../x": "/x", "/app/x/../internal/y": "403",
		}},
		"case": {"ignore_case: true", map[string]string{
			"/PUBLIC/x": "/PUBLIC/x", "/Public/Secret": "403", "/public/EXACT": "403", "/HIDDEN/x": "404", "/APP/X": "/X", "/aPp/Internal/x": "403",
			"/public/../x": "400", "/PUBLIC/%53ECRET": "403",
		}},
		"raw": {"paths: raw", map[string]string{
			"/public/../admin": "401", "/x/../public/y": "/x/../public/y", "/public/..;/admin": "/public/..;/admin", "/PUBLIC": "401",
			"/%61pp/my%20file": "/my%20file", "//app/my%20file": "/my%20file", "/x/../app/a%0d%0ab%20c": "/a%0D%0Ab%20c", "/%61pp/%0d%0aX:%20y": "/%0d%0aX:%20y",
			"/app%2f%0d%0aGET%20/admin": "/%0D%0AGET%20/admin", "/app/../app/x/../../../y": "401", "/app/x/../../../app/y": "/y",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startFile(t, "sites:\n  - hosts: [localhost]\n    "+c.keys+routes, "http://"+to)
			for front, ask := range e.bytewise(t) {
				for target, want := range c.want {
					o := ask(target)
					got := o.status
					if got == "200" {
						got = o.body
					}
					if got != want {
						t.Errorf("%s: %s gave %s, not %s", front, target, got, want)
					}
					if o.status == "400" && !strings.Contains(o.body, "This address can be read in more than one way: ") {
						t.Errorf("%s: %s is refused with %q", front, target, o.body)
					}
				}
			}
		})
	}
}

// A target that gets some paths only gets no others, whatever it makes of those: no rule says so, but the routes do.
func TestNoPathLeavesWhatIsRoutedToATarget(t *testing.T) {
	up := map[string]string{}
	for _, way := range []string{
		"..", "%2e%2e", ".%2E", "..;", "..;x=y", "%2e%2e;", "..%3b", "..%20", "..%09", "..%00", "..%3f", "%252e%252e", "%252e%252e%253b", "%25252e.", "%c0%ae%c0%ae",
		"%e0%80%ae.", "%u002e%u002e", "%EF%BC%8E%EF%BC%8E", "%E2%80%A5", ".%E2%80%8C.", "..%5c", `..\x`, `x\..`, "..%2f", "..%252f", "x%5c..%5c..", "..::$INDEX_ALLOCATION",
	} {
		up["/public/"+way+"/secret"], up["/public/x/"+way+"/secret"] = "400", "400"
		up["/public/"+way], up["/public/%20"+way+"/x"] = "400", "400"
	}
	to, other := "http://"+echoTargets(t), "http://"+echoTargets(t)
	passes := map[string]string{
		"/public": "/public", "/public/a%2fb//c?d=../..": "/public/a%2fb//c?d=../..", "/public/x;v=1/%25/...": "/public/x;v=1/%25/...", "/public/%00%5c": "/public/%00%5c",
		"/%70ublic/x": "/public/x", "//public/x": "/public/x", "/public/./x": "/public/./x", "/public/v1..v2": "/public/v1..v2",
		"/x//public": "404", "/public%2fx": "400", "/./public/x": "400", "/PUBLIC": "404", "/secret": "404", "/public;x/y": "404",
	}
	for name, c := range map[string]struct {
		routes string
		more   map[string]string
	}{
		"one route":      {"{path: /public, to: %[1]q}", passes},
		"methods":        {"{path: /public, methods: [GET], to: %[1]q}, {path: /hello, methods: [POST], to: %[1]q}", passes},
		"page":           {"{path: /public, to: %[1]q}, {redirect: {to: /public}}", map[string]string{"/secret": "308", "/public%2fx": "400"}},
		"another target": {"{path: /public, to: %[1]q}, {to: %[2]q}", map[string]string{"/secret": "/secret", "/public%2fx": "400", "/PUBLIC": "/PUBLIC", "//public/x": "/public/x"}},
		"prefix": {"{path: /public, strip_prefix: true, to: %[1]q}", map[string]string{
			"/public/x%2fy": "/x%2fy", "/public/;/x/admin": "/x/admin", "/public/%2fx/admin": "400", "/public/.../x": "400", "/public/;x": "/;x",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startFile(t, "sites:\n  - hosts: [localhost]\n    routes: ["+c.routes+"]\n", to, other)
			for front, ask := range e.bytewise(t) {
				for _, want := range []map[string]string{up, c.more} {
					for target, want := range want {
						o := ask(target)
						if got := map[bool]string{true: o.body, false: o.status}[o.status == "200"]; got != want {
							t.Errorf("%s: %s gave %s, not %s", front, target, got, want)
						}
					}
				}
			}
		})
	}
}

// What is open as a whole is nobody's to go around, and a prefix is left by no path, by raw neither.
func TestRawIsRawButForAPrefix(t *testing.T) {
	t.Parallel()
	e := startFile(t, "sites:\n  - hosts: [localhost]\n    routes: [{to: %q}, {path: /rep, replace_prefix: /new/base, to: %[1]q}]\n", "http://"+echoTargets(t))
	for front, ask := range e.bytewise(t) {
		for target, want := range map[string]string{
			"/a/..;/b": "/a/..;/b", "/%2e%2e;/x%5c..": "/%2e%2e;/x%5c..", "/rep/x/..;/y": "/new/base/x/..;/y", "/rep/..;/x": "", "/rep/%2e%2e;/x": "", `/rep/..\x`: "",
			"/rep/x/..%5c..%5cy": "", "/rep/%252e%252e/x": "", "/rep/x/../..;/y": "", "/rep/x/../y": "/new/base/x/../y",
		} {
			if o := ask(target); o.body != want && (want != "" || o.status != "400") {
				t.Errorf("%s: %s gave %s %q, not %q", front, target, o.status, o.body, want)
			}
		}
	}
}

// Where nobody is kept out, targets get what clients send; rewritten or redirected, no path becomes more than one.
func TestNoPathBreaksOutOfARequestLineOrALocation(t *testing.T) {
	t.Parallel()
	e := startFile(t, `
sites:
  - hosts: [localhost]
    routes:
      - {to: %q, headers: {response: {set: {X-Path: "{path}"}}}}
      - {path: /api, strip_prefix: true, to: %[1]q}
      - {path: /v1, replace_prefix: /v2, to: %[1]q}
      - {path: /here, redirect: {to: "{uri}"}}
      - {path: /path, redirect: {to: "/{path}?{query}"}}
      - {path: /there, redirect: {to: "https://there.test{uri}"}}
      - {methods: [OPTIONS], redirect: {to: "https://there.test{uri}"}}
`, "http://"+echoTargets(t))
	for front, ask := range e.bytewise(t) {
		for target, want := range map[string]string{
			"/ADMIN/../x\\": "/ADMIN/../x\\", "/api/x": "/x", "/%61pi/%0d%0aGET%20/x": "/%0d%0aGET%20/x", "//api/my%20file": "/my%20file", "/x/../v1/a%20b?c": "/v2/a%20b?c",
			"//v1//a": "/v2/a", "/v1%2f%0d%0a%20": "/v2/%0D%0A%20",
		} {
			if o := ask(target); o.status != "200" || o.body != want {
				t.Errorf("%s: %s arrived as %s %q, not %q", front, target, o.status, o.body, want)
			}
		}
	}
	for target, want := range map[string]string{
		`/\evil.example/../here`: "/evil.example/../here", "//evil.example/../here": "/evil.example/../here", "/%0d%0a/../here": "/%0d%0a/../here",
		"/here/%09//x": "/here/%09//x", `//\/evil.example/../../here?\`: `/evil.example/../../here?\`, "/there//evil.example": "https://there.test/there//evil.example",
		`/there\@evil.example`: "", `/x/../there\@evil`: "", `//evil/../path/\..\x?a`: "/evil/../path/%5C..%5Cx?a",
		`/there/\@evil.example`: `https://there.test/there/%5C@evil.example`,
	} {
		answer := e.say(t, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		location := ""
		for line := range strings.SplitSeq(answer, "\r\n") {
			if value, ok := strings.CutPrefix(line, "Location: "); ok {
				location = value
			}
		}
		if location != want {
			t.Errorf("%s leads to %q, not %q", target, location, want)
		}
	}
	if answer := e.say(t, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(answer, "\r\nLocation: https://there.test/*\r\n") {
		t.Errorf("OPTIONS *: %q", answer)
	}
}
