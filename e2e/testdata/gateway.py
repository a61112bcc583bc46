"""What a gateway does for apps, tried with nginx, HAProxy, Caddy and padlock beside each other.

    python3 gateway.py PADLOCK

Each program is configured as its documentation says, in front of the same targets. The table that is printed has a row
for each capability, and in each cell what a client has seen. It is the one of docs/comparison.md.
"""

import base64
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

PADLOCK = os.path.abspath(sys.argv[1])
DIR = tempfile.mkdtemp(prefix="gateway-")
os.chmod(DIR, 0o755)  # nginx's workers run as another user
NAMES = ["nginx", "haproxy", "caddy", "padlock"]
started = []


def file(name, text):
    path = os.path.join(DIR, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w" if isinstance(text, str) else "wb") as f:
        f.write(text)
    return path


given = set()


def free():
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in given:
            given.add(port)
            return port


def launch(name, *command, env=None):
    log = open(os.path.join(DIR, name + ".log"), "ab")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=DIR, env={**os.environ, "HOME": DIR, "XDG_DATA_HOME": DIR, "XDG_CONFIG_HOME": DIR, **(env or {})})
    started.append(process)
    return process


def await_port(port, name):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{name} does not listen:\n" + open(os.path.join(DIR, name + ".log")).read())


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=DIR, env={**os.environ, "HOME": DIR, "XDG_DATA_HOME": DIR, "XDG_CONFIG_HOME": DIR})
    return done.returncode, done.stdout + done.stderr


# ---- targets -------------------------------------------------------------------------------------------------------

TEXT = ("<p>A page that a program has made, and that compresses well.</p>\n" * 120).encode()
requests_seen = {}


class Target(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        name = self.server.name
        requests_seen.setdefault(name, []).append(dict(self.headers))
        if name == "login":  # it decides about requests
            if "session=ok" in self.headers.get("Cookie", ""):
                return self.answer(200, Remote_User="alice")
            return self.answer(302, Location="https://login.test/")
        if name == "broken":
            return self.answer(500, b"broken")
        if self.path.endswith("/fail"):
            return self.answer(500, b"a stack trace", Content_Type="text/plain")
        if self.path.endswith("/text"):
            return self.answer(200, TEXT, Content_Type="text/html", ETag='"v1"')
        told = {k: v for k, v in self.headers.items()}
        body = json.dumps({"name": name, "proto": self.request_version, "fields": told}).encode()
        self.answer(200, body, Content_Type="application/json")

    do_POST = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a proxy has closed a connection


def target(name):
    server = Server(("127.0.0.1", 0), Target)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


# A server of HTTP/2 over TLS: it says how it was asked, and answers gRPC. With "h2" it speaks nothing else, and takes
# WebSockets (RFC 8441).
NODE = r"""
const http2 = require("http2"), fs = require("fs");
const [cert, key, mode] = process.argv.slice(2);
const server = http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: mode == "both", settings: {enableConnectProtocol: mode == "h2"}});
if (mode == "h2") server.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  if (headers[":protocol"] !== "websocket") { stream.respond({":status": 404}, {endStream: true}); return; }
  stream.respond({":status": 200});
  stream.pipe(stream);
});
else server.on("request", (request, response) => {
  if (!(request.headers["content-type"] || "").startsWith("application/grpc")) { response.end("HTTP/" + request.httpVersion.replace("2.0", "2")); return; }
  response.setHeader("content-type", request.headers["content-type"]);
  const status = () => response.addTrailers({"grpc-status": "0"});
  request.on("data", (data) => response.write(data));
  request.on("end", () => { status(); response.end(); });
});
server.listen(0, "127.0.0.1", function () { console.log(this.address().port); });
"""


def node(*args):
    process = subprocess.Popen(["node", file("server.js", NODE), *args], stdout=subprocess.PIPE, text=True)
    started.append(process)
    return "127.0.0.1:" + process.stdout.readline().strip()


# ---- what they share -----------------------------------------------------------------------------------------------

def certificate():
    cert, key = os.path.join(DIR, "cert.pem"), os.path.join(DIR, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,DNS:errors.localhost,DNS:deploy.localhost,IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o644)
    return cert, key, file("both.pem", open(cert).read() + open(key).read())


CERT, KEY, BOTH = certificate()
CONTEXT = ssl.create_default_context(cafile=CERT)
APP, APP2, LOGIN, MIRROR, BROKEN = (target(n) for n in ["app", "app2", "login", "mirror", "broken"])
SECURE, ONLY2 = node(CERT, KEY, "both"), node(CERT, KEY, "h2")
HTTPS = {n: free() for n in NAMES}
PLAIN = {n: free() for n in NAMES}

# Files, and what should not be served of them.
STYLE = "body { margin: 0 }\n" * 200
file("root/files/style.css", STYLE)
file("root/files/index.html", "<h1>index</h1>")
file("root/files/.git/config", "secret")
file("secret.txt", "secret")
os.symlink(os.path.join(DIR, "secret.txt"), os.path.join(DIR, "root/files/link.txt"))
for tool, ending in [("gzip", "gz"), ("brotli", "br"), ("zstd", "zst")]:
    file("root/files/style.css." + ending, b"made by " + tool.encode())  # what is sent shows which file was chosen
file("pages/404.html", "<h1>own 404</h1>")
file("pages/failed.html", "<h1>own failure</h1>")
os.chmod(file("keys.txt", "ci:secret-key-of-the-client\n"), 0o600)
file("keys.map", "secret-key-of-the-client ci\n")

# The password is "secret".
BCRYPT = "anna:$2y$05$ZOxrbU6w00aKDNVIGEJmZeZSW9GgceG7PPgX0Kflkw9QWSbPjfJ7y"
ARGON2 = "anna:$argon2id$v=19$m=4096,t=1,p=1$c2FsdHNhbHRzYWx0$4gM2Jwr9dUwTTILVumzNridn55lEnVAJXpWt9vgOKPw"
file("bcrypt.htpasswd", BCRYPT + "\n")
file("argon2.htpasswd", ARGON2 + "\n")


# Tokens (RFC 7519), signed with two keys one after the other: the second is what an issuer changes to.
def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def issuer_key(name):
    path = os.path.join(DIR, name + ".pem")
    subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", path, "-pubout"], check=True, capture_output=True, text=True).stdout
    modulus = subprocess.run(["openssl", "rsa", "-in", path, "-noout", "-modulus"], check=True, capture_output=True, text=True).stdout.strip().partition("=")[2]
    return path, file(name + ".pub", public), {"kty": "RSA", "kid": name, "alg": "RS256", "use": "sig", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}


def token(key, kid, **claims):
    body = {"iss": "https://login.test/", "aud": "api", "sub": "alice", "exp": int(time.time()) + 600, **claims}
    text = b64(json.dumps({"alg": "RS256", "kid": kid}).encode()) + "." + b64(json.dumps(body).encode())
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), capture_output=True, check=True).stdout
    return text + "." + b64(signature)


KEY1, PUB1, JWK1 = issuer_key("one")
KEY2, PUB2, JWK2 = issuer_key("two")
JWKS = file("jwks.json", json.dumps({"keys": [JWK1]}))


# ---- programs ------------------------------------------------------------------------------------------------------

FORWARD = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;"


def nginx_conf(to):
    return file("nginx.conf", f"""
daemon off; pid {DIR}/nginx.pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off; types {{ text/html html; text/css css; }}
  client_body_temp_path {DIR}/n1; proxy_temp_path {DIR}/n2; fastcgi_temp_path {DIR}/n3; uwsgi_temp_path {DIR}/n4; scgi_temp_path {DIR}/n5;
  ssl_certificate {CERT}; ssl_certificate_key {KEY};
  gzip on; gzip_types text/css application/json; gzip_proxied any; gzip_vary on;
  map $http_x_canary $tester {{ yes {APP2}; default ""; }}
  split_clients "$remote_addr$http_user_agent" $share {{ 10% {APP2}; * {APP}; }}
  map $tester $canary {{ "" $share; default $tester; }}
  map $http_x_api_key $client {{ default ""; "secret-key-of-the-client" ci; }}
  map $http_origin $origin {{ default ""; https://app.test $http_origin; }}
  limit_req_zone $binary_remote_addr zone=limited:1m rate=5r/m;
  upstream deploy {{ server {to}; }}
  server {{
    listen 127.0.0.1:{HTTPS["nginx"]} ssl http2; server_name localhost; root {DIR}/root;
    location /files/ {{ gzip_static on; }}
    location /text {{ proxy_pass http://{APP}; {FORWARD} }}
    location /tls {{ proxy_pass https://{SECURE}; proxy_ssl_verify on; proxy_ssl_trusted_certificate {CERT}; proxy_ssl_name localhost; {FORWARD} }}
    location /ws {{ proxy_pass https://{ONLY2}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}
    location /test.Echo/ {{ grpc_pass grpcs://{SECURE}; grpc_ssl_verify on; grpc_ssl_trusted_certificate {CERT}; grpc_ssl_name localhost; }}
    location /auth {{ auth_request /verify; auth_request_set $user $upstream_http_remote_user; proxy_set_header Remote-User $user; proxy_pass http://{APP}; {FORWARD} }}
    location = /verify {{ internal; proxy_pass http://{LOGIN}; proxy_pass_request_body off; proxy_set_header Content-Length ""; }}
    location /key {{ if ($client = "") {{ return 401; }} proxy_set_header X-Forwarded-User $client; proxy_pass http://{APP}; {FORWARD} }}
    location /limited {{ limit_req zone=limited burst=4 nodelay; limit_req_status 429; proxy_pass http://{APP}; {FORWARD} }}
    location /canary {{ proxy_pass http://$canary; {FORWARD} }}
    location /mirror {{ mirror /copy; proxy_pass http://{APP}; {FORWARD} }}
    location = /copy {{ internal; proxy_pass http://{MIRROR}$request_uri; }}
    location /cors {{
      if ($request_method = OPTIONS) {{ add_header Access-Control-Allow-Origin $origin; add_header Access-Control-Allow-Methods PUT; return 204; }}
      add_header Access-Control-Allow-Origin $origin always; proxy_pass http://{APP}; {FORWARD}
    }}
    location /bcrypt {{ auth_basic staff; auth_basic_user_file {DIR}/bcrypt.htpasswd; proxy_pass http://{APP}; {FORWARD} }}
    location /argon2 {{ auth_basic staff; auth_basic_user_file {DIR}/argon2.htpasswd; proxy_pass http://{APP}; {FORWARD} }}
  }}
  server {{
    listen 127.0.0.1:{HTTPS["nginx"]} ssl http2; server_name errors.localhost; root {DIR}/pages;
    error_page 404 /404.html; error_page 500 /failed.html; proxy_intercept_errors on;
    location /app {{ proxy_pass http://{APP}; {FORWARD} }}
  }}
  server {{
    listen 127.0.0.1:{HTTPS["nginx"]} ssl http2; server_name deploy.localhost;
    location / {{ proxy_pass http://deploy; {FORWARD} }}
  }}
  server {{ listen 127.0.0.1:{PLAIN["nginx"]}; server_name plain.localhost; location / {{ proxy_pass http://{APP}; {FORWARD} }} }}
}}
""")


HAPROXY_HEAD = """global
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
"""


def haproxy_conf():
    return file("haproxy.cfg", HAPROXY_HEAD.replace("  nbthread 1", f"  nbthread 1\n  stats socket {DIR}/haproxy.sock level admin") + f"""
http-errors own
  errorfile 404 {file("pages/404.http", "HTTP/1.0 404 Not Found" + chr(13) + chr(10) + "Content-Type: text/html" + chr(13) + chr(10) + chr(13) + chr(10) + "<h1>own 404</h1>")}
frontend f
  bind 127.0.0.1:{HTTPS["haproxy"]} ssl crt {BOTH} alpn h2,http/1.1
  bind 127.0.0.1:{PLAIN["haproxy"]}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  http-request deny deny_status 401 if {{ path_beg /jwt }} !{{ http_auth_bearer -m found }}
  http-request set-var(txn.now) date() if {{ path_beg /jwt }}
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int') if {{ path_beg /jwt }}
  http-request deny deny_status 401 if {{ path_beg /jwt }} !{{ http_auth_bearer,jwt_header_query('$.alg') -m str RS256 }}
  http-request deny deny_status 401 if {{ path_beg /jwt }} !{{ http_auth_bearer,jwt_verify("RS256","{PUB1}") 1 }}
  http-request deny deny_status 401 if {{ path_beg /jwt }} !{{ http_auth_bearer,jwt_payload_query('$.aud') -m str api }}
  http-request deny deny_status 401 if {{ path_beg /jwt }} {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
  http-request set-var(txn.client) req.hdr(x-api-key),map({DIR}/keys.map) if {{ path_beg /key }}
  http-request deny deny_status 401 if {{ path_beg /key }} !{{ var(txn.client) -m found }}
  http-request set-header X-Forwarded-User %[var(txn.client)] if {{ path_beg /key }}
  http-request track-sc0 src table rates if {{ path_beg /limited }}
  http-request deny deny_status 429 if {{ path_beg /limited }} {{ sc_http_req_rate(0) gt 5 }}
  acl ours req.hdr(origin) -m str https://app.test
  http-request set-var(txn.origin) req.hdr(origin) if ours {{ path_beg /cors }}
  http-request return status 204 hdr Access-Control-Allow-Methods PUT if {{ path_beg /cors }} METH_OPTIONS
  http-after-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if {{ var(txn.origin) -m found }}
  http-request auth realm staff if {{ path_beg /bcrypt }} !{{ http_auth(bcrypt) }}
  http-request auth realm staff if {{ path_beg /argon2 }} !{{ http_auth(argon2) }}
  http-request return status 404 errorfiles own if {{ hdr_beg(host) errors.localhost }} {{ path /missing }}
  use_backend errors if {{ hdr_beg(host) errors.localhost }}
  use_backend deploy if {{ hdr_beg(host) deploy.localhost }}
  use_backend app2 if {{ path_beg /canary }} {{ req.hdr(x-canary) yes }}
  use_backend share if {{ path_beg /canary }}
  use_backend secure if {{ path_beg /tls /test.Echo/ }}
  use_backend only2 if {{ path_beg /ws }}
  default_backend app
userlist bcrypt
  user anna password {BCRYPT.partition(":")[2]}
userlist argon2
  user anna password {ARGON2.partition(":")[2]}
backend rates
  stick-table type ip size 1m expire 1m store http_req_rate(1m)
backend app
  compression algo gzip
  compression type text/html
  server s {APP}
backend app2
  server s {APP2}
backend share
  cookie version insert indirect nocache
  server one {APP} cookie one weight 90
  server two {APP2} cookie two weight 10
backend secure
  server s {SECURE} ssl verify required ca-file {CERT} sni str(localhost) alpn h2,http/1.1
backend only2
  server s {ONLY2} ssl verify required ca-file {CERT} sni str(localhost) alpn h2
backend errors
  http-response return status 500 content-type text/html file {DIR}/pages/failed.html if {{ status 500 }}
  server s {APP}
backend deploy
  server s {APP}
""")


ADMIN = free()


def caddy_conf(to):
    return file("Caddyfile", f"""{{
  admin localhost:{ADMIN}
  auto_https off
  skip_install_trust
  default_sni localhost
  storage file_system {DIR}/caddy-storage
}}
https://localhost:{HTTPS["caddy"]} {{
  bind 127.0.0.1
  tls {CERT} {KEY}
  handle /files/* {{
    root * {DIR}/root
    file_server {{
      precompressed zstd br gzip
    }}
  }}
  handle /text {{
    encode zstd gzip
    reverse_proxy {APP}
  }}
  handle /tls {{
    reverse_proxy https://{SECURE} {{
      transport http {{
        tls_trusted_ca_certs {CERT}
        tls_server_name localhost
      }}
    }}
  }}
  handle /test.Echo/* {{
    reverse_proxy https://{SECURE} {{
      transport http {{
        tls_trusted_ca_certs {CERT}
        tls_server_name localhost
      }}
    }}
  }}
  handle /ws {{
    reverse_proxy https://{ONLY2} {{
      transport http {{
        tls_trusted_ca_certs {CERT}
        tls_server_name localhost
      }}
    }}
  }}
  handle /auth {{
    forward_auth {LOGIN} {{
      uri /verify
      copy_headers Remote-User
    }}
    reverse_proxy {APP}
  }}
  handle /key {{
    @ci header X-API-Key secret-key-of-the-client
    handle @ci {{
      reverse_proxy {APP} {{
        header_up X-Forwarded-User ci
      }}
    }}
    respond 401
  }}
  handle /canary {{
    @tester header X-Canary yes
    reverse_proxy @tester {APP2}
    reverse_proxy {APP} {APP2} {{
      lb_policy cookie version
    }}
  }}
  handle /cors {{
    @ours header Origin https://app.test
    header @ours Access-Control-Allow-Origin {{header.Origin}}
    @preflight method OPTIONS
    handle @preflight {{
      header Access-Control-Allow-Methods PUT
      respond 204
    }}
    reverse_proxy {APP}
  }}
  handle /bcrypt {{
    basicauth {{
      anna {base64.b64encode(BCRYPT.partition(":")[2].encode()).decode()}
    }}
    reverse_proxy {APP}
  }}
}}
https://errors.localhost:{HTTPS["caddy"]} {{
  bind 127.0.0.1
  tls {CERT} {KEY}
  handle /app/* {{
    reverse_proxy {APP} {{
      @failed status 5xx
      handle_response @failed {{
        root * {DIR}/pages
        rewrite * /failed.html
        file_server {{
          status {{http.reverse_proxy.status_code}}
        }}
      }}
    }}
  }}
  handle {{
    error 404
  }}
  handle_errors {{
    root * {DIR}/pages
    rewrite * /{{err.status_code}}.html
    file_server
  }}
}}
https://deploy.localhost:{HTTPS["caddy"]} {{
  bind 127.0.0.1
  tls {CERT} {KEY}
  reverse_proxy {to}
}}
http://plain.localhost:{PLAIN["caddy"]} {{
  bind 127.0.0.1
  reverse_proxy {APP}
}}
""")


def padlock_conf(name="padlock.yaml", https=None, plain=None, redis=None):
    more = f"\n      - {{path: /shared, rate_limit: {{requests: 5, per: 1h, redis: \"{redis}\"}}, to: \"{APP}\"}}" if redis else ""
    return file(name, f"""
listen: {{https: ["127.0.0.1:{https or HTTPS["padlock"]}"], http: ["127.0.0.1:{plain or PLAIN["padlock"]}"]}}
certificates: {{files: [{{cert: cert.pem, key: key.pem}}]}}
handshakes: {{show: "off"}}
access_log: {{format: "off"}}
sites:
  - hosts: [localhost]
    routes:
      - {{path: /files, files: {{root: root, precompressed: [zstd, br, gzip]}}}}
      - {{path: /text, compress: true, to: "{APP}"}}
      - {{path: /tls, to: "https://{SECURE}", ca: cert.pem, server_name: localhost}}
      - {{path: /test.Echo, to: "https://{SECURE}", ca: cert.pem, server_name: localhost, grpc_web: true}}
      - {{path: /ws, to: "https://{ONLY2}", ca: cert.pem, server_name: localhost}}
      - {{path: /auth, forward_auth: {{to: "{LOGIN}", uri: /verify, copy: [Remote-User]}}, to: "{APP}"}}
      - {{path: /jwt, jwt: {{jwks: jwks.json, issuer: "https://login.test/", audience: [api]}}, to: "{APP}"}}
      - {{path: /key, api_keys: {{file: keys.txt}}, to: "{APP}"}}
      - {{path: /limited, rate_limit: {{requests: 5, per: 1h}}, to: "{APP}"}}
      - {{path: /canary, header: {{X-Canary: "yes"}}, to: "{APP2}"}}
      - {{path: /canary, percent: 10, to: "{APP2}"}}
      - {{path: /canary, to: "{APP}"}}
      - {{path: /mirror, mirror: {{to: "{MIRROR}"}}, to: "{APP}"}}
      - {{path: /cors, cors: {{origins: ["https://app.test"], methods: [PUT]}}, to: "{APP}"}}
      - {{path: /bcrypt, basic_auth: {{users_file: bcrypt.htpasswd}}, to: "{APP}"}}
      - {{path: /argon2, basic_auth: {{users_file: argon2.htpasswd}}, to: "{APP}"}}{more}
  - hosts: [errors.localhost]
    errors: {{404: pages/404.html, 5xx: pages/failed.html}}
    intercept: [5xx]
    routes: [{{path: /app, to: "{APP}"}}]
  - {{hosts: [deploy.localhost], routes: [{{to: "{APP}"}}]}}
  - {{hosts: [plain.localhost], http: serve, routes: [{{to: "{APP}"}}]}}
""")


def start():
    launch("nginx", "nginx", "-e", "stderr", "-c", nginx_conf(APP))
    launch("haproxy", "haproxy", "-db", "-f", haproxy_conf())
    launch("caddy", "caddy", "run", "--adapter", "caddyfile", "--config", caddy_conf(APP))
    launch("padlock", PADLOCK, "run", "--config", padlock_conf())
    for name in NAMES:
        await_port(HTTPS[name], name)


# ---- what a client sees --------------------------------------------------------------------------------------------

class Answer:
    def __init__(self, response):
        self.status, self.fields, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)

    def told(self, name):
        """What the target was told by a header."""
        return {k.lower(): v for k, v in self.json()["fields"].items()}.get(name.lower(), "nothing")


def connect(name, host="localhost", plain=False, port=None):
    connection = socket.create_connection(("127.0.0.1", port or (PLAIN if plain else HTTPS)[name]), 60)
    if not plain:
        connection = CONTEXT.wrap_socket(connection, server_hostname=host)
    client = http.client.HTTPConnection(host, connection.getpeername()[1])
    client.sock = connection
    return client


def ask(name, path, host="localhost", method="GET", body=None, plain=False, port=None, client=None, **fields):
    own = client is None
    client = client or connect(name, host, plain, port)
    try:
        client.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        client.putheader("Host", f"{host}:{client.port}")
        for field, value in fields.items():
            client.putheader(field.replace("_", "-"), value)
        if body is not None:
            client.putheader("Content-Length", str(len(body)))
        client.endheaders(body)
        return Answer(client.getresponse())
    finally:
        if own:
            client.close()


def curl(name, path, *args):
    port = HTTPS[name]
    return said("curl", "-sS", "--http2", "--cacert", CERT, "--resolve", f"localhost:{port}:127.0.0.1", *args, f"https://localhost:{port}{path}")[1]


def refusal(out):
    found = re.search("unknown directive|unrecognized directive|unrecognized|unknown keyword|module not registered|unknown", out, re.I)
    return found.group(0).lower() if found else out


def refused(name, text):
    """What a program says of a directive that it does not have."""
    if name == "nginx":
        code, out = said("nginx", "-t", "-e", "stderr", "-c", file("try.conf", f"pid {DIR}/try.pid; events {{}}\nhttp {{ client_body_temp_path {DIR}/n1; server {{ listen 127.0.0.1:1; location / {{ {text} }} }} }}\n"))
    elif name == "haproxy":
        code, out = said("haproxy", "-c", "-f", file("try.cfg", HAPROXY_HEAD + "frontend f\n  bind 127.0.0.1:1\n  " + text + "\n"))
    else:
        code, out = said("caddy", "adapt", "--adapter", "caddyfile", "--config", file("Trying", f"http://localhost:1 {{\n  {text}\n}}\n"))
    if code == 0:
        raise SystemExit(f"{name} has this after all: {text}")
    return "– (`" + text.split("\n")[0].split(" {")[0] + "`: " + refusal(out) + ")"


# ---- rows ----------------------------------------------------------------------------------------------------------

ROWS = []


def row(title):
    def keep(do):
        ROWS.append((title, do))
        return do
    return keep


@row("Files: a range; the same ETag again; `.git/config`; a link that leads out of the directory")
def files(name):
    if name == "haproxy":
        return refused(name, "root /srv")
    part = ask(name, "/files/style.css", Range="bytes=0-15")
    whole = ask(name, "/files/style.css")
    again = ask(name, "/files/style.css", If_None_Match=whole.fields["ETag"])
    return f"{part.status}; {again.status}; {ask(name, '/files/.git/config').status}; {ask(name, '/files/link.txt').status}"


@row("Files compressed beforehand, for clients that accept zstd, Brotli or gzip alone")
def precompressed(name):
    if name == "haproxy":
        return "–"
    got = [ask(name, "/files/style.css", Accept_Encoding=coding).fields.get("Content-Encoding", "not encoded") for coding in ["zstd", "br", "gzip"]]
    return ", ".join(got)


@row("Compression of a target's response, for clients that accept zstd, Brotli or gzip alone; its ETag `\"v1\"`")
def compression(name):
    got = [ask(name, "/text", Accept_Encoding=coding) for coding in ["zstd", "br", "gzip"]]
    return ", ".join(a.fields.get("Content-Encoding", "not encoded") for a in got) + f"; `{got[2].fields.get('ETag', 'none')}`"


@row("The same for a request with a cookie that a page of another site has caused (BREACH)")
def breach(name):
    answer = ask(name, "/text", Accept_Encoding="gzip", Cookie="session=1", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script")
    return answer.fields.get("Content-Encoding", "not encoded")


@row("A site over plain HTTP; X-Forwarded-Proto at the target")
def plain(name):
    answer = ask(name, "/x", host="plain.localhost", plain=True)
    return f"{answer.status}, `{answer.told('X-Forwarded-Proto')}`"


@row("Protocol to an https target that accepts HTTP/2")
def to_tls(name):
    return ask(name, "/tls").body.decode()


@row("A WebSocket to a target that accepts HTTP/2 only (RFC 8441)")
def websocket(name):
    connection = CONTEXT.wrap_socket(socket.create_connection(("127.0.0.1", HTTPS[name]), 60), server_hostname="localhost")
    connection.sendall(f"GET /ws HTTP/1.1\r\nHost: localhost:{HTTPS[name]}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    connection.settimeout(60)
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(4096)
        if not more:
            return "closed"
        head += more
    status = head.split()[1].decode()
    if status == "101":
        connection.sendall(b"\x82\x85\0\0\0\0hello")
        status += ", echo" if connection.recv(100) else ", closed"
    connection.close()
    return status


CALL = b"\0\0\0\0\5hello"


@row("gRPC to a target with TLS: the status in the trailers")
def grpc(name):
    out = curl(name, "/test.Echo/Call", "-v", "-o", os.devnull, "-H", "Content-Type: application/grpc", "-H", "TE: trailers", "--data-binary", "@" + file("call", CALL))
    found = re.search(r"< grpc-status: (\d+)", out, re.I)
    return f"grpc-status: {found.group(1)}" if found else "none: " + "".join(re.findall(r"< HTTP/2 (\d+)", out))


@row("gRPC-Web to the same target: the status, as browsers can read it")
def grpc_web(name):
    answer = ask(name, "/test.Echo/Call", method="POST", body=CALL, Content_Type="application/grpc-web")
    return "grpc-status: 0, as the last frame" if b"\x80\0\0\0" in answer.body and b"grpc-status: 0" in answer.body else f"none: {answer.status}, the target gets gRPC-Web" if answer.status == 200 else f"none: {answer.status}"


@row("A login service decides: without a session it redirects; with one, the target learns the user, and not what the client has claimed")
def forward_auth(name):
    if name == "haproxy":
        return "not tried (Lua)"
    out = ask(name, "/auth")
    there = ask(name, "/auth", Cookie="session=ok", Remote_User="root")
    return f"{out.status}{', to the login' if out.fields.get('Location') == 'https://login.test/' else ''}; {there.status}, `{there.told('Remote-User')}`"


@row("JSON Web Tokens: a valid one; expired; for another audience; of a key that the issuer has changed to, without a reload")
def jwt(name):
    if name == "nginx":
        return refused(name, "auth_jwt api;")
    if name == "caddy":
        return refused(name, "jwtauth")
    bearer = lambda text: {"Authorization": "Bearer " + text}
    got = [ask(name, "/jwt", **bearer(t)).status for t in [
        token(KEY1, "one"), token(KEY1, "one", exp=int(time.time()) - 3600), token(KEY1, "one", aud="other")]]
    # The issuer changes its key, in the file that the program has.
    if name == "haproxy":
        file("one.pub", open(PUB2).read())
    else:
        file("jwks.json", json.dumps({"keys": [JWK2]}))
    rotated = token(KEY2, "two")
    for _ in range(100):
        status = ask(name, "/jwt", **bearer(rotated)).status
        if status == 200:
            break
        time.sleep(0.1)  # files are looked at from time to time
    return "; ".join(map(str, got + [status]))


@row("API keys: without one; with a key, the target learns the client's name")
def api_keys(name):
    with_key = ask(name, "/key", X_API_Key="secret-key-of-the-client", X_Forwarded_User="root")
    return f"{ask(name, '/key').status}; {with_key.status}, `{with_key.told('X-Forwarded-User')}`"


def limited(ports, path):
    got = [ask("padlock", path, port=p).status for p in (ports * 10)[:10]]
    return ", ".join(f"{got.count(s)} × {s}" for s in sorted(set(got)))


@row("A rate limit that lets five requests through at once: ten at once")
def rate_limit(name):
    if name == "caddy":
        return refused(name, "rate_limit 5r/m")
    return limited([HTTPS[name]], "/limited")


@row("The same limit, shared by two nodes through Redis")
def shared(name):
    if name == "haproxy":
        return "not tried (peers)"
    if name != "padlock":
        return "–"
    redis, https, http_ = free(), [free(), free()], [free(), free()]
    launch("redis", "redis-server", "--port", str(redis), "--save", "", "--dir", DIR)
    await_port(redis, "redis")
    for i in range(2):
        home = os.path.join(DIR, f"node{i}")
        os.makedirs(home)
        launch(f"node{i}", PADLOCK, "run", "--config", padlock_conf(f"node{i}.yaml", https[i], http_[i], f"redis://127.0.0.1:{redis}/0"),
               env={"HOME": home, "XDG_DATA_HOME": home})
        await_port(https[i], f"node{i}")
    return limited(https, "/shared")


def version(answer):
    return {"app": 1, "app2": 2}[answer.json()["name"]]


VISITORS = 120


@row(f"A route by a header; of {VISITORS} visitors with a share of 10 %, those who get version 2; who of them keeps it at the next visit")
def canary(name):
    tester = version(ask(name, "/canary", X_Canary="yes"))
    client, second = connect(name), []
    for i in range(VISITORS):
        answer = ask(name, "/canary", client=client, User_Agent=f"visitor {i}")
        if version(answer) == 2:
            second.append((i, answer.fields.get("Set-Cookie", "").partition(";")[0]))
    kept = sum(version(ask(name, "/canary", client=client, User_Agent=f"visitor {i}", **({"Cookie": cookie} if cookie else {}))) == 2 for i, cookie in second)
    client.close()
    share = "about 10 %" if 0 < len(second) <= VISITORS / 4 else "about half" if abs(len(second) - VISITORS / 2) < VISITORS / 4 else len(second)
    how = {"nginx": "by address and User-Agent", "caddy": "by a cookie; `weighted_round_robin`: " + refused("caddy", "reverse_proxy a b {\n lb_policy weighted_round_robin 9 1\n }").rpartition(": ")[2].rstrip(")")}.get(name, "by a cookie")
    return f"version {tester}; {share}; {'all' if kept == len(second) else kept}, {how}"


@row("A command that says which route answers a request, and why")
def explain(name):
    if name == "padlock":
        code, out = said(PADLOCK, "route", "explain", "https://localhost/canary", "-H", "X-Canary: yes", "--config", "padlock.yaml")
        return "`padlock route explain`" if code == 0 and "matches" in out else out
    out = said(name, *{"nginx": ["-h"], "haproxy": ["-h"], "caddy": ["help"]}[name])[1]
    return "–" if not re.search("explain|which route", out) else out


@row("Error pages of one's own: a path without a route; in the place of a target's 500")
def errors(name):
    missing, failed = ask(name, "/missing", host="errors.localhost"), ask(name, "/app/fail", host="errors.localhost")
    page = lambda a: f"{a.status}, {'own page' if b'own' in a.body else a.body[:30]}"
    return f"{page(missing)}; {page(failed)}"


def runtime(command):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(DIR, "haproxy.sock"))
        s.sendall(command.encode() + b"\n")
        return s.recv(1000).decode()


def restart(name, *command):
    process = next(p for p in started if p.args[0] == command[0] and p.poll() is None)
    process.terminate()
    process.wait()
    launch(name, *command)
    await_port(HTTPS[name], name)


@row("Maintenance by a command; after a restart of the program")
def maintenance(name):
    status = lambda: str(ask(name, "/", host="deploy.localhost").status)
    if name == "padlock":
        code, out = said(PADLOCK, "maintenance", "on", "deploy.localhost")
        first = status()
        restart("padlock", PADLOCK, "run", "--config", os.path.join(DIR, "padlock.yaml"))
        second = status()
        said(PADLOCK, "maintenance", "off", "deploy.localhost")
        return f"{first}; {second}" if code == 0 else out
    if name == "haproxy":
        runtime("set server deploy/s state maint")
        first = status()
        restart("haproxy", "haproxy", "-db", "-f", os.path.join(DIR, "haproxy.cfg"))
        return f"{first}; {status()}"
    return "– (a change of the configuration)"


@row("A mirror: copies of ten requests; their cookies and content")
def mirror(name):
    if name == "haproxy":
        return "not tried (SPOE)"
    if name == "caddy":
        return refused(name, "mirror localhost:1")
    before = len(requests_seen.get("mirror", []))
    for _ in range(10):
        ask(name, "/mirror", method="POST", body=b"content", Cookie="session=secret")
    for _ in range(100):
        copies = requests_seen.get("mirror", [])[before:]
        if len(copies) >= 10:
            break
        time.sleep(0.05)
    has = lambda field: any(k.lower() == field and v != "0" for c in copies for k, v in c.items())
    return f"{len(copies)}; {'with' if has('cookie') else 'without'} cookies, {'with' if has('content-length') else 'without'} content"


@row("CORS: a preflight request of a permitted origin; of another")
def cors(name):
    def one(origin):
        before = len(requests_seen["app"])
        answer = ask(name, "/cors", method="OPTIONS", Origin=origin, Access_Control_Request_Method="PUT")
        who = "" if len(requests_seen["app"]) == before else ", by the target"
        return f"{answer.status}{who}, {'allowed' if answer.fields.get('Access-Control-Allow-Origin') else 'not allowed'}"
    how = "" if name == "padlock" else " (by hand)"
    return f"{one('https://app.test')}; {one('https://else.test')}{how}"


@row("A password with a hash of bcrypt; of Argon2id")
def hashes(name):
    def one(path):
        right, wrong = (ask(name, path, Authorization="Basic " + base64.b64encode(b"anna:" + p).decode()).status for p in [b"secret", b"wrong"])
        return f"{right}, with a wrong one {wrong}"
    second = refused(name, "basicauth argon2id {\n anna aGFzaA==\n }") if name == "caddy" else one("/argon2")
    return f"{one('/bcrypt')}; {second}"


def visits(name, change):
    """Whether visitors fail during a change, and what they get after it."""
    failed, over = [], threading.Event()

    def visitor():
        while not over.wait(0.01):
            try:
                if ask(name, "/", host="deploy.localhost").status != 200:
                    failed.append(1)
            except OSError:
                failed.append(1)
    crowd = [threading.Thread(target=visitor) for _ in range(2)]
    for one in crowd:
        one.start()
    time.sleep(0.3)  # of visits before the change
    before = served(name)
    change()
    for _ in range(200):  # a reload may take its time
        if name == "padlock" or served(name) != before:
            break
        time.sleep(0.05)
    time.sleep(0.5)  # of visits after it
    over.set()
    for one in crowd:
        one.join()
    return "some fail" if failed else "none fails", served(name)


def served(name):
    answer = ask(name, "/", host="deploy.localhost")
    return {"app": "version 1", "app2": "version 2"}[answer.json()["name"]] if answer.status == 200 else f"all get {answer.status}"


def switch(name, to):
    if name == "nginx":
        nginx_conf(to)
        os.kill(next(p for p in started if p.args[0] == "nginx").pid, signal.SIGHUP)
    elif name == "haproxy":
        host, _, port = to.partition(":")
        runtime(f"set server deploy/s addr {host} port {port}")
    elif name == "caddy":
        caddy_conf(to)
        said("caddy", "reload", "--adapter", "caddyfile", "--config", os.path.join(DIR, "Caddyfile"), "--address", f"localhost:{ADMIN}")
    else:
        said(PADLOCK, "deploy", "deploy.localhost", "--to", to, "--health", "/", "--timeout", "1s" if to == BROKEN else "30s", "--observe", "200ms")


@row("A deploy to version 2 under load; to a version that answers 500")
def deploy(name):
    how = {"nginx": "reload", "haproxy": "`set server`", "caddy": "`caddy reload`", "padlock": "`padlock deploy`"}[name]
    to_second, second = visits(name, lambda: switch(name, APP2))
    _, then = visits(name, lambda: switch(name, BROKEN))
    return f"{how}: {to_second}, {second}; {then}"


def main():
    only = sys.argv[2:]
    versions = [said("nginx", "-v")[1].strip().rpartition("/")[2], said("haproxy", "-v")[1].split()[2].partition("-")[0], said("caddy", "version")[1].split()[0]]
    print(f"| | nginx {versions[0]} | HAProxy {versions[1]} | Caddy {versions[2]} | padlock |\n|---|---|---|---|---|")
    start()
    for title, do in ROWS:
        if only and do.__name__ not in only:
            continue
        cells = []
        for name in NAMES:
            try:
                cells.append(do(name))
            except Exception as e:
                cells.append(f"FAILED {type(e).__name__}: {e}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


try:
    main()
finally:
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(DIR, ignore_errors=True)
