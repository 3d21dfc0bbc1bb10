"""The processes that are measured: each case has its own gateway and auth process, so that no case fills the cache or memory of
another. They are idle until their turn."""
import shutil
import subprocess

import gateways
from gateways import COOKIE, ROOT
from processes import PinnedProcesses, RunError, cores, fetch, free_port, listens, memory_mib

HOST = "shop.localhost:8080"
ORIGIN = f"http://{HOST}"
TARGET = "/orders?page=2"
APPID, SECRET = "wx00000000000000a1", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
AGENT = ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
         "Mobile/15E148 MicroMessenger/8.0.50(0x18003237) NetType/WIFI Language/zh_CN")


class Side:
    """The processes and addresses of one case."""

    envoy = auth = simulator = None
    edge = check = pages = ops = 0


class Stage:
    def __init__(self, directory, build, cases, amounts, callgrind=False):
        self.directory, self.cases, self.amounts = directory, cases, amounts
        self.processes = PinnedProcesses(directory)
        self.gateway_core, self.other_core = cores()
        self.program, self.tools = build / "wechat-authz", build / "bench-tools"
        self.simulator_program = build / "wechat-simulator"
        self.envoy = ROOT / "target/envoy/1.40.0/envoy"
        self.sides = {}
        self.upstream = None
        # The command that runs the auth processes.
        output = f"--callgrind-out-file={directory}/callgrind.%p"
        self.under = ["valgrind", "-q", "--tool=callgrind", output] if callgrind else []

    def tool(self, *command, core=None):
        core = self.other_core if core is None else core
        return self.processes.run([self.tools, *command], core)

    def issuer(self):
        return ["--keys", self.directory / "keys", "--issuer", ORIGIN, "--audience", "shop"]

    def file(self, tokens):
        return self.directory / f"{tokens}.tokens"

    def first(self, tokens):
        """The first token of a file."""
        with open(self.file(tokens)) as file:
            return file.readline().strip()

    def prepare(self):
        """Creates keys, secrets and tokens."""
        subprocess.run([self.program, "keygen", self.directory / "keys"], check=True, stdout=subprocess.DEVNULL)
        (self.directory / "oa.secret").write_text(SECRET)
        kinds = {"one": ("live", 1), "many": ("live", self.amounts["many"]), "unseen": ("live", self.amounts["unseen"])}
        kinds |= {"ended": ("ended", self.amounts["ended"]), "forged": ("forged", self.amounts["forged"])}
        kinds |= {"one_forged": ("forged", 1)}
        wanted = {case.tokens for case in self.cases} | {"one", "one_forged"}
        for name in sorted(wanted & kinds.keys()):
            kind, count = kinds[name]
            printed = self.tool("mint", *self.issuer(), "--kind", kind, "--count", count)
            self.file(name).write_text(printed)

    def start_auth(self, name, limits="", way="h1", simulator=None, core=None):
        """Starts a wechat-authz; returns its side."""
        side = Side()
        side.pages, side.ops, port = free_port(), free_port(), free_port()
        side.check = f"unix:{self.directory}/{name}.sock" if way == "unix" else f"127.0.0.1:{port}"
        wechat = f"http://127.0.0.1:{simulator}" if simulator else "http://127.0.0.1:9"
        side.config = self.directory / f"{name}.yaml"
        # Tokens live for an hour, so that none is renewed during a measurement.
        side.config.write_text(
            f"listen: {{ check: \"{side.check}\", pages: \"127.0.0.1:{side.pages}\", ops: \"127.0.0.1:{side.ops}\" }}\n"
            f"keys: {{ directory: keys }}\n"
            f"wechat: {{ open: \"{wechat}\", api: \"{wechat}\" }}\n"
            f"apps:\n- name: shop\n  origin: {ORIGIN}\n"
            f"  official_account: {{ appid: {APPID}, secret_file: ./oa.secret }}\n"
            f"  session: {{ token_lifetime: 1h }}\n"
            f"limits: {{ {limits} }}\n"
        )
        command = [*self.under, self.program, "serve", "--config", side.config]
        side.auth = self.processes.start(name, command, self.other_core if core is None else core)
        return side

    def wait_auth(self, side):
        self.processes.wait(side.auth, f"http://127.0.0.1:{side.ops}/readyz")

    def start(self):
        """Starts all processes."""
        self.app = free_port()
        said = ["--header", "content-type:text/plain", "--body", "ok"]
        self.upstream = self.start_answer("upstream", self.app, said)
        self.model = self.start_auth("model")
        self.wait_auth(self.model)
        self.headers = self.our_headers()
        _, _, self.jwks = fetch(f"http://127.0.0.1:{self.model.pages}/_wechat/jwks.json", {"Host": HOST})
        self.start_over()

    def start_over(self):
        """Starts a new auth process and Envoy for each case. The cost of a request differs by 10 % between two processes of the
        same program and configuration, for their whole life; new processes in each round average this out. Processes with
        many sessions stay, because they reorganize memory and update the list of sessions for seconds."""
        stay = {case.name for case in self.cases if case.mode == "turn"} & self.sides.keys()
        ending = [side.envoy for side in self.sides.values()]
        for name in self.sides.keys() - stay:
            ending += [self.sides[name].auth, self.sides[name].simulator]
        self.processes.end(*filter(None, ending))
        for case in self.cases:
            if case.name not in stay:
                self.sides[case.name] = self.start_side(case)
        for case in self.cases:
            if case.asked == "ours":
                self.wait_auth(self.sides[case.name])
            self.start_envoy(case, self.sides[case.name])
        for case in self.cases:
            side = self.sides[case.name]
            self.processes.wait(side.envoy, f"http://127.0.0.1:{side.admin}/ready", within=60)

    def start_side(self, case):
        """Starts the server that answers a case's checks."""
        if case.asked == "ours":
            simulator = None
            if case.mode == "login":
                port = free_port()
                account = f"{APPID}:{SECRET}@{HOST.partition(':')[0]}"
                command = [self.simulator_program, "--listen", f"127.0.0.1:{port}", "--any-port", "--quiet"]
                command += ["--official-account", account]
                simulator = self.processes.start("simulator", command, self.other_core)
                self.processes.wait(simulator, f"http://127.0.0.1:{port}/_sim/clock")
            side = self.start_auth(case.name, case.limits, case.way, port if simulator else None)
            if simulator:
                side.simulator, side.simulator_at = simulator, f"http://127.0.0.1:{port}"
            return side
        side = Side()
        if case.asked == "floor":
            port = free_port()
            side.check = f"127.0.0.1:{port}"
            side.auth = self.start_answer(case.name, port, [*self.headers, *(["--h2c"] if case.way == "h2c" else [])],
                                          self.under)
        return side

    def start_answer(self, name, port, said, under=()):
        """Starts a server that sends one fixed response."""
        command = [*under, self.tools, "answer", "--listen", f"127.0.0.1:{port}", *said]
        started = self.processes.start(name, command, self.other_core)
        self.processes.wait_until(started, lambda: listens(port))
        return started

    def our_headers(self):
        """The response headers of a check with a session, which the floor sends too."""
        said = {"Host": HOST, "Cookie": self.cookie("one"), "User-Agent": AGENT}
        status, headers, _ = fetch(f"http://{self.model.check}{TARGET}", said)
        if status != 200:
            raise RunError(f"a check with a session was answered {status}")
        return [
            part for name, value in headers.items() if name not in ("date", "content-length", "connection")
            for part in ("--header", f"{name}:{value}")
        ]

    def start_envoy(self, case, side):
        side.edge, side.admin = free_port(), free_port()
        fast = (side.config, self.program) if case.gateway == "fast" else None
        text = gateways.shipped(side.edge, self.app, side.admin, side.check, side.pages, case.way == "h2c", fast)
        if case.gateway == "none":
            text = gateways.without(text, "gate")
        elif case.gateway in ("native", "native_cached"):
            text = gateways.with_jwt(text, self.jwks, ORIGIN, "shop", cached=case.gateway == "native_cached")
        for part in case.without:
            text = gateways.without(text, part)
        file = self.directory / f"{case.name}.envoy.yaml"
        file.write_text(text)
        command = [self.envoy, "--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c", file]
        side.envoy = self.processes.start(f"{case.name}.envoy", command, self.gateway_core, quiet=True)

    def cookie(self, tokens):
        return f"theme=dark; {COOKIE}={self.first(tokens)}"

    def request_headers(self, case):
        """The headers of a case's request; of the most frequent one if there are several."""
        headers = {"Host": HOST, "User-Agent": AGENT, "Accept": case.accept, "Accept-Language": "zh-CN,zh;q=0.9"}
        if case.tokens:
            headers["Cookie"] = self.cookie("one" if case.mode == "sometimes" else case.tokens)
        return headers

    def idle_mib(self):
        """The memory of an auth process that has only answered its readiness probe."""
        return max(memory_mib(side.auth, "VmRSS") for case in self.cases
                   if case.asked == "ours" for side in [self.sides[case.name]])

    def end(self):
        self.processes.end(*self.processes.processes)
        shutil.rmtree(self.directory, ignore_errors=True)
