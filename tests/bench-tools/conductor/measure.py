"""One measurement of one case: load for some seconds, and its cost."""
import json
import pathlib
import socket
import time

from cases import MANY_NEW
from processes import RunError, busy_ns, children_ns, cores, fetch, forget_peak, memory_mib, ran_since, threads_ns
from stage import HOST, ORIGIN, TARGET

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "load.lua"
# The number of concurrent requests.
CONNECTIONS = 16
CHECKED = "wechat_authz_token_signature_verifications_total"
ASKED = "wechat_authz_checks_total"


class Meter:
    def __init__(self, stage):
        self.stage = stage
        # The position of each case in its file of tokens.
        self.place = {}

    def load(self, case, seconds):
        """Runs the load of a case; returns the output of the generator."""
        side = self.stage.sides[case.name]
        if case.mode == "login":
            # Empties the simulator's journal, so that its length does not affect the measurement.
            fetch(f"{side.simulator_at}/_sim/journal", method="DELETE")
            command = ["login", "--to", f"127.0.0.1:{side.edge}", "--origin", ORIGIN, "--seconds", seconds]
            said = json.loads(self.stage.tool(*command))
            if said["fault"]:
                print(f"login: {said['fault']}", flush=True)
            return said | {"micros": int(said["seconds"] * 1e6), "exhausted": 0}
        place = self.place.get(case.name, 0)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s", "-s", SCRIPT]
        for name, value in self.stage.request_headers(case).items():
            command += ["-H", f"{name}: {value}"]
        command += [f"http://127.0.0.1:{side.edge}{TARGET}", "--", case.expect, case.mode]
        if case.mode != "same":
            turn = min(case.every, self.stage.amounts["many"]) if case.mode == "turn" else case.every
            command += [self.stage.file(case.tokens), place, turn]
        said = self.stage.processes.run_json(command, self.stage.other_core, timeout=seconds + 60)
        # wrk prepares one request per connection beyond those that it counts.
        self.place[case.name] = said["used"] if case.mode == "turn" else place + said["used"] + CONNECTIONS
        return said

    def slice(self, case, seconds):
        """Measures once; returns figures by name."""
        side = self.stage.sides[case.name]
        ours = case.asked == "ours"
        if side.auth:
            forget_peak(side.auth)
        watched = {"envoy": side.envoy, "auth": side.auth, "simulator": side.simulator, "app": self.stage.upstream}
        watched = {name: process for name, process in watched.items() if process}
        checked, asked = (self.checked(side), counter(side, ASKED)) if ours else (0, 0)
        before = {name: threads_ns(process) for name, process in watched.items()}
        busy, others = busy_ns(), children_ns()
        begun = time.monotonic()
        said = self.load(case, seconds)
        took = time.monotonic() - begun
        busy, others = busy_ns() - busy, children_ns() - others
        spent = {name: ran_since(process, before[name]) for name, process in watched.items()}
        requests = said["requests"]
        if not requests:
            raise RunError(f"{case.name}: not one request was answered")
        if said["exhausted"]:
            raise RunError(f"{case.name}: more requests than tokens were made for it")
        errors = said["errors"]
        if case.name == "limited":
            # One check a minute is within the limit.
            errors = max(0, errors - 1)
        elapsed = said["micros"] / 1e6
        figures = {
            "rps": requests / elapsed,
            "p50_us": said["p50_us"],
            "p99_us": said["p99_us"],
            "envoy_cpu_us": spent["envoy"] / requests / 1e3,
            "auth_cpu_us": spent.get("auth", 0) / requests / 1e3,
            "auth_rss_mib": memory_mib(side.auth, "VmHWM") if side.auth else 0.0,
            "errors": errors,
        }
        if side.simulator:
            # The simulator's core would be free of it; Envoy's has its work all the same.
            figures["rps_without_simulator"] = requests * 1e9 / max(elapsed * 1e9 - spent["simulator"], spent["envoy"])
        # Not part of the form: what says whether the slice measured what it should.
        figures["_other_core"] = (others + sum(spent.values()) - spent["envoy"]) / 1e9 / elapsed
        figures["_foreign"] = max(0.0, (busy - others - sum(spent.values())) / 1e9 / took)
        figures["_checked"] = (self.checked(side) - checked) / requests if ours else 0.0
        figures["_asked"] = (counter(side, ASKED) - asked) / requests if ours else 0.0
        return figures

    def checked(self, side):
        """The number of signatures that this auth process has checked."""
        return counter(side, CHECKED)

    def warm(self, case):
        """Shows each session once that is to be known when it is measured, and uses some for a while."""
        if case.mode == "turn":
            side = self.stage.sides[case.name]
            most = min(case.every, self.stage.amounts["many"])
            command = ["flood", "--to", side.check, "--host", HOST, "--tokens", self.stage.file("many"), "--most", most]
            said = json.loads(self.stage.tool(*command, "--expect", 200))
            if said["unexpected"]:
                raise RunError(f"{case.name}: {said['unexpected']} sessions were not accepted")
            self.load(case, 2)

    def probe(self, case):
        """One request, to see that the case is what it says."""
        side = self.stage.sides[case.name]
        if case.mode == "login":
            return
        if case.name == "limited":
            fetch(f"http://127.0.0.1:{side.edge}{TARGET}", self.stage.request_headers(case))
        status, headers, body = fetch(f"http://127.0.0.1:{side.edge}{TARGET}", self.stage.request_headers(case))
        if status != case.expect:
            raise RunError(f"{case.name}: {status} instead of {case.expect}: {dict(headers)} {body[:300]}")

    def verification(self):
        """The processor time of one signature check, in µs."""
        said = json.loads(self.stage.tool("verification", *self.stage.issuer(), core=self.stage.gateway_core))
        return said["verification_us"]

    def hold(self, name, per_second, seconds):
        """Load at a fixed rate; what rate.rs says."""
        case = next(case for case in self.stage.cases if case.name == name)
        side = self.stage.sides[name]
        command = ["rate", "--to", f"127.0.0.1:{side.edge}", "--per-second", per_second, "--seconds", seconds]
        for header, value in self.stage.request_headers(case).items():
            command += ["--header", f"{header}: {value}"]
        return json.loads(self.stage.tool(*command))

    def flood(self, requests):
        """The maximum memory of a process after so many addresses and invalid tokens."""
        # Limits for each address, so that the process stores it, but too high to refuse a request, also for addresses that share
        # a bucket. No limit on unseen tokens, so that each token is verified and cached.
        limits = f"checks_per_client: {{ per_minute: 600000, burst: 1000000 }}, {MANY_NEW}"
        # Nothing else is measured at the same time, so both cores are used.
        both = ",".join(str(core) for core in sorted(set(cores())))
        side = self.stage.start_auth("flood", limits, core=both)
        self.stage.wait_auth(side)
        command = ["flood", "--to", side.check, "--host", HOST, "--forge", self.stage.first("one")]
        said = json.loads(self.stage.tool(*command, "--requests", requests, "--expect", 401, core=both))
        checked = self.checked(side)
        if said["unexpected"] or checked < requests * 0.99:
            raise RunError(f"{said['unexpected']} of {requests} forged tokens were not answered 401; {checked:.0f} were looked at")
        memory = memory_mib(side.auth, "VmHWM")
        self.stage.processes.end(side.auth)
        return memory

    def start_ms(self):
        """The time from the start of the process until it is ready, in ms."""
        begun = time.monotonic()
        side = self.stage.start_auth("start")
        while not answers(side.ops):
            if time.monotonic() - begun > 10:
                raise RunError("wechat-authz does not become ready")
            time.sleep(0.0005)
        took = (time.monotonic() - begun) * 1e3
        self.stage.processes.end(side.auth)
        return took


def counter(side, name):
    """The value of a counter in the metrics of an auth process."""
    _, _, text = fetch(f"http://127.0.0.1:{side.ops}/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))


def answers(port):
    """Whether the ops listener reports readiness. Uses a socket, because an HTTP library takes too long."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
            one.sendall(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            return one.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
