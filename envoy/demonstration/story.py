"""What happens while a person clicks, one line for each hop, read from the logs. They hold no query, cookie or code."""
import datetime
import json
import re
import time

PAGES = {
    ("login", 302): "off to WeChat, with a flow cookie that only this browser has",
    ("login", 200): "a page comes first, so that a person presses the button",
    ("callback", 303): "WeChat's code is exchanged, a session made; back to where the person was going",
    ("callback", 200): "a page that says why there is no session, and what to do",
    ("logout", 200): "a page about the logout; the application would only log in again",
    ("session", 200): "who am I, until when",
    ("session", 401): "nobody",
    ("renew", 303): "the session's next token",
    ("renew", 302): "the session's next token",
}
# Seconds between two looks at the logs.
LOOK = 0.02
DENIED = {
    302: "wechat-authz knows no session: to the login",
    401: "wechat-authz knows no session: JSON, which a program can read",
    403: "wechat-authz refuses",
    429: "wechat-authz has had too many of these",
}


def hop(line):
    """When a line of Envoy's access log began, and the sentence for it; None for other lines."""
    try:
        entry = json.loads(line)
        method, path, status = entry["method"], entry["path"], entry["status"]
        began = datetime.datetime.strptime(entry["time"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
    except (ValueError, KeyError, TypeError):
        return None
    passed_on = entry["details"] == "via_upstream"
    if entry["cluster"] == "wechat_pages" and passed_on:
        said = PAGES.get((path.rpartition("/")[2], status), "a page of wechat-authz")
    elif entry["details"] == "ext_authz_denied":
        said = DENIED.get(status, "wechat-authz refuses")
    elif entry["details"] == "ext_authz_error" or entry["cluster"] == "wechat_pages":
        said = "wechat-authz does not answer: nobody passes"
    elif passed_on:
        said = "wechat-authz lets it pass, the application answers"
    else:
        said = "Envoy's own answer"
    return began, f"Envoy   {method:4} {path}  {status}  {said}"


def at_wechat(line):
    """The sentence for one line of the simulator, which came since the last look; None for other lines."""
    told = re.fullmatch(r"\d\d:\d\d:\d\d  (\S+)\s+(.*)", line)
    return (time.time() - LOOK / 2, f"WeChat       {told[1]}  {told[2]}") if told else None


class Story:
    """Follows the logs. A line waits a moment, so that both logs come in one order."""

    WAIT = 0.3

    def __init__(self, stage):
        logs = (("envoy", hop), ("simulator", at_wechat))
        self.sources = [(open(stage.log(name), encoding="utf-8", errors="replace"), told) for name, told in logs]
        self.halves = ["" for _ in self.sources]
        self.waiting = []

    def new_lines(self):
        """Those whose time has come."""
        for number, (file, told) in enumerate(self.sources):
            *lines, self.halves[number] = (self.halves[number] + file.read()).split("\n")
            self.waiting += filter(None, map(told, lines))
        self.waiting.sort()
        ripe = time.time() - self.WAIT
        while self.waiting and self.waiting[0][0] < ripe:
            _, sentence = self.waiting.pop(0)
            if " /favicon.ico " not in sentence:
                yield sentence
