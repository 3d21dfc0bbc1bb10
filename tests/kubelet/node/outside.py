"""What is outside of the pods: WeChat's simulator, the Secrets that an operator makes, and people's browsers."""
import json
import secrets
import socket

from demonstration.stage import READY_WITHIN, SILENT, SITES, Stage, answers, environment
from demonstration.walk import SESSION

from .collector import Collector
from .network import Relay

# As values.yaml says them.
EDGE, SIMULATOR = 8080, 8790


class Outside(Stage):
    """The demonstration's stage, of which the simulator is played here and the rest in pods."""

    def __init__(self, directory):
        super().__init__(port=EDGE)
        self.simulator, self.wechat = SIMULATOR, f"http://127.0.0.1:{SIMULATOR}"
        self.directory = directory
        self.target = None
        self.collector = Collector()
        Relay(socket.create_server(("127.0.0.1", EDGE)), lambda: self.target)

    def open(self, processes, programs):
        command = [programs["wechat-simulator"], f"--listen=127.0.0.1:{self.simulator}"]
        command += [f"--app-file={self.directory / 'simulator.json'}"]
        process = processes.start("simulator", command, log=self.log("simulator"), environment=environment())
        process.wait_until(lambda: answers(self.simulator, "/_sim/clock"), READY_WITHIN)

    def secrets(self):
        """As docs/en/kubernetes.md creates them: the files of `wechat-authz keygen`, and each AppSecret under its AppID."""
        keys = {file.name: file.read_bytes() for file in (self.directory / "keys").iterdir()}
        appids = [appid for site in SITES for appid in (site.official_account, site.website)]
        known = {appid: (self.directory / f"{appid}.secret").read_bytes() for appid in appids}
        admin = {"token": secrets.token_hex(32).encode()}
        return {("secret", "wechat-keys"): keys, ("secret", "wechat"): known, ("secret", "wechat-admin"): admin}

    def serve(self, pod):
        """WeChat can be reached from this pod, at the loopback address that alone may go without TLS."""
        return Relay(pod.sandbox.listener(SIMULATOR), lambda: ("127.0.0.1", SIMULATOR))

    def lead(self, address, port):
        """Where browsers' requests go from now on."""
        self.target = (address, port)


class Person:
    """Somebody who has logged in: the cookie, and whom the application sees."""

    def __init__(self, stage, walk):
        url = stage.origin(SILENT) + "/api/orders"
        answer = walk.phone.ask("GET", url, accept="application/json")
        self.subject = dict(json.loads(answer.text)["headers"])["x-wechat-subject"]
        (token,) = [one.value for one in walk.phone.cookies.kept.values() if one.name == SESSION]
        self.cookie = f"{SESSION}={token}"
        self.host = url.split("/")[2]
