"""Shows who its visitor is, as the proxy in front of it says."""

import http.server
import os


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        user = self.headers.get("X-Auth-Request-User", "nobody")
        body = f"hello {user}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("APP_PORT", "3000"))), Handler).serve_forever()
