"""An API that counts visits. padlock removes /api from the paths that it sees."""

import http.server
import itertools
import json
import os

visits = itertools.count(1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.path == "/visits"
        body = json.dumps({"visits": next(visits)} if found else {"error": "not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("APP_PORT", "3000"))), Handler).serve_forever()
