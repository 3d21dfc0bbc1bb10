"""The parts of the test."""
import contextlib
import copy
import http.client
import io
import pathlib
import re
import subprocess
import sys
import threading
import time

from demonstration.browser import DESKTOP, Browser
from demonstration.processes import Processes, RunError
from demonstration.stage import READY_WITHIN, SILENT, answers
from demonstration.walk import Unexpected, Walk
from endpoints import leads_to

from . import judging
from .judging import OPS, asked, expect
from .manifests import WAYS, config_maps, created
from .outside import Person
from .pod import Node
from .probes import Probe
from .service import Load, Service

ROOT = pathlib.Path(__file__).resolve().parents[3]
# The ports of the gateway in mode gateway, each followed by its admin port, and of the application.
FRONT, BEHIND = 18080, 18090
# The seconds of load before a pod ends.
LOAD_BEFORE = 2.0


def say(text):
    print(text, flush=True)


class Scenes:
    """A node and its surroundings."""

    def __init__(self, directory, images, network, stage, cluster):
        self.directory, self.images, self.network, self.stage, self.cluster = directory, images, network, stage, cluster
        self.relays = []

    @contextlib.contextmanager
    def node(self, name, objects):
        """A node for one part."""
        node = Node(self.directory / name, self.images, self.network, objects)
        try:
            yield node
        finally:
            node.close()

    def objects(self):
        """The ConfigMaps and Secrets in the pods' namespace."""
        return config_maps(self.cluster.manifests) | self.stage.secrets()

    def run(self, node, pod, name):
        """Starts a pod that can reach WeChat."""
        made = node.run(created(pod, name))
        self.relays.append(self.stage.serve(made))
        return made

    def log_in(self, address, port):
        """小明 logs in by every method; returns the user inside WeChat."""
        self.stage.lead(address, port)
        # WeChat asks each user for consent only once.
        reset = Browser(DESKTOP).ask("POST", f"{self.stage.wechat}/_sim/reset")
        expect(reset.status < 300, f"the simulator does not reset: {reset.status}")
        told, walk = io.StringIO(), Walk(self.stage)
        try:
            with contextlib.redirect_stdout(told):
                walk.run()
        except (Unexpected, OSError) as unexpected:
            raise RunError(f"the login: {unexpected}\n{told.getvalue()[-2000:]}") from None
        return Person(self.stage, walk)

    # The parts. The first line of the docstring is printed.

    def ways(self):
        """the injected pod in each way of traffic: ready, a login, and an end that fails no request"""
        with self.node("ways", self.objects()) as node:
            pods = {way: self.run(node, self.cluster.pods[way], f"{way}-1") for way in WAYS}
            services = {way: Service(node, self.cluster.services[way]) for way in WAYS}
            people, loads = {}, {}
            for way, pod in pods.items():
                pod.wait_until_ready()
                judging.start(pod)
                port = leads_to(pod.spec, services[way].target)
                wanted = 8080 if way in ("relocate", "loopback") else 15006
                expect(port == wanted, f"{way}: the Service leads to {port}")
                people[way] = self.log_in(pod.sandbox.address, port)
                judging.ops_listener(pod)
                judging.probes(pod)
                judging.admin_listener(pod, people[way].subject)
                judging.rights(pod)
                say(f"  {way}: ready, logins by every method, probes, the ops listener")
            for way in WAYS:
                person = people[way]
                loads[way] = Load(services[way], person.host, person.cookie, person.subject)
            time.sleep(LOAD_BEFORE)
            before = {way: load.answered for way, load in loads.items()}
            for load in loads.values():
                load.beside("/slow/3")
            time.sleep(0.5)
            happened = self.stop_all(pods, lambda: [load.beside("/slow/2") for load in loads.values()])
            for way, load in loads.items():
                load.wait()
                judging.load(way, load, before[way])
                judging.order(pods[way], happened[way])
                pods[way].check()
                say(f"  {way}: {load.answered} requests, {load.answered - before[way]} of them while it ended, "
                    f"{load.closed} connections closed politely, none failed")
            judging.logs(node, people.values())

    def stop_all(self, pods, meanwhile=None):
        """Terminates all pods at the same time; returns the events of each."""
        happened = {}
        threads = [threading.Thread(target=lambda way=way: happened.update({way: pods[way].stop()})) for way in pods]
        for thread in threads:
            thread.start()
        if meanwhile:
            # While endpoints are still being removed.
            time.sleep(0.3)
            meanwhile()
        for thread in threads:
            thread.join()
        return happened

    def unhooked(self):
        """without the hooks the same load fails: this proves that the part before can fail"""
        pod = copy.deepcopy(self.cluster.pods["swap"])
        for container in pod["spec"]["initContainers"] + pod["spec"]["containers"]:
            container.pop("lifecycle", None)
        with self.node("unhooked", self.objects()) as node:
            made = self.run(node, pod, "swap-0")
            made.wait_until_ready()
            person = self.log_in(made.sandbox.address, 15006)
            load = Load(Service(node, self.cluster.services["swap"]), person.host, person.cookie, person.subject)
            time.sleep(LOAD_BEFORE)
            made.stop()
            load.wait()
            expect(load.failures, "nothing notices that a pod without hooks cuts requests")
            say(f"  {len(load.failures)} requests failed, such as: {load.failures[0][:90]}")

    def restart(self):
        """a rolling restart of two pods under load: no request fails, no user is logged out"""
        with self.node("restart", self.objects()) as node:
            pod, service = self.cluster.pods["swap"], Service(node, self.cluster.services["swap"])
            old = [self.run(node, pod, f"old-{number}") for number in (1, 2)]
            for one in old:
                one.wait_until_ready()
            person = self.log_in(old[0].sandbox.address, 15006)
            load = Load(service, person.host, person.cookie, person.subject, clients=12)
            time.sleep(LOAD_BEFORE)
            endings, begun = [], time.monotonic()
            for number, one in enumerate(old, 1):
                # As a Deployment does: an old pod ends after the new one is ready.
                new = self.run(node, pod, f"new-{number}")
                new.wait_until_ready()
                ending = threading.Thread(target=lambda one=one: endings.append((one, one.stop())))
                ending.start()
            while len(endings) < len(old):
                time.sleep(0.1)
                expect(time.monotonic() < begun + 120, "the old pods do not end")
            time.sleep(1)
            load.end()
            for one, happened in endings:
                judging.order(one, happened)
            for one in node.pods:
                one.check()
            expect(len(service.endpoints()) == 2, f"{len(service.endpoints())} endpoints after the restart")
            expect(not load.failures, f"{len(load.failures)} requests failed, such as {load.failures[:3]}")
            expect(load.answered > 500, f"only {load.answered} requests: that is no load")
            say(f"  {load.answered} requests, {load.closed} connections closed politely, none failed")

    def lacking(self):
        """a missing or wrong entry of a Secret: not ready, one clear line, and ready after the correction, without a new pod"""
        good = self.objects()
        config = ("configMap", "edge-wechat-authz")
        text = good[config]["wechat-authz.yaml"]
        broken = text.replace(b"origin: http://127", b"origin: ftp://127")
        expect(broken != text, "there is no origin to spoil")
        secret, keys, admin = ("secret", "wechat"), ("secret", "wechat-keys"), ("secret", "wechat-admin")
        appid = SILENT.official_account
        others = {name: content for name, content in good[secret].items() if name != appid}
        mounted = "/run/secrets/wechat-authz"
        # The wrong object, who reports it (the kubelet, or the container with its exit code), and the words.
        cases = {
            "no-secret": ({secret: None}, None, ['secret "wechat" not found']),
            "no-appsecret": ({secret: others}, None, [f"non-existent secret key: {appid}"]),
            "no-keys": ({keys: {}}, 78, [f"{mounted}/keys"]),
            "bad-key": ({keys: {"a.pem": b"-----BEGIN NOTHING-----\n"}}, 78, [f"{mounted}/keys", "a.pem"]),
            "empty-appsecret": ({secret: others | {appid: b"\n"}}, 78, [f"{mounted}/wechat/{appid}"]),
            "short-token": ({admin: {"token": b"short"}}, 78, [f"{mounted}/admin/token", "32"]),
            "bad-setting": ({config: {"wechat-authz.yaml": broken}}, 78, ["origin", "ftp"]),
        }
        with self.node("lacking", good) as shared:
            nodes, pods = {}, {}
            for name, (changes, _, _) in cases.items():
                # Each pod has its own Secrets.
                objects = {key: files for key, files in ({**good, **changes}).items() if files is not None}
                nodes[name] = Node(shared.directory / name, self.images, self.network, objects)
                pods[name] = self.run(nodes[name], self.cluster.pods["swap"], name)
                shared.pods.append(pods[name])
            for name, (changes, code, words) in cases.items():
                say(f"  {name}: {judging.lacking(pods[name], code, words)}")
                # After the correction the pod becomes ready by itself.
                nodes[name].objects.update({key: good[key] for key in changes})
                pods[name].refresh()
            for name, pod in pods.items():
                pod.wait_until_ready()
                pod.check()
            say(f"  {len(cases)} faults, each told in one line; each pod became ready when it was set right")

    def changes(self):
        """changed keys and configuration apply to a running pod without a restart, and no user is logged out"""
        with self.node("changes", self.objects()) as node:
            pod = self.run(node, self.cluster.pods["swap"], "swap-2")
            pod.wait_until_ready()
            address = pod.sandbox.address
            person = self.log_in(address, 15006)
            load = Load(Service(node, self.cluster.services["swap"]), person.host, person.cookie, person.subject, clients=2)
            # As docs/en/kubernetes.md has it: keygen into the same directory again, and the Secret made anew from it.
            program = self.images.ours.files["/wechat-authz"]
            subprocess.run([program, "keygen", self.stage.directory / "keys"], check=True, capture_output=True, timeout=30)
            node.objects[("secret", "wechat-keys")] = self.stage.secrets()[("secret", "wechat-keys")]
            expect(len(node.objects[("secret", "wechat-keys")]) == 2, "keygen made no second key")
            config = ("configMap", "edge-wechat-authz")
            text = node.objects[config]["wechat-authz.yaml"]
            node.objects[config] = {"wechat-authz.yaml": text + b"\npolicy:\n- { path_prefix: /open, access: public }\n"}
            expect(self.as_nobody("/open") == 401, "the path is open before the change")
            pod.refresh()
            deadline = time.monotonic() + 30
            while (self.as_nobody("/open"), loaded_keys(address)) != (200, 2):
                now = f"{self.as_nobody('/open')} and {loaded_keys(address)} keys"
                expect(time.monotonic() < deadline, f"not in force after 30 s: {now}")
                pod.check()
                time.sleep(0.2)
            load.end()
            pod.check()
            expect(not load.failures, f"{len(load.failures)} requests failed, such as {load.failures[:3]}")
            expect(all(one.restarts == 0 for one in pod.everyone), "a container was started again")
            say(f"  a second key and a new rule, after {load.answered} requests, none failed")

    def as_nobody(self, path):
        """The response to a program without a session."""
        return Browser(DESKTOP).ask("GET", self.stage.origin(SILENT) + path, accept="application/json").status

    def gateway(self):
        """mode gateway: the Deployment's pods behind an existing gateway; one of them ends under load"""
        objects = config_maps(self.cluster.gateway_manifests) | self.stage.secrets()
        with self.node("gateway", objects) as node, Processes() as processes:
            pods = [self.run(node, self.cluster.deployment(), f"edge-{number}") for number in (1, 2)]
            for pod in pods:
                pod.wait_until_ready()
                self.ops_listener(pod)
            application = [sys.executable, "-B", ROOT / "envoy" / "app.py", f"--port={BEHIND}"]
            processes.start("application", application, log=node.directory / "application.log")
            # Without Redis, a logout applies only at its instance: the first login needs a single one.
            person = self.log_in("127.0.0.1", self.front(processes, node.directory, pods[:1], FRONT))
            say("  ready, and a login in every way there is")
            edge = self.front(processes, node.directory, pods, FRONT + 2)
            load = Load(Address("127.0.0.1", edge), person.host, person.cookie, person.subject)
            time.sleep(LOAD_BEFORE)
            before = load.answered
            happened = pods[0].stop()
            # Connections to it fail now, and the other pod answers.
            time.sleep(2)
            load.end()
            expect(not load.failures, f"{len(load.failures)} requests failed, such as {load.failures[:3]}")
            after = load.answered - before
            expect(before > 100 and after > 200, f"{before} and {after} requests: that is no load")
            at = {what.partition(":")[0]: when for when, _, what in happened}
            expect("ended with 0" in at, f"{pods[0].name}: {happened}")
            expect(at["ended with 0"] >= 5, f"{pods[0].name}: ended before the gateway could have noticed: {happened}")
            say(f"  {load.answered} requests, {after} of them while one of two ended and after that, none failed")

    def doctor(self):
        """the pod of `helm test`, in both modes"""
        for mode, manifests in (("inject", self.cluster.manifests), ("gateway", self.cluster.gateway_manifests)):
            (test,) = [one for one in manifests if one["kind"] == "Pod"]
            with self.node(f"doctor-{mode}", config_maps(manifests) | self.stage.secrets()) as node:
                pod = self.run(node, test, f"doctor-{mode}")
                (container,) = pod.main
                deadline = time.monotonic() + 30
                while not container.has_ended():
                    pod.check()
                    expect(time.monotonic() < deadline, f"mode {mode}: the doctor does not end")
                    time.sleep(0.05)
                said = container.said()
                expect(container.exit_code == 0, f"mode {mode}: the doctor ends with {container.exit_code}:\n{said}")
                found = re.findall(r"^(\w+) ", said, re.M)
                expect(found.count("ok") > 3, f"mode {mode}: the doctor found little:\n{said}")
                say(f"  mode {mode}: {found.count('ok')} things are well, none fails")

    def traces(self):
        """one trace of Envoy and wechat-authz, at the collector in the values"""
        with self.node("traces", self.objects()) as node:
            pod = self.run(node, self.cluster.pods["swap"], "swap-3")
            pod.wait_until_ready()
            self.stage.collector.seen = []
            self.log_in(pod.sandbox.address, 15006)
            deadline = time.monotonic() + 20
            while {"envoy", "wechat-authz"} not in self.stage.collector.services("page callback"):
                found = self.stage.collector.services("page callback")
                expect(time.monotonic() < deadline, f"no trace shows both of a callback: {found}")
                time.sleep(0.1)
            pod.check()
            say("  a callback is one trace of both")

    def ops_listener(self, pod):
        """The probes and metrics of the pod, and its check listener."""
        judging.probes(pod)
        address = pod.sandbox.address
        status, text = asked(address, 9102, "GET", "/metrics")
        expect(status == 200 and "wechat_authz_checks_total" in text, f"{pod.name}: the ops listener: {status}")
        host = self.stage.origin(SILENT).rpartition("/")[2]
        status, _ = asked(address, 9100, "GET", "/api/orders", host)
        expect(status == 401, f"{pod.name}: the check listener answers a stranger {status}")

    def front(self, processes, directory, pods, port):
        """Starts the gateway: an Envoy with the shipped configuration and these pods for checks. Returns its port."""
        command = [sys.executable, "-B", ROOT / "envoy" / "render", f"--admin={port + 1}"]
        command += [f"--listen=127.0.0.1:{port}", f"--app=127.0.0.1:{BEHIND}"]
        for pod in pods:
            command += [f"--check={pod.sandbox.address}:9100", f"--pages={pod.sandbox.address}:9101"]
        file = directory / f"front-{port}.yaml"
        with open(file, "wb") as output:
            subprocess.run(command, stdout=output, check=True, timeout=30)
        (program,) = [source for target, source in self.images.envoy.files.items() if target.endswith("/envoy")]
        envoy = [program, "-c", file, "--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]
        process = processes.start(f"front-{port}", envoy, log=directory / f"front-{port}.log")
        process.wait_until(lambda: answers(port + 1, "/ready"), READY_WITHIN)
        return port


class Address:
    """A single address in place of a Service."""

    def __init__(self, *address):
        self.address = address

    def endpoints(self):
        return [self.address]

    def choose(self):
        return self.address


def loaded_keys(address):
    _, text = asked(address, OPS, "GET", "/metrics")
    return sum(float(number) for number in re.findall(r"^wechat_authz_keys_loaded(?:\{[^}]*\})? ([0-9.]+)$", text, re.M))
