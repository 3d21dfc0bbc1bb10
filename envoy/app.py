#!/usr/bin/env python3
"""A web application without a login of its own: it shows each request as it arrives.

A browser gets a page, other clients get JSON. The x-wechat-* headers identify the user, and only the gateway can set them. The
page greets the user by the nickname.
"""
import argparse
import html
import http.server
import json
import sys
import urllib.parse

LARGEST_BODY = 1 << 20

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sample application</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .6rem; border-top: 1px solid #ddd }}
h1 {{ overflow-wrap: anywhere }}
td {{ overflow-wrap: anywhere; font-family: ui-monospace, monospace }}
.who {{ background: #e8f7ee }}
</style></head>
<body>
<h1>Hello, {name}</h1>
<p><code>{method} {path}</code> arrived with these headers:</p>
<table>{rows}</table>
</body>
</html>
"""


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sample-application"
    sys_version = ""
    timeout = 60

    def answer(self):
        announced = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(min(announced, LARGEST_BODY))
        # Otherwise the unread rest of the body would be read as the next request.
        self.close_connection |= announced > LARGEST_BODY or "transfer-encoding" in self.headers
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        if "text/html" in self.headers.get("accept", ""):
            kind, text = "text/html; charset=utf-8", self.page(headers)
        else:
            seen = {"method": self.command, "path": self.path, "headers": headers, "body_bytes": len(body)}
            kind, text = "application/json", json.dumps(seen, indent=2) + "\n"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("cache-control", "no-store")
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def page(self, headers):
        nickname = urllib.parse.unquote(self.headers.get("x-wechat-nickname") or "")
        name = nickname or self.headers.get("x-wechat-subject") or "stranger"
        headers = sorted(headers, key=lambda header: not header[0].startswith("x-wechat-"))
        rows = (
            f'<tr{" class=who" if name.startswith("x-wechat-") else ""}><th>{html.escape(name)}<td>{html.escape(value)}'
            for name, value in headers
        )
        return PAGE.format(
            name=html.escape(name), method=self.command, path=html.escape(self.path), rows="".join(rows)
        )

    def log_message(self, *_):
        """Logs nothing: Envoy logs the request, without its query."""


class Server(http.server.ThreadingHTTPServer):
    # Python's default is 5. A connection beyond the queue is retried after a second, when Envoy has timed out.
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Ignores clients that disconnect during a request."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port", type=int, default=8081, help="on 127.0.0.1; default 8081")
    server = Server(("127.0.0.1", arguments.parse_args().port), Application)
    server.serve_forever()


if __name__ == "__main__":
    main()
