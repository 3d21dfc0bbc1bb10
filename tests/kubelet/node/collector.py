"""A collector of traces: receives OTLP over HTTP, and stores the trace, the name and the service of each span."""
import http.server
import threading

from app import Server

from .network import NODE

PORT = 4318
# The maximum number of stored spans.
MAX_SPANS = 20_000


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def fields(data):
    """The fields of one protobuf message: (number, bytes or integer)."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            length, at = varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = data[at : at + length], at + length
        yield key >> 3, value


def each(data, *path):
    """The values of a field, by its path through nested messages."""
    for number, value in fields(data):
        if number == path[0]:
            if len(path) == 1:
                yield value
            else:
                yield from each(value, *path[1:])


def spans(request):
    """(service, trace, name) of each span of an ExportTraceServiceRequest."""
    for group in each(request, 1):
        service = ""
        for attribute in each(group, 1, 1):
            if list(each(attribute, 1)) == [b"service.name"]:
                service = b"".join(each(attribute, 2, 1)).decode()
        for span in each(group, 2, 2):
            yield service, b"".join(each(span, 1)).hex(), b"".join(each(span, 5)).decode("utf-8", "replace")


class Collector:
    """The collector at the node's address, for all pods."""

    def __init__(self):
        self.seen, self.holding = [], threading.Lock()
        collector = self

        class Taking(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                chunked = "chunked" in self.headers.get("transfer-encoding", "")
                body = self.chunks() if chunked else self.rfile.read(int(self.headers.get("content-length") or 0))
                collector.take(body if self.path == "/v1/traces" else b"")
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def chunks(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_):
                """Logs nothing."""

        server = Server((NODE, PORT), Taking)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, body):
        with self.holding:
            self.seen = (self.seen + list(spans(body)))[-MAX_SPANS:]

    def services(self, name):
        """The services in each trace that has a span of this name."""
        with self.holding:
            traces = {trace for _, trace, found in self.seen if found == name}
            return [{service for service, one, _ in self.seen if one == trace} for trace in traces]
