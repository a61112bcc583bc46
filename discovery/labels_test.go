package discovery

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

const hash = "$2y$05$HU8tnPDt7IdNgQDmGDsPGOP/x8cAFpWx1tdk0PK5HnEKhpyDxNb2q"

// At the container's address 10.0.0.2:8080, each label does what the key beside it does.
var meanings = []struct{ labels, site string }{
	{"host=app.test", "{hosts: [app.test], routes: [{to: 10.0.0.2:8080}]}"},
	{"host=App.test., *.app.test,[::1]", "{hosts: [app.test, '*.app.test', '::1'], routes: [{to: 10.0.0.2:8080}]}"},
	{"port=3000", "{hosts: [app.test], routes: [{to: 10.0.0.2:3000}]}"},
	{"scheme=h2c", "{hosts: [app.test], routes: [{to: 'h2c://10.0.0.2:8080'}]}"},
	{"scheme=https server_name=app.internal", "{hosts: [app.test], routes: [{to: 'https://10.0.0.2:8080', server_name: app.internal}]}"},
	{"scheme=https insecure_skip_verify=true", "{hosts: [app.test], routes: [{to: 'https://10.0.0.2:8080', insecure_skip_verify: true}]}"},
	{"scheme=h2c grpc_web=true", "{hosts: [app.test], routes: [{to: 'h2c://10.0.0.2:8080', grpc_web: true}]}"},
	{"scheme=https protocol=http1", "{hosts: [app.test], routes: [{to: 'https://10.0.0.2:8080', protocol: http1}]}"},
	{"network=back", "{hosts: [app.test], routes: [{to: 10.9.0.2:8080}]}"},
	{"weight=3", "{hosts: [app.test], routes: [{to: [{target: 10.0.0.2:8080, weight: 3}]}]}"},
	{"path=/api strip_prefix=true", "{hosts: [app.test], routes: [{path: /api, strip_prefix: true, to: 10.0.0.2:8080}]}"},
	{"path=/v1 replace_prefix=/v2 methods=GET,POST", "{hosts: [app.test], routes: [{path: /v1, replace_prefix: /v2, methods: [GET, POST], to: 10.0.0.2:8080}]}"},
	{"exact=/robots.txt host_header=upstream", "{hosts: [app.test], routes: [{exact: /robots.txt, host: upstream, to: 10.0.0.2:8080}]}"},
	{"body_limit=10MiB buffer.request=1MiB buffer.response=2MiB", "{hosts: [app.test], routes: [{body_limit: 10MiB, buffer: {request: 1MiB, response: 2MiB}, to: 10.0.0.2:8080}]}"},
	{"forwarded=true handshake_header=true", "{hosts: [app.test], routes: [{forwarded: true, handshake_header: true, to: 10.0.0.2:8080}]}"},
	{"allow=10.0.0.0/8,::1 deny=10.0.0.7", "{hosts: [app.test], routes: [{allow: [10.0.0.0/8, '::1'], deny: [10.0.0.7], to: 10.0.0.2:8080}]}"},
	{"basic_auth.users=alice:" + hash + ",bob:" + hash + " basic_auth.realm=${HOME}", "{hosts: [app.test], routes: [{basic_auth: {realm: DOLLAR, users: {alice: '" + hash + "', bob: '" + hash + "'}}, to: 10.0.0.2:8080}]}"},
	{"headers.request.set.X-Edge=padlock headers.request.add.X-Trace={request_id} headers.request.remove=X-Debug,X-Test", "{hosts: [app.test], routes: [{headers: {request: {set: {X-Edge: padlock}, add: {X-Trace: '{request_id}'}, remove: [X-Debug, X-Test]}}, to: 10.0.0.2:8080}]}"},
	{"headers.response.set.X-Frame-Options=DENY headers.response.add.Via=1.1 headers.response.remove=Server headers.response.keep=Alt-Svc", "{hosts: [app.test], routes: [{headers: {response: {set: {X-Frame-Options: DENY}, add: {Via: '1.1'}, remove: [Server], keep: [Alt-Svc]}}, to: 10.0.0.2:8080}]}"},
	{"security_headers=strict cors.origins=https://a.test,https://b.test cors.methods=PUT cors.headers=X-A cors.expose=X-B cors.credentials=true cors.max_age=1h", "{hosts: [app.test], routes: [{security_headers: strict, cors: {origins: ['https://a.test', 'https://b.test'], methods: [PUT], headers: [X-A], expose: [X-B], credentials: true, max_age: 1h}, to: 10.0.0.2:8080}]}"},
	{"basic_auth.users=ada:$argon2id$v=19$m=4096,t=1,p=2$b3RoZXJzYWx0$cxOih2//0xErQlqOLo2uOnq56ZHNilg57E7nJooE4iY,bob:" + hash, "{hosts: [app.test], routes: [{basic_auth: {users: {ada: '$argon2id$v=19$m=4096,t=1,p=2$b3RoZXJzYWx0$cxOih2//0xErQlqOLo2uOnq56ZHNilg57E7nJooE4iY', bob: '" + hash + "'}}, to: 10.0.0.2:8080}]}"},
	{"access=staff allow=10.0.0.0/8", "{hosts: [app.test], routes: [{allow: 10.0.0.0/8, forward_auth: {to: 'http://127.0.0.1:9091', uri: /verify}, rate_limit: {requests: 9, per: 1m}, to: 10.0.0.2:8080}]}"},
	{"rate_limit.requests=60 rate_limit.per=1m rate_limit.burst=5 rate_limit.by=cookie:session rate_limit.concurrent=3", "{hosts: [app.test], routes: [{rate_limit: {requests: 60, per: 1m, burst: 5, by: 'cookie:session', concurrent: 3}, to: 10.0.0.2:8080}]}"},
	{"inspect=true", "{hosts: [app.test], inspect: true, routes: [{to: 10.0.0.2:8080}]}"},
	{"inspect.requests=20 inspect.body=1KiB inspect.redact=true", "{hosts: [app.test], inspect: {requests: 20, body: 1KiB, redact: true}, routes: [{to: 10.0.0.2:8080}]}"},
	{"compress=true", "{hosts: [app.test], routes: [{compress: true, to: 10.0.0.2:8080}]}"},
	{"http=off", "{hosts: [app.test], http: off, routes: [{to: 10.0.0.2:8080}]}"},
	{"match=^/v[0-9]+/ header.X-Canary=yes cookie.beta=* query.version=2 client=10.0.0.0/8 percent=10", "{hosts: [app.test], routes: [{match: '^/v[0-9]+/', header: {X-Canary: 'yes'}, cookie: {beta: '*'}, query: {version: '2'}, client: [10.0.0.0/8], percent: 10, to: 10.0.0.2:8080}]}"},
	{"www=add", "{hosts: [app.test], www: add, routes: [{to: 10.0.0.2:8080}]}"},
	{"paths=normalize ignore_case=true", "{hosts: [app.test], paths: normalize, ignore_case: true, routes: [{to: 10.0.0.2:8080}]}"},
	{"paths=raw", "{hosts: [app.test], paths: raw, routes: [{to: 10.0.0.2:8080}]}"},
	{"hsts=off", "{hosts: [app.test], hsts: 'off', routes: [{to: 10.0.0.2:8080}]}"},
	{"hsts.max_age=9000h hsts.include_subdomains=true hsts.preload=true", "{hosts: [app.test], hsts: {max_age: 9000h, include_subdomains: true, preload: true}, routes: [{to: 10.0.0.2:8080}]}"},
	{"balance=hash hash_by=cookie:id", "{hosts: [app.test], routes: [{balance: hash, hash_by: 'cookie:id', to: 10.0.0.2:8080}]}"},
	{"sticky=lb", "{hosts: [app.test], routes: [{sticky: lb, to: 10.0.0.2:8080}]}"},
	{"health.path=/healthz health.host=h.test health.status=200 health.interval=5s health.timeout=1s health.rise=1 health.fall=4 health.slow_start=30s", "{hosts: [app.test], routes: [{health: {path: /healthz, host: h.test, status: 200, interval: 5s, timeout: 1s, rise: 1, fall: 4, slow_start: 30s}, to: 10.0.0.2:8080}]}"},
	{"upgrades=websocket,SPDY/3.1", "{hosts: [app.test], routes: [{upgrades: [websocket, SPDY/3.1], to: 10.0.0.2:8080}]}"},
	{"path=/app strip_prefix=true rewrite_urls=true", "{hosts: [app.test], routes: [{path: /app, strip_prefix: true, rewrite_urls: true, to: 10.0.0.2:8080}]}"},
	{"keepalive=off", "{hosts: [app.test], routes: [{keepalive: 'off', to: 10.0.0.2:8080}]}"},
	{"keepalive.idle=5s keepalive.connections=2 timeouts.response_header=off", "{hosts: [app.test], routes: [{keepalive: {idle: 5s, connections: 2}, timeouts: {response_header: 'off'}, to: 10.0.0.2:8080}]}"},
	{"passive_health=off", "{hosts: [app.test], routes: [{passive_health: 'off', to: 10.0.0.2:8080}]}"},
	{"passive_health.failures=5 passive_health.cooldown=1m", "{hosts: [app.test], routes: [{passive_health: {failures: 5, cooldown: 1m}, to: 10.0.0.2:8080}]}"},
	{"circuit.requests=10 circuit.pending=20 circuit.wait=1s retry.attempts=2 retry.budget=0.5", "{hosts: [app.test], routes: [{circuit: {requests: 10, pending: 20, wait: 1s}, retry: {attempts: 2, budget: 0.5}, to: 10.0.0.2:8080}]}"},
	{"timeouts.connect=1s timeouts.response_header=5m", "{hosts: [app.test], routes: [{timeouts: {connect: 1s, response_header: 5m}, to: 10.0.0.2:8080}]}"},
	{"tcp=true port=5432 tcp.idle=2h tcp.connections=50 tcp.proxy_protocol=v2 tcp.starttls=postgres allow=10.0.0.0/8 health.interval=3s", "{hosts: [app.test], allow: 10.0.0.0/8, tcp: {to: 10.0.0.2:5432, idle: 2h, connections: 50, proxy_protocol: v2, starttls: postgres, health: {interval: 3s}}}"},
	{"tcp=true scheme=tls tcp.alpn=mqtt,x", "{hosts: [app.test], tcp: {to: 'tls://10.0.0.2:8080', alpn: [mqtt, x]}}"},
	{"tcp=true tcp.passthrough=true", "{hosts: [app.test], tcp: {to: 10.0.0.2:8080, passthrough: true}}"},
}

// labelled are the labels of a line such as "port=3000 path=/api", with a host unless it names one.
func labelled(line string) map[string]string {
	labels := map[string]string{Prefix + "host": "app.test"}
	for _, label := range strings.Split(strings.ReplaceAll(line, ", ", ",\x00"), " ") {
		name, value, _ := strings.Cut(label, "=")
		labels[Prefix+name] = strings.ReplaceAll(value, "\x00", " ")
	}
	return labels
}

// looked is what a look at containers finds that were made one after the other, each exposing port 8080 at 10.0.0.2 and on.
func looked(containers ...map[string]string) *Found {
	found := &Found{}
	w := New(&config.Docker{}, nil)
	at := &place{name: "padlock", networks: map[string]string{"id-front": "front"}}
	for i, labels := range containers {
		about := &inspected{ID: strings.Repeat(string(rune('a'+i)), 12), Name: "/" + string(rune('a'+i)), Created: time.Unix(int64(i), 0)}
		last := string(rune('2' + i))
		about.Config.Labels, about.Config.ExposedPorts = labels, map[string]struct{}{"8080/tcp": {}, "8080/udp": {}}
		about.NetworkSettings.Networks = map[string]*attachment{"back": {NetworkID: "id-back", IPAddress: "10.9.0." + last}, "front": {NetworkID: "id-front", IPAddress: "10.0.0." + last}}
		w.add(found, at, about, about)
	}
	return found
}

func base(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("padlock.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestEachLabelDoesWhatItsKeyDoes(t *testing.T) {
	t.Setenv("DOLLAR", "${HOME}") // a label's text is never expanded
	covered := map[string]bool{}
	for _, m := range meanings {
		labels := labelled(m.labels)
		merged, problems := looked(labels).Merge(base(t, "docker: {access: [{name: staff, forward_auth: {to: 'http://127.0.0.1:9091', uri: /verify}, rate_limit: {requests: 9, per: 1m}}]}"), nil)
		if len(problems) > 0 {
			t.Errorf("%s: %v", m.labels, problems)
		}
		want := base(t, "sites: ["+strings.ReplaceAll(m.site, "DOLLAR", "'${DOLLAR}'")+"]").Sites
		if !reflect.DeepEqual(merged.Sites, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", m.labels, merged.Sites, want)
		}
		for label := range labels {
			k, _, _ := find(strings.TrimPrefix(label, Prefix))
			covered[k.name] = true
		}
	}
	for _, k := range keys {
		if !covered[k.name] {
			t.Errorf("no case for %s", k.name)
		}
	}
}

// A label under a name that its key had before means the same, and is told; under both names it is refused.
func TestRenamedLabelsWorkAndWarn(t *testing.T) {
	plain := base(t, "docker: on")
	want, _ := looked(labelled("host=app.test passive_health.failures=5")).Merge(plain, nil)
	got, problems := looked(labelled("host=app.test passive.failures=5")).Merge(plain, nil)
	if len(got.Sites) != 1 || !reflect.DeepEqual(got.Sites, want.Sites) {
		t.Errorf("%+v\nwant\n%+v", got.Sites, want.Sites)
	}
	if len(problems) != 1 || !problems[0].Works || problems[0].Label != "padlock.passive.failures" || problems[0].Message != "is now padlock.passive_health.failures" {
		t.Errorf("%+v", problems)
	}

	got, problems = looked(labelled("host=app.test passive.failures=5 passive_health.failures=5")).Merge(plain, nil)
	if len(got.Sites) != 0 || len(problems) != 1 || problems[0].Works || problems[0].Remedy != "remove padlock.passive.failures" {
		t.Errorf("%d sites: %+v", len(got.Sites), problems)
	}
}

func TestWrongLabelsAreNamedWithTheirRemedy(t *testing.T) {
	for line, want := range map[string]string{
		"helth.path=/":                       "padlock.helth.path: padlock knows no such label; did you mean health.path?",
		"colour=red":                         "padlock.colour: padlock knows no such label",
		"host=a_b..c":                        `padlock.host: "a_b..c" is not a host name, an address, *.name or *`,
		"host=":                              `padlock.host: is empty`,
		"port=http":                          `padlock.port: "http" is not a number from 1 to 65535`,
		"port=080":                           `padlock.port: "080" is not a number`,
		"scheme=ftp":                         `padlock.scheme: "ftp" must be one of: http, https, h2c`,
		"weight=-1":                          `padlock.weight: "-1" is not a whole number above 0`,
		"weight=1001":                        "padlock.weight: 1001 must be from 1 to 1000",
		"path=api":                           `padlock.path: "api": a path begins with a slash: write /api`,
		"strip_prefix=true":                  "strip_prefix and replace_prefix need the path that they take off",
		"methods=get":                        `padlock.methods: "get" is not a method such as GET`,
		"host_header=a/b":                    "padlock.host_header: ",
		"allow=10.0.0.1/8":                   `padlock.allow: "10.0.0.1/8" has bits set behind its length`,
		"basic_auth.users=alice":             "padlock.basic_auth.users: needs name:hash",
		"basic_auth.users=alice:secret":      "padlock.basic_auth.users: is not a bcrypt hash",
		"basic_auth.realm=staff":             "padlock.basic_auth.users: needs users or users_file: nobody could come in",
		"headers.request.set.Host=x":         "padlock.headers.request.set.Host: Host cannot be changed",
		"headers.response.set.X={who}":       "padlock.headers.response.set.X: ",
		"headers.response.set.=x":            "padlock.headers.response.set.: padlock knows no such label",
		"health.interval=5s":                 "padlock.health.path: ",
		"health.path=/ health.interval=soon": `padlock.health.interval: "soon" is not a duration such as 10s or 2m`,
		"balance=fair":                       `padlock.balance: "fair" must be one of: round_robin`,
		"circuit.pending=3":                  "padlock.circuit.pending: needs circuit.requests",
		"hsts=on":                            `padlock.hsts: "on" must be off`,
		"hsts.preload=true":                  "padlock.hsts.preload: browsers' lists ask for",
		"www=both":                           `padlock.www: "both" must be one of: add, remove`,
		"host=*.x.test www=add":              "padlock.www: *.x.test has no other name",
		"tcp=true path=/":                    "padlock.path: is for HTTP, and padlock.tcp asks for plain bytes",
		"tcp.idle=1h":                        `padlock.tcp.idle: goes with padlock.tcp: "true" only`,
		"tcp=true tcp.starttls=imap":         `padlock.tcp.starttls: "imap" must be one of: postgres`,
		"tcp=true hash_by=address":           "padlock.hash_by: goes with balance: hash only",
		"ca=/etc/passwd":                     "padlock.ca: padlock knows no such label",
		"api_keys.file=/etc/passwd":          "padlock.api_keys.file: padlock knows no such label",
		"forward_auth.to=10.0.0.9":           "padlock.forward_auth.to: padlock knows no such label",
		"jwt.jwks=http://x/":                 "padlock.jwt.jwks: padlock knows no such label",
		"rate_limit.redis=redis://x":         "padlock.rate_limit.redis: padlock knows no such label",
		"rate_limit.by=cookie":               `padlock.rate_limit.by: "cookie" must be address, user`,
		"access=staff":                       `padlock.access: "staff": the configuration has no rules for containers`,
		"access=":                            `padlock.access: is empty`,
		"percent=0":                          `padlock.percent: "0" must be from 0.01 to 100`,
		"basic_auth.users_file=/etc/passwd":  "padlock.basic_auth.users_file: padlock knows no such label",
		"routes.b.path=/b routes.b.color=x":  "padlock.routes.b.color: padlock knows no such label",
		"network=other":                      "padlock.network: is not in the network other, but in: back, front",
		"headers.request.set." + strings.Repeat("x", maxName) + "=1": "xxx…: the label's name is longer than 256 bytes",
		"forwarded=" + strings.Repeat("x", maxValue+1):               "padlock.forwarded: is longer than 16384 bytes",
		"host=" + strings.Repeat("a.test,", 101):                     "padlock.host: has more than 100 names",
		"host=*.example.com":                                         "padlock.host: a wildcard certificate needs dns-01",
	} {
		merged, problems := looked(labelled(line), labelled("host=other.test")).Merge(base(t, "docker: on"), nil)
		if len(merged.Sites) != 1 || merged.Sites[0].Hosts[0] != "other.test" {
			t.Errorf("%.40s: %+v", line, merged.Sites)
		}
		var all strings.Builder
		for _, p := range problems {
			if all.WriteString(p.Error() + "\n"); p.Owner != "a" {
				t.Errorf("%.40s: the container is %q", line, p.Owner)
			}
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("%.40s:\n%swant\n%s", line, all.String(), want)
		}
		if strings.Contains(all.String(), "secret") {
			t.Errorf("%s: the error repeats what may be a password", line)
		}
	}
}

func TestAPortIsFoundOrAskedFor(t *testing.T) {
	for _, c := range []struct {
		exposed    []string
		port, want string
	}{
		{[]string{"80/tcp"}, "80", ""},
		{[]string{"80/tcp", "443/udp"}, "80", ""},
		{nil, "", "is missing, and the image exposes no TCP port"},
		{[]string{"9000/udp", "0/tcp", "x"}, "", "is missing, and the image exposes no TCP port"},
		{[]string{"9000/tcp", "80/tcp"}, "", "is missing, and the image exposes several: 80, 9000"},
	} {
		about := &inspected{}
		about.Config.ExposedPorts = map[string]struct{}{}
		for _, e := range c.exposed {
			about.Config.ExposedPorts[e] = struct{}{}
		}
		port, err := about.onlyPort()
		if port != c.port || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %q, %v", c.exposed, port, err)
		}
	}
}

func TestNamedRoutesHaveTheHostsOfTheirContainer(t *testing.T) {
	merged, problems := looked(labelled("port=80 routes.admin.path=/admin routes.admin.port=9000 routes.admin.allow=10.0.0.0/8 routes.api.host=api.test routes.api.port=8000")).Merge(base(t, "docker: on"), nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := base(t, "sites: [{hosts: [api.test], routes: [{to: 10.0.0.2:8000}]}, {hosts: [app.test], routes: [{to: 10.0.0.2:80}, {path: /admin, allow: 10.0.0.0/8, to: 10.0.0.2:9000}]}]").Sites
	if !reflect.DeepEqual(merged.Sites, want) {
		t.Errorf("%+v", merged.Sites)
	}
	if !wants(map[string]string{"padlock.routes.x.host": "a.test"}) || wants(map[string]string{"padlock.port": "80", "padlock.routes.host": "", "traefik.enable": "true"}) {
		t.Error("only a host asks for a site")
	}
}

// The table of docs/discovery.md has every label, and no other.
func TestTheTableHasEveryLabel(t *testing.T) {
	text, err := os.ReadFile("../docs/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`padlock\\.[^|]*)\\|").FindAllSubmatch(text, -1) {
		for _, label := range regexp.MustCompile("`padlock\\.([a-z0-9_.]*)").FindAllSubmatch(row[1], -1) {
			described[string(label[1])] = true
		}
	}
	for _, k := range keys {
		if !described[k.name] {
			t.Errorf("%s is not in the table", k.name)
		}
		delete(described, k.name)
	}
	for label := range described {
		if label != routes {
			t.Errorf("%s is in the table, and there is no such label", label)
		}
	}
}

// Whatever labels say, they are read without a crash into a configuration that is valid, or refused; they open no file, see no variable,
// and leave others alone.
func FuzzLabels(f *testing.F) {
	for _, m := range meanings {
		f.Add(strings.ReplaceAll(m.labels, " ", "\n"))
	}
	f.Add("host=a.test\nroutes.b.path=/b\nroutes..host=x\nroutes.c.tcp=true")
	f.Add("host=*\nallow=::/0\nheaders.response.set.A-B={{}}")
	standing, err := config.Parse("padlock.yaml", []byte("docker: {domains: [test, example.com]}\nsites: [{hosts: [file.test], routes: [{to: 3000}]}]"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		labels := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, "=")
			labels[Prefix+name] = value
		}
		merged, problems := looked(map[string]string{Prefix + "host": "fixed.test"}, labels).Merge(standing, nil)
		hosts := map[string]int{}
		for i, site := range merged.Sites {
			for _, host := range site.Hosts {
				hosts[host]++
			}
			for _, r := range site.Routes {
				if r.CA+r.ClientCert+r.ClientKey != "" || r.Access.BasicAuth != nil && r.Access.BasicAuth.UsersFile != "" || i > 0 && len(r.To) == 0 {
					t.Errorf("%+v", r)
				}
			}
		}
		if hosts["file.test"] != 1 || hosts["fixed.test"] != 1 {
			t.Errorf("%v", hosts)
		}
		for host, n := range hosts {
			if name := strings.TrimPrefix(host, "*."); n > 1 || !config.Within(name, []string{"test", "example.com"}) && !config.Within(strings.TrimPrefix(name, "www."), []string{"test", "example.com"}) {
				t.Errorf("%s is served, %d times", host, n)
			}
		}
		for _, p := range problems {
			if p.Owner == "" || p.Message == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
