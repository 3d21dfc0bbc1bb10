"""What happens while a person clicks, one line for each hop, read from the logs. They hold no query, cookie or code."""
import json
import re

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
DENIED = {
    302: "wechat-authz knows no session: to the login",
    401: "wechat-authz knows no session: JSON, which a program can read",
    403: "wechat-authz refuses",
    429: "wechat-authz has had too many of these",
}


def hop(line):
    """The sentence for one line of Envoy's access log; None for other lines."""
    try:
        entry = json.loads(line)
        method, path, status = entry["method"], entry["path"], entry["status"]
    except (ValueError, KeyError, TypeError):
        return None
    if entry["cluster"] == "wechat_pages":
        said = PAGES.get((path.rpartition("/")[2], status), "a page of wechat-authz")
    elif entry["details"] == "ext_authz_denied":
        said = DENIED.get(status, "wechat-authz refuses")
    elif entry["details"] == "ext_authz_error":
        said = "wechat-authz does not answer: nobody passes"
    elif entry["details"] == "via_upstream":
        said = "wechat-authz lets it pass, the application answers"
    else:
        said = "Envoy's own answer"
    return f"Envoy   {method:4} {path}  {status}  {said}"


def at_wechat(line):
    """The sentence for one line of the simulator; None for other lines."""
    told = re.fullmatch(r"\d\d:\d\d:\d\d  (\S+)\s+(.*)", line)
    return f"WeChat       {told[1]}  {told[2]}" if told else None


class Story:
    """Follows the logs."""

    def __init__(self, stage):
        self.sources = [(open(stage.log("simulator"), encoding="utf-8", errors="replace"), at_wechat)]
        self.sources += [(open(stage.log("envoy"), encoding="utf-8", errors="replace"), hop)]
        self.halves = ["" for _ in self.sources]

    def new_lines(self):
        for number, (file, told) in enumerate(self.sources):
            *lines, self.halves[number] = (self.halves[number] + file.read()).split("\n")
            for line in lines:
                sentence = told(line)
                if sentence and "/favicon.ico" not in sentence:
                    yield sentence
