"""`demo --check`: 小明 logs in by every method, and each response is compared with the expected one.

Prints status, Location and cookie names. Masks codes, states and other values that could be used again.
"""
import json
import re
import urllib.parse

from .browser import DESKTOP, WECHAT, Browser, CookieRefused, way
from .stage import CONSENT, SILENT

PERSON = "小明"
SESSION = "__Host-wechat_session"
FLOW = "__Host-wechat_flow_*"
ATTEMPTS = "__Host-wechat_attempts"
# The query parameters that are printed.
HARMLESS = {"appid", "redirect_uri", "response_type", "scope", "return_to", "connect_redirect", "lang", "go", "page"}


class Unexpected(Exception):
    """A response was not as expected."""


def masked(url):
    """An address without values that could be used again."""

    def mask(parameter):
        name, equals, value = parameter.partition("=")
        return parameter if name in HARMLESS or not value else f"{name}{equals}***"

    parts = urllib.parse.urlsplit(url)
    return parts._replace(query="&".join(map(mask, parts.query.split("&")))).geturl()


def named(cookie):
    """A cookie's name. The name of an attempt's cookie ends in digits of its state, which are masked."""
    return FLOW if cookie.startswith(FLOW[:-1]) else cookie


class Walk:
    """One run of all logins."""

    def __init__(self, stage):
        self.stage = stage
        self.hops = 0

    def run(self):
        for chapter in (self.silently, self.with_consent, self.by_qr, self.as_a_program, self.out):
            print(f"\n{chapter.__doc__}", flush=True)
            chapter()

    def hop(self, browser, method, url, status, location="", sets=(), ends=(), page=(), **asked):
        """Sends one request and compares the response. `location` is a regular expression for the whole value."""
        try:
            answer = browser.ask(method, url, **asked)
        except CookieRefused as refused:
            raise Unexpected(f"a browser would refuse the cookie {refused}") from None
        except OSError as error:
            raise Unexpected(f"{method} {masked(url)} failed: {error}") from None
        self.hops += 1
        got = sorted({named(name) for name in answer.cookies_set})
        ended = sorted({named(name) for name in answer.cookies_ended})
        # The previous Location showed the query.
        print(f"  {method:4} {url.partition('?')[0]}\n       {answer.status}", end="")
        print(f"  → {masked(answer.location)}" if answer.location else "", end="")
        print("".join(f"  +{name}" for name in got) + "".join(f"  -{name}" for name in ended), flush=True)
        for what, is_so in (
            (f"status {status}", answer.status == status),
            (f"Location {location or 'none'}", re.fullmatch(location, answer.location) is not None),
            (f"cookies set: {', '.join(sorted(sets)) or 'none'}", got == sorted(sets)),
            (f"cookies ended: {', '.join(sorted(ends)) or 'none'}", ended == sorted(ends)),
            *((f"a page with {text!r}", text in answer.text) for text in page),
        ):
            if not is_so:
                raise Unexpected(f"expected {what}")
        return answer

    def step(self, answer):
        """The address that the response redirects to."""
        return urllib.parse.urljoin(answer.url, answer.location)

    def to_login(self, browser, site, path):
        """The application's page, which redirects users without a session to the login."""
        origin = self.stage.origin(site)
        login = f"{origin}/_wechat/login?return_to={urllib.parse.quote(path, safe='')}"
        return self.hop(browser, "GET", origin + path, 302, re.escape(login))

    def to_wechat(self, browser, site, url, page, appid, scope):
        """The login, which redirects to WeChat, with the parameters in WeChat's order."""
        callback = re.escape(urllib.parse.quote(f"{self.stage.origin(site)}/_wechat/callback", safe=""))
        wanted = f"{re.escape(self.stage.wechat)}/connect/{page}\\?appid={appid}&redirect_uri={callback}"
        wanted += f"&response_type=code&scope={scope}&state=[0-9a-f]{{32}}#wechat_redirect"
        return self.hop(browser, "GET", url, 302, wanted, sets=(FLOW,))

    def first_hop(self, browser, url):
        """WeChat redirects a first visit to the same address with one more parameter."""
        return self.step(self.hop(browser, "GET", url, 302, r"\S+&connect_redirect=1(#wechat_redirect)?"))

    def callback(self, site):
        return re.escape(self.stage.origin(site)) + r"/_wechat/callback\?code=\w+&state=[0-9a-f]{32}"

    def enter(self, browser, site, url, path):
        """The callback, which creates the session; then the application."""
        # The fragment makes browsers drop `#wechat_redirect`.
        there = re.escape(self.stage.origin(site) + path + "#")
        answer = self.hop(browser, "GET", url, 303, there, sets=(SESSION, ATTEMPTS), ends=(FLOW,))
        self.hop(browser, "GET", self.step(answer), 200, page=("x-wechat-subject",))

    def who(self, browser, site, flow, appid, nickname):
        """The identity headers that the application receives, and that it does not receive the session."""
        answer = self.hop(browser, "GET", self.stage.origin(site) + "/api/orders", 200, accept="application/json")
        seen = dict(json.loads(answer.text)["headers"])
        asked = urllib.parse.urlencode({"appid": appid, "user": PERSON})
        person = json.loads(Browser(DESKTOP).ask("GET", f"{self.stage.wechat}/_sim/ids?{asked}").text)
        expected = {
            "x-wechat-subject": f"wx:{appid}:{person['openid']}",
            "x-wechat-openid": person["openid"],
            "x-wechat-appid": appid,
            "x-wechat-flow": flow,
            "x-wechat-nickname": urllib.parse.quote(nickname),
            "cookie": None,
        }
        for name, value in expected.items():
            if seen.get(name) != value:
                raise Unexpected(f"expected the application to see {'no ' if value is None else 'the right '}{name}")
        if not seen.get("x-wechat-session"):
            raise Unexpected("expected the application to see an x-wechat-session")
        told = f"flow {flow}, {'the' if nickname else 'no'} nickname, no cookie"
        print(f"       the application sees {PERSON}'s openid, {told}")

    def silently(self):
        """(a) 小明 opens the application inside WeChat; the scope needs no consent (snsapi_base)"""
        self.phone = browser = Browser(WECHAT)
        login = self.step(self.to_login(browser, SILENT, "/"))
        appid, scope = SILENT.official_account, SILENT.scope
        wechat = self.step(self.to_wechat(browser, SILENT, login, "oauth2/authorize", appid, scope))
        again = self.first_hop(browser, wechat)
        callback = self.hop(browser, "GET", again, 302, self.callback(SILENT))
        self.enter(browser, SILENT, self.step(callback), "/")
        self.who(browser, SILENT, "official_account", appid, "")

    def with_consent(self):
        """(b) The same with consent to nickname and avatar (snsapi_userinfo)"""
        browser = Browser(WECHAT)
        login = self.step(self.to_login(browser, CONSENT, "/orders?page=2"))
        asks = self.hop(browser, "GET", login, 200)
        pressed = self.follow(asks, "/_wechat/login", "go=1")
        appid, scope = CONSENT.official_account, CONSENT.scope
        wechat = self.step(self.to_wechat(browser, CONSENT, pressed, "oauth2/authorize", appid, scope))
        again = self.first_hop(browser, wechat)
        consent = self.hop(browser, "GET", again, 200, page=(PERSON,))
        allowed = self.follow(consent, "authorize_reply", "allow=1")
        callback = self.hop(browser, "GET", allowed, 302, self.callback(CONSENT))
        self.enter(browser, CONSENT, self.step(callback), "/orders?page=2")
        self.who(browser, CONSENT, "official_account", appid, PERSON)

    def follow(self, answer, *holding):
        found = way(answer, *holding)
        if found is None:
            raise Unexpected(f"expected a link or button to {holding[0]}")
        return found[1]

    def by_qr(self):
        """(c) 小明 opens it in a desktop browser, scans the QR code and confirms on the phone"""
        self.desktop = browser = Browser(DESKTOP)
        login = self.step(self.to_login(browser, SILENT, "/orders?page=2"))
        wechat = self.step(self.to_wechat(browser, SILENT, login, "qrconnect", SILENT.website, "snsapi_login"))
        code = self.hop(browser, "GET", wechat, 200)
        uuid = re.search(r'data-uuid="(\w+)"', code.text)
        if uuid is None:
            raise Unexpected("expected a QR code on the page")
        phone, control = Browser(WECHAT), f"{self.stage.wechat}/_sim/qr/{uuid[1]}"
        for verb in ("scan", "confirm"):
            print(f"       on the phone: {verb}")
            done = phone.ask("POST", f"{control}/{verb}", accept="application/json")
            if done.status != 200:
                raise Unexpected(f"expected the simulator to take the {verb}, status {done.status}")
        callback = json.loads(done.text)["location"]
        if not re.fullmatch(self.callback(SILENT), callback or ""):
            raise Unexpected("expected the QR page to lead to the callback with code and state")
        self.enter(browser, SILENT, callback, "/orders?page=2")
        self.who(browser, SILENT, "website", SILENT.website, PERSON)

    def as_a_program(self):
        """(d) A program without a session requests data: 401 with the login's address instead of a redirect"""
        url = self.stage.origin(SILENT) + "/api/orders"
        answer = self.hop(Browser("curl/8.5.0"), "GET", url, 401, accept="application/json")
        try:
            body = json.loads(answer.text)
            login_url, reason = body["data"]["login_url"], body["data"]["reason"]
        except (ValueError, KeyError, TypeError):
            raise Unexpected("expected JSON with code, message, data.login_url and data.reason") from None
        login = self.stage.origin(SILENT) + "/_wechat/login"
        told = (body.get("code"), reason, login_url.partition("?")[0])
        if told != (401, "no_session", login) or not body.get("message"):
            raise Unexpected("expected code 401, a message, the reason no_session and the login's address")
        print(f"       {body['code']} {body['message']!r}, reason {reason}, login_url {masked(login_url)}")

    def out(self):
        """(e) 小明 logs out on the desktop; a copy of the cookie is no longer a session either"""
        browser, origin = self.desktop, self.stage.origin(SILENT)
        copy = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.kept.values() if c.name == SESSION)
        same_site = {"origin": origin, "sec-fetch-site": "same-origin"}
        self.hop(browser, "POST", f"{origin}/_wechat/logout", 200, ends=(SESSION,), headers=same_site, body="")
        self.to_login(browser, SILENT, "/")
        print("       with the copy:")
        login = re.escape(f"{origin}/_wechat/login?return_to=%2F")
        self.hop(Browser(DESKTOP), "GET", f"{origin}/", 302, login, headers={"cookie": copy})
