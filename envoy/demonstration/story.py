"""One line for each request of a login, from the logs, which contain no query, cookie or code."""
import datetime
import json
import re
import time

PAGES = {
    ("login", 302): "redirects to WeChat and sets a cookie that binds the login to this browser",
    ("login", 200): "a page with a button comes first",
    ("callback", 303): "exchanges WeChat's code, creates a session and redirects to the requested page",
    ("callback", 200): "a page with the reason why the login failed, and the next step",
    ("logout", 200): "a page about the logout; the application would start another login",
    ("session", 200): "the user and the end of the session",
    ("session", 401): "no session",
    ("renew", 303): "the session's next token",
    ("renew", 302): "the session's next token",
}
# Seconds between two reads of the logs.
LOOK = 0.02
DENIED = {
    302: "no session: redirects to the login",
    401: "no session: JSON for programs",
    403: "wechat-authz denies it",
    429: "wechat-authz limits it",
}


def hop(line):
    """The start time and the text for a line of Envoy's access log; None for other lines."""
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
        said = DENIED.get(status, "wechat-authz denies it")
    elif entry["details"] == "ext_authz_error" or entry["cluster"] == "wechat_pages":
        said = "wechat-authz does not answer: the request is denied"
    elif passed_on:
        said = "wechat-authz allows it, the application answers"
    else:
        said = "Envoy answers itself"
    return began, f"Envoy   {method:4} {path}  {status}  {said}"


def at_wechat(line):
    """The time and the text for a new line of the simulator; None for other lines."""
    told = re.fullmatch(r"\d\d:\d\d:\d\d  (\S+)\s+(.*)", line)
    return (time.time() - LOOK / 2, f"WeChat       {told[1]}  {told[2]}") if told else None


class Story:
    """Follows the logs. Delays each line a little, to merge both logs in order."""

    WAIT = 0.3

    def __init__(self, stage):
        logs = (("envoy", hop), ("simulator", at_wechat))
        self.sources = [(open(stage.log(name), encoding="utf-8", errors="replace"), told) for name, told in logs]
        self.halves = ["" for _ in self.sources]
        self.waiting = []

    def new_lines(self):
        """The lines whose delay has passed."""
        for number, (file, told) in enumerate(self.sources):
            *lines, self.halves[number] = (self.halves[number] + file.read()).split("\n")
            self.waiting += filter(None, map(told, lines))
        self.waiting.sort()
        ripe = time.time() - self.WAIT
        while self.waiting and self.waiting[0][0] < ripe:
            _, sentence = self.waiting.pop(0)
            if " /favicon.ico " not in sentence:
                yield sentence
