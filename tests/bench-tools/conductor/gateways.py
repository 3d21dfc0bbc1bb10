"""Envoy's configurations: the two shipped ones, and the changes of each case.

All cases use envoy/strict.yaml (the fast cases envoy/fast.yaml) without its access log, whose cost is the same in every
case. Without it, differences between cases appear larger.
"""
import json
import pathlib
import subprocess
import sys

from processes import RunError

ROOT = pathlib.Path(__file__).resolve().parents[3]
COOKIE = "__Host-wechat_session"
CHECK = "          - name: envoy.filters.http.ext_authz\n"
ROUTER = "          - name: envoy.filters.http.router\n"
# Parts of fast.yaml, each between two marks. Removed in this order, the rest remains a valid configuration.
PARTS = {
    "script": ("          # Removes the session cookie from requests", CHECK),
    "empty": ("            # Claims that the token lacks", "            virtual_hosts:\n"),
    "gate": (CHECK, ROUTER),
    "claims": ("                  claim_to_headers: &identity\n", "                  # The fields that decide."),
    "metadata": ("                  # The fields that decide.", "              rules:\n"),
}


def between(text, first, last):
    """The text before `first`, from `first` to `last`, and from `last` on. Each mark must occur once."""
    for mark in (first, last):
        if text.count(mark) != 1:
            raise RunError(f"a shipped configuration contains {mark.strip()!r} {text.count(mark)} times instead of once")
    start, end = text.index(first), text.index(last)
    return text[:start], text[start:end], text[end:]


def shipped(listen, app, admin, check=None, pages=None, h2c=False, fast=None):
    """A shipped configuration with these addresses, without its access log: strict.yaml, or with `fast` (a configuration and
    a program) fast.yaml."""
    command = [sys.executable, ROOT / "envoy/render", "--listen", f"127.0.0.1:{listen}", "--app", f"127.0.0.1:{app}"]
    command += ["--admin", str(admin)]
    command += ["--check", check] if check else []
    command += ["--pages", f"127.0.0.1:{pages}"] if pages else []
    command += ["--h2c"] if h2c else []
    command += ["--fast", "--config", fast[0], "--program", fast[1]] if fast else []
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, _, after = between(text, "          access_log:\n", "          # Envoy's own responses")
    return before + after


def without(text, part):
    """All but one of PARTS. Without `gate` nobody is asked anything."""
    before, _, after = between(text, *PARTS[part])
    return before + after


def with_jwt(text, jwks, issuer, audience, cached):
    """Envoy's own jwt_authn verifies the session's token in place of the check."""
    before, _, after = between(text, CHECK, ROUTER)
    provider = {
        "issuer": issuer,
        "audiences": [audience],
        "from_cookies": [COOKIE],
        "local_jwks": {"inline_string": jwks},
        "clock_skew_seconds": 30,
    }
    if cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": 1000}
    jwt = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"wechat": provider},
        "rules": [
            {"match": {"path_separated_prefix": "/_wechat"}},
            {"match": {"prefix": "/"}, "requires": {"provider_name": "wechat"}},
        ],
    }
    # JSON is YAML.
    filters = f"          - name: envoy.filters.http.jwt_authn\n            typed_config: {json.dumps(jwt)}\n"
    return before + filters + after
