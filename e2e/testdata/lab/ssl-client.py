# usage: ssl-client.py HOST PORT ROOT
import socket
import ssl
import sys

host, port, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
with socket.create_connection((host, int(port))) as plain:
    with context.wrap_socket(plain, server_hostname=host) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := tls.recv(65536):
            answer += part
sys.exit(0 if answer.startswith(b"HTTP/1.1 200") else 1)
