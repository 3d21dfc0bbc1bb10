"""An application as one writes it with Flask: app.py PORT (Werkzeug's server), or `app` for gunicorn.

Each answer names the resource that served it (x-resource) and the request target as it arrived (x-target).
"""
import base64
import sys
import urllib.parse

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

flask = Flask(__name__, static_folder=None)
ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def serve(resource):
    def handler(**_):
        return resource, 200, {"x-resource": resource}

    handler.__name__ = resource
    return handler


for rule, resource, methods in [
    ("/admin", "admin", ANY),
    ("/admin/<path:rest>", "admin_below", ANY),
    ("/reports/<name>/secret", "secret", ["GET"]),
    ("/reports/<name>", "report", ["GET"]),
    ("/orders", "orders", ANY),
    ("/orders/<path:rest>", "orders_below", ANY),
    ("/api/items", "items", ["GET"]),
    ("/api/items", "item_changed", ["POST", "PUT", "PATCH", "DELETE"]),
    ("/", "front", ANY),
    ("/<path:rest>", "other", ANY),
]:
    flask.add_url_rule(rule, view_func=serve(resource), methods=methods, strict_slashes=False)


@flask.after_request
def describe(answer):
    target = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or ""
    answer.headers["x-target"] = base64.b64encode(target.encode("latin-1")).decode()
    answer.headers["x-host"] = urllib.parse.quote(request.host)
    answer.headers["x-client"] = urllib.parse.quote(request.remote_addr or "")
    return answer


class MethodOverride:
    """The usual middleware for clients that can only send GET and POST."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start_response):
        for name in ("HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_HTTP_METHOD", "HTTP_X_METHOD_OVERRIDE"):
            environ["REQUEST_METHOD"] = environ.get(name, environ["REQUEST_METHOD"]).upper()
        return self.inner(environ, start_response)


# What an application behind a proxy switches on: it believes X-Forwarded-*.
app = MethodOverride(ProxyFix(flask.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1))

if __name__ == "__main__":
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
