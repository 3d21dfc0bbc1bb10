"""Envoy's configurations: the shipped one, and what differs in each case.

The same in all of them: everything of envoy/strict.yaml but the access log, whose cost has nothing to do with who is
asked; without it a difference between two cases shows larger, not smaller.
"""
import json
import pathlib
import subprocess
import sys

from processes import Failure

ROOT = pathlib.Path(__file__).resolve().parents[3]
COOKIE = "__Host-wechat_session"
CHECK = "          - name: envoy.filters.http.ext_authz\n"
ROUTER = "          - name: envoy.filters.http.router\n"


def between(text, first, last):
    """(before, the part from `first` up to `last`, the rest); each of the two stands there once."""
    for mark in (first, last):
        if text.count(mark) != 1:
            raise Failure(f"envoy/strict.yaml holds {mark.strip()!r} {text.count(mark)} times instead of once")
    start, end = text.index(first), text.index(last)
    return text[:start], text[start:end], text[end:]


def shipped(listen, app, admin, check=None, pages=None, h2c=False):
    """The shipped configuration at these addresses, without its access log."""
    command = [sys.executable, ROOT / "envoy/render", "--listen", f"127.0.0.1:{listen}", "--app", f"127.0.0.1:{app}"]
    command += ["--admin", str(admin)]
    command += ["--check", check] if check else []
    command += ["--pages", f"127.0.0.1:{pages}"] if pages else []
    command += ["--h2c"] if h2c else []
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, _, after = between(text, "          access_log:\n", "          # Envoy's own words")
    return before + after


def without_check(text):
    """Nobody is asked anything."""
    before, _, after = between(text, CHECK, ROUTER)
    return before + after


def with_jwt(text, jwks, issuer, audience, cached, then_ask=False):
    """Envoy's own jwt_authn verifies the session's token: in place of the check, or before it, so that the check is
    left for those whom it does not know."""
    before, check, after = between(text, CHECK, ROUTER)
    known = {"provider_name": "wechat"}
    provider = {
        "issuer": issuer,
        "audiences": [audience],
        "from_cookies": [COOKIE],
        "local_jwks": {"inline_string": jwks},
        "clock_skew_seconds": 30,
    }
    if cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": 1000}
    if then_ask:
        provider["payload_in_metadata"] = "session"
        claims = ("sub", "openid", "unionid", "appid", "flow", "sid", "nickname", "avatar")
        headers = ("subject", "openid", "unionid", "appid", "flow", "session", "nickname", "avatar")
        provider["claim_to_headers"] = [
            {"header_name": f"x-wechat-{header}", "claim_name": claim} for header, claim in zip(headers, claims)
        ]
    anyway = {"requires_any": {"requirements": [known, {"allow_missing_or_failed": {}}]}}
    jwt = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"wechat": provider},
        "rules": [
            {"match": {"path_separated_prefix": "/_wechat"}},
            {"match": {"prefix": "/"}, "requires": anyway if then_ask else known},
        ],
    }
    # JSON is YAML.
    filters = f"          - name: envoy.filters.http.jwt_authn\n            typed_config: {json.dumps(jwt)}\n"
    if then_ask:
        asked = "              transport_api_version: V3\n"
        unknown = {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "session"}],
            "value": {"present_match": True},
            "invert": True,
        }
        head, _, tail = check.partition(asked)
        filters += f"{head}{asked}              filter_enabled_metadata: {json.dumps(unknown)}\n{tail}"
    return before + filters + after
