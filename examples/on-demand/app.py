"""A shop for many customers: each brings a domain, and the application knows which."""
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

CUSTOMERS = {"books.example": "Books", "bikes.example": "Bikes"}


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/may-serve":
            domain = parse_qs(url.query).get("domain", [""])[0]
            self.answer(200 if domain in CUSTOMERS else 403, "")
        else:
            host = self.headers.get("Host", "").split(":")[0]
            self.answer(200, f"Welcome to {CUSTOMERS.get(host, 'nobody')}\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("APP_PORT", "3000"))), Shop).serve_forever()
