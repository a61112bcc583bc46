package paths

import (
	"strings"
	"testing"
)

func TestWhatIsAmbiguousIsRefusedOrPutInOrder(t *testing.T) {
	for _, c := range []struct{ target, strict, normalize, normal string }{ // "": refused
		{"/", "/", "/", "/"},
		{"/a%20b", "/a%20b", "/a%20b", "/a b"},
		{"/caf%C3%A9", "/caf%C3%A9", "/caf%C3%A9", "/café"},
		{"/caf%E9", "/caf%E9", "/caf%E9", "/caf\xe9"},
		{"/a;b=1/c", "/a;b=1/c", "/a;b=1/c", "/a;b=1/c"},
		{"/files//x", "/files//x", "/files/x", "/files/x"},
		{"/%61b%2Dc?q=%2e%2e%2f", "/ab-c?q=%2e%2e%2f", "/ab-c?q=%2e%2e%2f", "/ab-c"},
		{"/100%25", "/100%25", "/100%25", "/100%"},
		{"/50%", "/50%", "/50%25", "/50%"},
		{"/.well-known/x", "/.well-known/x", "/.well-known/x", "/.well-known/x"},
		{"/.../x", "/.../x", "/.../x", "/.../x"},
		{`/a"b|c`, `/a"b|c`, "/a%22b%7Cc", `/a"b|c`},
		{"/a/../b", "", "/b", "/b"},
		{"/a/./b/.", "", "/a/b/", "/a/b/"},
		{"/a/%2e%2E/b", "", "/b", "/b"},
		{"/a/.%2e", "", "/", "/"},
		{"/a/..;x=1/b", "", "/b", "/b"},
		{"/a/..%3bx/b", "", "/b", "/b"},
		{"/a/..%20/b", "", "/b", "/b"},
		{"/../../x", "", "/x", "/x"},
		{"/a%2fb", "", "/a/b", "/a/b"},
		{"/a/..%2Fb", "", "/b", "/b"},
		{`/a\b`, "", "/a/b", "/a/b"},
		{`/a%5c..\b`, "", "/b", "/b"},
		{"/a%00", "", "", ""},
		{"/a%0d%0ab", "", "", ""},
		{"/a%7f", "", "", ""},
		{"/%252e%252e/b", "", "", ""},
		{"/%25%32%65", "", "", ""},
		{"/%%36%31", "", "", ""},
		{"/a%25u002fb", "", "", ""},
		{"/a%u002fb", "", "", ""},
		{"/a%c0%af..", "", "", ""},
		{"/a/%EF%BC%8E%EF%BC%8E/b", "", "", ""},
		{"/a%EF%BC%8F..%EF%BC%8Fb", "", "", ""},
		{"/Fate%EF%BC%8Fstay", "/Fate%EF%BC%8Fstay", "/Fate%EF%BC%8Fstay", "/Fate／stay"},
		{"/a/.%E2%80%8D./b", "", "", ""},
		{"/a/..%20./b", "", "/b", "/b"},
		{"/" + strings.Repeat("a", 1030) + "%EF%BC%8F..%EF%BC%8F..%EF%BC%8Fb", "", "", ""},
		{"/a/%e0%80%ae%e0%80%ae/", "", "", ""},
	} {
		for mode, want := range map[Mode]string{Strict: c.strict, Normalize: c.normalize} {
			p, err := Parse(c.target, mode)
			switch {
			case (err != nil) != (want == ""):
				t.Errorf("%s in mode %d: %v", c.target, mode, err)
			case err == nil && (p.Text != want || p.Normal != c.normal):
				t.Errorf("%s in mode %d: %q, that is %q, not %q, %q", c.target, mode, p.Text, p.Normal, want, c.normal)
			}
		}
		if p, err := Parse(c.target, Raw); err != nil || p.Text != c.target {
			t.Errorf("%s raw: %v, %v", c.target, p, err)
		}
	}
	for _, target := range []string{"", "a", "?", "**", "https://x/"} {
		if p, err := Parse(target, Raw); err == nil {
			t.Errorf("%q: %v", target, p)
		}
	}
}

func TestRoutesAreFoundAsEveryReaderWould(t *testing.T) {
	type routes map[string]Match // by pattern; = before an exact one
	for target, want := range map[string]routes{
		"/admin":            {"/admin": All, "=/admin": All, "/admin/": Some, "": All, "/": All, "/adm": None, "/admin/x": None},
		"/admin/":           {"/admin": All, "=/admin": Some, "/admin/": All},
		"/admin/x":          {"/admin": All, "=/admin": None, "/admin/": All, "/admin/x": All},
		"/%61dmin":          {"/admin": All},
		"/ADMIN":            {"/admin": Some},
		"/admin/X":          {"/admin": All, "/admin/x": Some},
		"//admin":           {"/admin": Ours, "": All, "/": All},
		"/x//admin":         {"/admin": None, "/x": All, "/x/admin": Ours},
		"//x/admin":         {"/admin": Some},
		"/admin;a=b":        {"/admin": Some},
		"/admin;a=b/x":      {"=/admin": Some, "/admin": Some, "/admin/x": Some},
		"/x;a=b/y;c":        {"/admin": None, "/x": Some},
		"/;x/admin":         {"/admin": Some},
		"/admin%3bx":        {"/admin": Some},
		"/admin%3fx":        {"/admin": Some},
		"/admin%23/y":       {"/admin": Some, "/admin/y": None},
		"/admin.":           {"/admin": Some},
		"/admin%20":         {"/admin": Some},
		"/admin::$DATA":     {"/admin": Some},
		"/admin:$i30:$X/x":  {"/admin": Some, "/admin/x": Some},
		"/adm%E2%80%8Cin":   {"/admin": Some},
		"/%EF%BB%BFadmin/x": {"/admin": Some},
		"/admin;/x":         {"=/admin": Some},
		"/admin%3b/x":       {"=/admin": Some},
		"/adm%C4%B1n":       {"/admin": Some},
		"/%E2%84%AAey":      {"/key": Some},
		"/caf%c3%a9/x":      {"/café": All, "/CAFÉ": Some},
		"/a%3Db":            {"/a=b": Ours},
		"/cafe%CC%81/x":     {"/café": Some},
		"/%EF%BD%81dmin":    {"/admin": Some},
		"/x%EF%BC%8Fadmin":  {"/x": Some, "/x/admin": Some, "/admin": None},
		"/%C2%A5admin":      {"/admin": Some, "/x": None},
		"/files//x":         {"/admin": None, "/files": All},
		"/a%2Bb/c?d=/admin": {"/admin": None},
	} {
		for pattern, match := range want {
			p, err := Parse(target, Strict)
			text, exact := strings.CutPrefix(pattern, "=")
			if got := NewPattern(text, exact, false).Match(&p); got != match || err != nil {
				t.Errorf("%s, %s: %d, %v, not %d", target, pattern, got, err, match)
			}
		}
	}
	for _, target := range []string{"/ADMIN/x", "/aDmin"} {
		p, _ := Parse(target, Strict)
		if got := NewPattern("/Admin", false, true).Match(&p); got != All {
			t.Errorf("%s without case: %d", target, got)
		}
	}
	for target, want := range map[string]Match{"/%C4%B1x": Some, "/IX": All} { // a letter that is no other's case opens nothing
		p, _ := Parse(target, Strict)
		if got := NewPattern("/ix", false, true).Match(&p); got != want {
			t.Errorf("%s without case: %d", target, got)
		}
	}
	p, _ := Parse("//Admin/x", Raw)
	if got := NewPattern("/Admin", false, false).Match(&p); got != All {
		t.Errorf("raw: %d", got)
	}
}

func TestAPrefixIsReplacedAsItStands(t *testing.T) {
	for _, c := range []struct{ prefix, replacement, target, want string }{
		{"/api", "", "/api", "/"},
		{"/api", "", "/api?q", "/?q"},
		{"/api", "", "/api/x%2Fy?z=/", "/x%2Fy?z=/"},
		{"/api", "", "/api/x/", "/x/"},
		{"/api", "", "/%61pi/my%20file", "/my%20file"},
		{"/api", "", "//api/my%20file", "/my%20file"},
		{"/api", "", "//api/a%2Fb", "/a%2Fb"},
		{"/api", "", "/%61pi/%0d%0aHost:%20x", "/%0d%0aHost:%20x"},
		{"/api", "", "/x/../api/%0d%0aa%20b%3f", "/%0D%0Aa%20b%3F"},
		{"/api", "", "/api%2f%0d%0ax", "/%0D%0Ax"},
		{"/api", "", "/api/../api/x", "/x"},
		{"/api", "", "/api/x/../../../api/y", "/y"},
		{"/api", "", "/api/a/../y", "/a/../y"},
		{"/api", "", "/api//evil.example", "/evil.example"},
		{"/api/v1/", "/v2", "/api/v1/a/", "/v2/a/"},
		{"/api/v1/", "/v2", "/api//%761/a", "/v2/a"},
		{"/v1", "/v2", "/v1", "/v2"},
		{"/v1", "/v2/", "/v1", "/v2/"},
		{"/v1", "/café", "/v1/x", "/caf%C3%A9/x"},
		{"/café", "", "/caf%c3%a9/%C3%A9", "/%C3%A9"},
	} {
		p, err := Parse(c.target, Raw)
		pattern := NewPattern(c.prefix, false, false)
		if err != nil || pattern.Match(&p) != All {
			t.Errorf("%s does not match %s: %v", c.target, c.prefix, err)
			continue
		}
		if got, err := pattern.Replace(&p, c.replacement); got != c.want || err != nil {
			t.Errorf("%s without %s: %q, %v, not %q", c.target, c.prefix, got, err, c.want)
		}
	}
	p, _ := Parse("/APP/%58", Strict)
	if got, err := NewPattern("/app", false, true).Replace(&p, ""); got != "/X" || err != nil {
		t.Errorf("without case: %q", got)
	}
}

func TestNoLocationLeadsToAnotherHost(t *testing.T) {
	for _, c := range []struct{ origin, reference, want string }{
		{"", "/a?b", "/a?b"},
		{"", "//evil.example", "/evil.example"},
		{"", `/\evil.example/..`, "/evil.example/.."},
		{"", `\/evil.example`, "/evil.example"},
		{"", "/\t/evil.example", "/evil.example"},
		{"", "/\r\n/evil.example", "/evil.example"},
		{"", "evil.example", "/evil.example"},
		{"", "https://evil.example/", "/https://evil.example/"},
		{"", "", "/"},
		{"", "?x", "?x"},
		{"", `/a\b?c\d`, `/a%5Cb?c\d`},
		{"", "/a\r\nSet-Cookie: x", "/a%0D%0ASet-Cookie:%20x"},
		{"", "/\x01//é", "/%01//%C3%A9"},
		{"https://x.test", "/a", "https://x.test/a"},
		{"https://x.test", "", "https://x.test"},
		{"https://x.test:8443", "?a", "https://x.test:8443?a"},
		{"https://x.test", ".evil.example/", "https://x.test/.evil.example/"},
		{"https://x.test", "@evil.example/", "https://x.test/@evil.example/"},
		{"https://x.test", "*", "https://x.test/*"},
		{"https://x.test", `\@evil.example`, `https://x.test/%5C@evil.example`},
		{"https://[::1]:1", "//x", "https://[::1]:1//x"},
	} {
		if got, ok := Location(c.origin, c.reference); got != c.want || !ok {
			t.Errorf("%q, %q: %q, not %q", c.origin, c.reference, got, c.want)
		}
	}
	for _, origin := range []string{"https://", "https://a@b", "https://a b", "https://a/b", "javascript:x", "ftp://x", "//x", "https://a\r\nb", `https://a\b`} {
		if got, ok := Location(origin, "/"); ok {
			t.Errorf("%q: %q", origin, got)
		}
	}
}
