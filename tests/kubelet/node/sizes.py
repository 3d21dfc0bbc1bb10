"""Measures the two sidecars in an injected pod: memory, and CPU in thousandths of a core."""
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from demonstration.processes import RunError
from demonstration.stage import SILENT

from .network import Relay

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "bench-tools" / "conductor"))

from processes import forget_peak, memory_mib, ran_since, threads_ns  # noqa: E402

SECONDS = 6
RATES = (100, 1_000)
SESSIONS = (10_000, 100_000)
CONNECTIONS = 1_000
# Addresses that send one request each, with a forged token.
STRANGERS = 200_000
CHECK_PORT = 18100


class Sizes:
    """Measures one pod and prints a table."""

    def __init__(self, scenes, program):
        self.scenes, self.program = scenes, program
        self.host = scenes.stage.origin(SILENT).rpartition("/")[2]

    def tool(self, *words):
        command = [str(word) for word in (self.program, *words)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            # Without its arguments, which contain a token.
            raise RunError(f"bench-tools {words[0]} does not end") from None
        if done.returncode != 0:
            raise RunError(f"bench-tools {words[0]}: {done.stderr}")
        return done.stdout

    def measure(self):
        with self.scenes.node("sizes", self.scenes.objects()) as node:
            tokens = self.mint(node.directory)
            pod = self.scenes.run(node, self.scenes.cluster.pod, "sizes-1")
            pod.wait_until_ready()
            self.ours, self.envoy = pod.container("wechat-authz"), pod.container("wechat-envoy")
            self.address = f"{pod.sandbox.address}:15006"
            self.cookie = f"__Host-wechat_session={tokens.read_text(encoding='ascii').splitlines()[0]}"
            socket_path = f"/proc/{self.ours.pid}/root/run/wechat-authz/check.sock"
            relay = Relay(socket.create_server(("127.0.0.1", CHECK_PORT)), lambda: socket_path)
            print(f"\n  {'':42} {'wechat-authz':>22} {'Envoy':>22}", flush=True)
            time.sleep(2)
            self.row("at rest", lambda: time.sleep(SECONDS))
            for rate in RATES:
                self.row(f"{rate:,} requests a second", lambda rate=rate: self.load(rate))
            for count in SESSIONS:
                self.fill(tokens, count)
                self.row(f"{count:,} sessions, at rest", lambda: time.sleep(3))
                self.row(f"{count:,} sessions, {RATES[-1]:,} requests a second", lambda: self.load(RATES[-1]))
            self.row(f"and {CONNECTIONS:,} open connections", self.connections)
            self.row(f"and {STRANGERS:,} strangers, forged tokens", self.strangers)
            self.row("afterwards, at rest", lambda: time.sleep(3))
            relay.close()
            pod.check()

    def mint(self, directory):
        """Creates many sessions, signed with the pod's keys."""
        stage = self.scenes.stage
        issuer = ["--keys", stage.directory / "keys", "--issuer", stage.origin(SILENT), "--audience", SILENT.name]
        file = directory / "tokens"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.tool("mint", *issuer, "--count", max(SESSIONS)), encoding="ascii")
        return file

    def row(self, name, work):
        """The costs of both during `work`: maximum memory and mean CPU."""
        two = (self.ours, self.envoy)
        for one in two:
            forget_peak(one)
        before, begun = [threads_ns(one) for one in two], time.monotonic()
        work()
        took = time.monotonic() - begun
        cells = []
        for one, ran in zip(two, before):
            cells.append(f"{memory_mib(one, 'VmHWM'):7.0f} MiB {ran_since(one, ran) / took / 1e6:7.1f} m")
        print(f"  {name:42} {cells[0]:>22} {cells[1]:>22}", flush=True)

    def load(self, rate):
        headers = {"Host": self.host, "Cookie": self.cookie, "Accept": "*/*"}
        words = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
        said = json.loads(self.tool("rate", "--to", self.address, "--per-second", rate, "--seconds", SECONDS, *words))
        if said["errors"]:
            raise RunError(f"{said['errors']} of the requests failed")

    def flood(self, *words):
        said = json.loads(self.tool("flood", "--to", f"127.0.0.1:{CHECK_PORT}", "--host", self.host, *words))
        if said["unexpected"]:
            raise RunError(f"{said['unexpected']} of {said['requests']} checks had another answer")

    def fill(self, tokens, count):
        """Uses this many sessions once."""
        self.flood("--tokens", tokens, "--most", count, "--expect", 200)
        time.sleep(2)

    def strangers(self):
        self.flood("--forge", self.cookie.partition("=")[2], "--requests", STRANGERS, "--expect", 401)

    def connections(self):
        """Opens this many connections and keeps them open after one request each."""
        address, _, port = self.address.partition(":")
        request = f"GET / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.cookie}\r\n\r\n".encode()
        held = []
        try:
            for _ in range(CONNECTIONS):
                held.append(socket.create_connection((address, int(port)), timeout=10))
                held[-1].sendall(request)
                if not held[-1].recv(4096).startswith(b"HTTP/1.1 200"):
                    raise RunError("a request failed")
            time.sleep(1)
        finally:
            for one in held:
                one.close()
