"""The cases in the order of a round. Cases that are compared are adjacent."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    says: str
    # Envoy's configuration: none, check, native, native_cached, fast.
    gateway: str = "check"
    # The server that answers the check: ours, floor, nobody.
    asked: str = "ours"
    # The protocol of the check: h1, h2c, unix.
    way: str = "h1"
    # What load.lua sends: same, each, turn, sometimes.
    mode: str = "same"
    # The file of tokens: one session, many, unseen, ended, forged.
    tokens: str = ""
    # The number of sessions in turn, or the interval of requests with a new token.
    every: int = 0
    # The status of every response.
    expect: int = 200
    # The Accept header of the client.
    accept: str = "*/*"
    # More lines of wechat-authz's configuration.
    limits: str = ""
    # Removed parts of the gateway's configuration, by their names in gateways.PARTS.
    without: tuple = ()


# For cases that measure new tokens.
MANY_NEW = "new_tokens_per_client: { per_minute: 1000000, burst: 1000000 }"
ONE_CHECK = "checks_per_client: { per_minute: 1, burst: 1 }"
LOGINS = "logins_per_client: { per_minute: 1000000, burst: 1000000 }, logins_per_second: 100000"
PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"
DATA = "application/json"

CASES = [
    # Also with the cookie: a browser sends it in any case.
    Case("no_auth", "Envoy straight to the application", gateway="none", asked="nobody", tokens="one"),
    Case("fast", "Envoy verifies our token (cached), we are asked on a miss: none", gateway="fast", tokens="one"),
    Case("fast_1pct", "the same, 1 % of requests with a token past its end", gateway="fast", mode="sometimes",
         tokens="ended", every=100, limits=MANY_NEW),
    Case("fast_10pct", "the same, 10 %", gateway="fast", mode="sometimes", tokens="ended", every=10, limits=MANY_NEW),
    Case("fast_forged", "the same, every request another forged token: 401", gateway="fast", mode="each",
         tokens="forged", expect=401, accept=DATA, limits=MANY_NEW),
    Case("native_cached", "Envoy's own jwt_authn with its cache", gateway="native_cached", asked="nobody",
         tokens="one"),
    Case("native", "Envoy's own jwt_authn, ES256 each time", gateway="native", asked="nobody", tokens="one"),
    Case("floor_h1", "a server that does nothing answers the check, HTTP/1.1", asked="floor", tokens="one"),
    Case("strict_h1", "we answer: a live session, HTTP/1.1", tokens="one"),
    Case("strict_10k", "10,000 live sessions in turn", mode="turn", tokens="many", every=10_000, limits=MANY_NEW),
    Case("strict_100k", "100,000 live sessions in turn", mode="turn", tokens="many", every=100_000,
         limits=MANY_NEW),
    Case("strict_uds", "we answer: a live session, HTTP/1.1 on a Unix socket", way="unix", tokens="one"),
    Case("floor_h2c", "a server that does nothing answers the check, h2c", asked="floor", way="h2c", tokens="one"),
    Case("strict_h2c", "we answer: a live session, h2c", way="h2c", tokens="one"),
    Case("strict_cold", "every request a session not seen before", mode="each", tokens="unseen", limits=MANY_NEW),
    Case("junk_new", "every request another forged token: 401", mode="each", tokens="forged", expect=401, accept=DATA,
         limits=MANY_NEW),
    Case("junk_repeated", "one forged token: 401", tokens="one_forged", expect=401, accept=DATA),
    Case("refused_data", "no session, a script: 401", expect=401, accept=DATA),
    Case("refused_page", "no session, a page: 302", expect=302, accept=PAGE),
    Case("limited", "an address over its limit: 429", expect=429, accept=DATA, limits=ONE_CHECK),
    Case("login", "whole logins, WeChat's simulator included", mode="login", limits=LOGINS),
]
