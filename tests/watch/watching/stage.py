"""The demo's four processes and a real Redis, with every feature that has a metric, and traffic."""
import json
import pathlib
import secrets
import signal
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "envoy"))

from demonstration.browser import DESKTOP, WECHAT, Browser  # noqa: E402
from demonstration.processes import RunError  # noqa: E402
from demonstration.stage import CONSENT, READY_WITHIN, SILENT, Stage, environment, free_ports, listens  # noqa: E402
from demonstration.walk import Walk  # noqa: E402

JSON = "application/json"


class Watched(Stage):
    """The demo's stage, and Redis."""

    def __init__(self):
        super().__init__()
        self.redis, self.admin_listener, self.prometheus = free_ports(3)
        self.token = secrets.token_hex(32)

    def build_set(self, programs):
        super().build_set(programs)
        token = self.directory / "admin.token"
        token.touch(mode=0o600)
        token.write_text(self.token)
        file = self.directory / "wechat-authz.yaml"
        configuration = json.loads(file.read_text(encoding="utf-8"))
        configuration["admin"] = {"listen": f"127.0.0.1:{self.admin_listener}", "token_file": str(token)}
        configuration["redis"] = {"url": f"redis://127.0.0.1:{self.redis}/0", "reconcile": "1s"}
        # Low, so that a few requests reach it.
        configuration["limits"] = {"logins_per_client": {"burst": 20, "per_minute": 10}}
        for application in configuration["apps"]:
            application["official_account"]["jssdk"] = True
        file.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")

    def open(self, processes, programs):
        self.processes = processes
        self.start_redis()
        super().open(processes, programs)

    def start_redis(self):
        command = ["redis-server", "--port", self.redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", self.directory]
        self.server = self.processes.start("redis", command, log=self.log("redis"), environment=environment())
        self.server.wait_until(lambda: listens(self.redis), READY_WITHIN)

    def stop_redis(self):
        self.server.signal(signal.SIGKILL)
        self.processes.end(self.server)


class Traffic:
    """Users, programs and failures that change every metric."""

    def __init__(self, stage):
        self.stage = stage
        self.origin = stage.origin(SILENT)
        self.stopped = threading.Event()
        self.fault = None

    def ask(self, browser, url, **asked):
        return browser.ask("GET", url, **asked)

    def follow(self, browser, url):
        """The last response after all redirects."""
        answer = browser.ask("GET", url)
        for _ in range(12):
            if answer.status not in (301, 302, 303, 307):
                return answer
            url = urllib.parse.urljoin(answer.url, answer.location)
            answer = browser.ask("GET", url)
        raise RunError(f"too many redirects, the last one to {url.partition('?')[0]}")

    def log_in(self):
        browser = Browser(WECHAT)
        return browser, self.follow(browser, self.origin + "/")

    def go_wrong(self, endpoint, effect, times=1):
        """Injects a fault into the next calls to this endpoint of WeChat."""
        body = json.dumps({"endpoint": endpoint, "effect": effect, "times": times})
        answer = Browser(DESKTOP).ask("POST", f"{self.stage.wechat}/_sim/faults", accept=JSON, body=body)
        if answer.status not in (200, 201, 204):
            raise RunError(f"the simulator refuses the fault at {endpoint}: {answer.status} {answer.text}")

    def revoke(self, **what):
        lines = {"authorization": f"Bearer {self.stage.token}"}
        url = f"http://127.0.0.1:{self.stage.admin_listener}/sessions/revoke"
        answer = Browser(DESKTOP).ask("POST", url, accept=JSON, headers=lines, body=json.dumps(what))
        if answer.status != 200:
            raise RunError(f"the revocation is refused: {answer.status} {answer.text}")

    def checks(self):
        """Sends checks of every kind until `stopped` is set."""
        try:
            known, answer = self.log_in()
            if answer.status != 200:
                raise RunError(f"a login ends in {answer.status}")
            while not self.stopped.wait(0.05):
                self.ask(known, self.origin + "/api/orders", accept=JSON)
                self.ask(Browser(DESKTOP), self.origin + "/")
                self.ask(Browser(DESKTOP), self.origin + "/a", accept=JSON, headers={"authorization": "Bearer a.b.c"})
                self.ask(Browser(DESKTOP), self.origin + "/a/%2e%2e%2fb", accept=JSON)
        except (RunError, OSError) as fault:
            self.fault = fault

    def jssdk(self, site):
        origin = self.stage.origin(site)
        page = urllib.parse.quote(origin + "/", safe="")
        return self.ask(Browser(WECHAT), f"{origin}/_wechat/jssdk?url={page}", accept=JSON).status

    def expect(self, what, got, wanted):
        if got != wanted:
            raise RunError(f"{what}: {got} instead of {wanted}")

    def play(self, seconds):
        """Causes every event once, then keeps logging in while Prometheus scrapes."""
        begun = time.monotonic()
        steady = threading.Thread(target=self.checks)
        # The central token fails first, and succeeds at the next attempt of another application.
        self.go_wrong("stable_token", {"errcode": 40164})
        self.expect("the JS-SDK without a token", self.jssdk(CONSENT), 503)
        self.expect("the JS-SDK", self.jssdk(SILENT), 200)
        steady.start()
        try:
            Walk(self.stage).run()
            self.go_wrong("access_token", {"errcode": 40125})
            self.expect("a login with a wrong secret", self.log_in()[1].status, 500)
            self.go_wrong("access_token", {"delay_before_s": 1})
            self.log_in()
            self.revoke(app=CONSENT.name)
            # Redis is killed, a user logs in without it, and it starts again.
            self.stage.stop_redis()
            self.log_in()
            time.sleep(2)
            self.stage.start_redis()
            # A login per second, so that each scrape sees another value.
            while time.monotonic() < begun + seconds and not self.fault:
                self.expect("a login", self.log_in()[1].status, 200)
                self.stopped.wait(1)
            for _ in range(70):
                answer = self.ask(Browser(WECHAT), f"{self.origin}/_wechat/login?return_to=%2F")
                if answer.status == 429:
                    break
            self.expect("too many logins of one address", answer.status, 429)
        finally:
            self.stopped.set()
            steady.join()
        if self.fault:
            raise RunError(f"the checks went wrong: {self.fault}")
