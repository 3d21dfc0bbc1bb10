"""The four processes of the demo: their configurations, and when each is ready."""
import contextlib
import dataclasses
import fcntl
import http.client
import json
import os
import pathlib
import random
import secrets
import shutil
import socket
import subprocess
import sys

from .processes import RunError, dying_with_us

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent
PLACE = ROOT / "target" / "demo"
READY_WITHIN = 20

# Below the ephemeral ports, so that no other process gets one before it is used.
PORTS = range(20000, 30000)


@dataclasses.dataclass(frozen=True)
class Site:
    """One application of wechat-authz and of the simulator."""

    name: str
    host: str
    official_account: str
    website: str
    scope: str


SILENT = Site("silent", "127.0.0.1", "wx00000000000000a1", "wx00000000000000b1", "snsapi_base")
CONSENT = Site("consent", "consent.localhost", "wx00000000000000a2", "wx00000000000000b2", "snsapi_userinfo")
SITES = (SILENT, CONSENT)


def is_free(port):
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(port):
    """Whether a server accepts connections at this port."""
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count):
    free = (port for port in random.SystemRandom().sample(PORTS, len(PORTS)) if is_free(port))
    return [next(free) for _ in range(count)]


def build():
    """Builds the two programs and shows cargo's progress; returns their paths by name."""
    command = ["cargo", "build", "--message-format=json-render-diagnostics"]
    command += ["--package=wechat-authz", "--bin=wechat-authz", "--package=wechat-simulator", "--bin=wechat-simulator"]
    try:
        cargo = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=dying_with_us(), check=False)
    except FileNotFoundError:
        raise RunError("cargo is missing: install Rust, https://rustup.rs") from None
    if cargo.returncode != 0:
        raise RunError("cargo could not build; its output is above")
    messages = (json.loads(line) for line in cargo.stdout.splitlines() if line.startswith(b"{"))
    built = [message for message in messages if message.get("executable")]
    return {message["target"]["name"]: message["executable"] for message in built}


def envoy():
    """The path of Envoy, which is downloaded if it is missing."""
    command = [sys.executable, HERE / "get"]
    get = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=dying_with_us(), check=False)
    if get.returncode != 0:
        raise RunError("Envoy is not available; the reason is above")
    return get.stdout.strip()


@contextlib.contextmanager
def taking_turns():
    """Lets one run at a time choose free ports, until its processes listen."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with open(PLACE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Stage:
    """Ports, files and processes of a run."""

    def __init__(self, port=None):
        """`port` is the port for browsers. The other ports, and this one by default, are free ones."""
        self.edge, self.app, self.simulator, self.check, self.pages, self.ops, self.admin = free_ports(7)
        self.edge = port or self.edge
        self.directory = PLACE / str(self.edge)
        self.wechat = f"http://127.0.0.1:{self.simulator}"

    def origin(self, site):
        return f"http://{site.host}:{self.edge}"

    def log(self, name):
        return self.directory / f"{name}.log"

    def build_set(self, programs):
        """Writes the files that the processes read."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o700)
        registered, applications = [], []
        for site in SITES:
            application = {"name": site.name, "origin": self.origin(site)}
            for kind, appid in (("official_account", site.official_account), ("website", site.website)):
                secret = secrets.token_hex(16)
                file = self.directory / f"{appid}.secret"
                file.touch(mode=0o600)
                file.write_text(secret)
                known = {"kind": kind, "domains": [site.host], "any_port": True, "open_platform": "demo"}
                registered.append({"appid": appid, "secret": secret, **known})
                application[kind] = {"appid": appid, "secret_file": str(file)}
            application["official_account"]["scope"] = site.scope
            applications.append(application)
        (self.directory / "simulator.json").write_text(json.dumps({"apps": registered}))
        self._keygen(programs["wechat-authz"])
        configuration = {
            "listen": {name: f"127.0.0.1:{getattr(self, name)}" for name in ("check", "pages", "ops")},
            "keys": {"directory": str(self.directory / "keys")},
            "wechat": {"open": self.wechat, "api": self.wechat},
            "apps": applications,
        }
        # JSON is YAML too.
        (self.directory / "wechat-authz.yaml").write_text(json.dumps(configuration, indent=2) + "\n")
        addresses = [f"--{name}=127.0.0.1:{getattr(self, name)}" for name in ("app", "check", "pages")]
        addresses += [f"--listen=127.0.0.1:{self.edge}", f"--admin={self.admin}"]
        with open(self.directory / "envoy.yaml", "wb") as file:
            subprocess.run([sys.executable, HERE / "render", *addresses], stdout=file, check=True)

    def _keygen(self, program):
        command = [program, "keygen", str(self.directory / "keys")]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if made.returncode != 0:
            raise RunError(f"wechat-authz keygen failed:\n{made.stdout}")

    def open(self, processes, programs):
        """Starts the four processes, each after those that it needs are ready."""
        simulator = [programs["wechat-simulator"], f"--listen=127.0.0.1:{self.simulator}"]
        simulator += [f"--app-file={self.directory / 'simulator.json'}"]
        authz = [programs["wechat-authz"], "serve", "--config", self.directory / "wechat-authz.yaml"]
        envoy_command = [programs["envoy"], "-c", self.directory / "envoy.yaml", "--concurrency", "2"]
        # With hot restart, two Envoys on one machine would conflict.
        envoy_command += ["--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "20"]
        for name, command, probe in (
            ("simulator", simulator, (self.simulator, "/_sim/clock")),
            ("app", [sys.executable, HERE / "app.py", f"--port={self.app}"], (self.app, "/")),
            ("wechat-authz", authz, (self.ops, "/readyz")),
            ("envoy", envoy_command, (self.admin, "/ready")),
        ):
            process = processes.start(name, command, log=self.log(name), environment=environment())
            process.wait_until(lambda probe=probe: answers(*probe), READY_WITHIN)


def environment():
    """This process's environment, without variables that change the configuration or set a proxy."""
    foreign = ("WECHAT_AUTHZ_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}


def answers(port, path):
    """Whether the response is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
