"""The parts of a browser that a login needs: it stores cookies by the browsers' rules and follows no redirect by itself."""
import dataclasses
import html.parser
import http.client
import urllib.parse

TIMEOUT = 10
LARGEST_BODY = 4 << 20

WECHAT = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/126.0.0.0 "
    "Mobile Safari/537.36 XWEB/1260183 MicroMessenger/8.0.54.2760(0x28003653) NetType/WIFI Language/zh_CN"
)
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class CookieRefused(Exception):
    """A browser would reject this cookie."""


@dataclasses.dataclass
class Cookie:
    name: str
    value: str
    host: str
    path: str
    secure: bool


class Cookies:
    """The cookie jar. Like browsers, it distinguishes hosts but not ports, and treats http on localhost as secure."""

    def __init__(self):
        self.kept = {}

    def take(self, line, url):
        """Applies one `Set-Cookie` line. Returns the cookie's name and whether it was set rather than deleted."""
        pair, *attributes = line.split(";")
        name, _, value = pair.strip().partition("=")
        given = {}
        for attribute in attributes:
            key, _, text = attribute.strip().partition("=")
            given[key.lower()] = text
        path, secure = given.get("path", ""), "secure" in given
        self._judge(name, given, path, secure, url)
        if not path.startswith("/"):
            path = url.path.rpartition("/")[0] or "/"
        key = (url.hostname, path, name)
        if int(given.get("max-age") or 1) <= 0:
            if self.kept.pop(key, None) is None and any(name == other for _, _, other in self.kept):
                raise CookieRefused(f"{name}: deleted with another path than it was set with, so it would stay")
            return name, False
        self.kept[key] = Cookie(name, value, url.hostname, path, secure)
        return name, True

    @staticmethod
    def _judge(name, given, path, secure, url):
        if secure and not is_secure(url):
            raise CookieRefused(f"{name}: Secure, on an address that is not")
        if name.startswith("__Secure-") and not secure:
            raise CookieRefused(f"{name}: __Secure- without Secure")
        if name.startswith("__Host-") and not (secure and path == "/" and "domain" not in given):
            raise CookieRefused(f"{name}: __Host- needs Secure, Path=/ and no Domain")
        if given.get("domain", url.hostname).lstrip(".") != url.hostname:
            raise CookieRefused(f"{name}: for another domain")

    def header(self, url):
        """The `Cookie` line for a request, longest path first."""
        sent = [
            cookie
            for cookie in self.kept.values()
            if cookie.host == url.hostname and covers(cookie.path, url.path or "/")
            and (is_secure(url) or not cookie.secure)
        ]
        sent.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in sent)


def is_secure(url):
    host = url.hostname or ""
    return url.scheme == "https" or host in ("127.0.0.1", "localhost") or host.endswith(".localhost")


def covers(path, requested):
    return requested == path or requested.startswith(path if path.endswith("/") else path + "/")


@dataclasses.dataclass
class Answer:
    """The response to one request."""

    url: str
    status: int
    location: str
    kind: str
    text: str
    cookies_set: list
    cookies_ended: list


class Browser:
    """The browser of one user."""

    def __init__(self, agent):
        self.agent, self.cookies = agent, Cookies()

    def ask(self, method, url, accept=PAGE, headers=(), body=None):
        """Sends one request and follows no redirect."""
        parts = urllib.parse.urlsplit(url)
        lines = {"host": parts.netloc, "user-agent": self.agent, "accept": accept, "accept-language": "zh-CN,en;q=0.5"}
        if accept == PAGE and self.agent == DESKTOP:
            lines.update({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"})
        cookies = self.cookies.header(parts)
        if cookies:
            lines["cookie"] = cookies
        lines.update(headers)
        # Every browser resolves *.localhost to this machine; system resolvers may not.
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=TIMEOUT)
        try:
            connection.request(method, parts._replace(scheme="", netloc="", fragment="").geturl() or "/", body, lines)
            response = connection.getresponse()
            text = response.read(LARGEST_BODY).decode("utf-8", "replace")
        finally:
            connection.close()
        taken = [self.cookies.take(line, parts) for line in response.headers.get_all("set-cookie") or []]
        return Answer(
            url,
            response.status,
            response.getheader("location", ""),
            response.getheader("content-type", ""),
            text,
            [name for name, kept in taken if kept],
            [name for name, kept in taken if not kept],
        )


class _Ways(html.parser.HTMLParser):
    """The links of a page, and the requests of its forms, one for each button."""

    def __init__(self):
        super().__init__()
        self.ways, self.form, self.fields = [], None, []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "a" and given.get("href"):
            self.ways.append(("GET", given["href"]))
        elif tag == "form":
            self.form, self.fields = (given.get("method", "get").upper(), given.get("action", "")), []
        elif tag == "input" and given.get("type") == "hidden":
            self.fields.append((given.get("name", ""), given.get("value", "")))
        elif tag == "button" and self.form:
            method, action = self.form
            fields = self.fields + ([(given["name"], given.get("value", ""))] if "name" in given else [])
            self.ways.append((method, f"{action}?{urllib.parse.urlencode(fields)}" if fields else action))

    def handle_endtag(self, tag):
        if tag == "form":
            self.form = None


def way(answer, *holding):
    """The first link or button whose address contains all these texts: method and absolute address."""
    page = _Ways()
    page.feed(answer.text)
    for method, address in page.ways:
        if all(text in address for text in holding):
            return method, urllib.parse.urljoin(answer.url, address)
    return None
