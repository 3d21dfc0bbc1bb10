"""A pod as the kubelet runs it: sidecars in order, each after the previous one has started; probes; and the termination in
Kubernetes' order."""
import re
import signal
import threading
import time

from demonstration.processes import RunError

from . import probes
from .container import Container
from .volumes import MissingObjectError, Volumes

# The kubelet retries missing objects after 2 s and more, and restarts ended containers after 10 s, doubled each time. Here the
# intervals are shorter.
LOOK, BACK_OFF, MAX_BACK_OFF = 0.2, 0.5, 4.0
# Kubernetes' defaults.
GRACE = 30


class Node:
    """What the pods of this machine share. `objects` are the cluster's ConfigMaps and Secrets."""

    def __init__(self, directory, images, network, objects):
        self.directory, self.images, self.network, self.objects = directory, images, network, objects
        self.pods = []

    def run(self, manifest):
        pod = Pod(self, manifest)
        self.pods.append(pod)
        return pod

    def close(self):
        for pod in self.pods:
            pod.kill()


class Pod:
    """A pod. A thread starts it at once; `events` lists what happens."""

    def __init__(self, node, manifest):
        self.node, self.metadata, self.spec = node, manifest["metadata"], manifest["spec"]
        self.name = self.metadata["name"]
        self.directory = node.directory / self.name
        self.directory.mkdir(parents=True)
        self.sandbox = node.network.sandbox()
        group = (self.spec.get("securityContext") or {}).get("fsGroup")
        self.volumes = Volumes(self.directory / "volumes", node.objects, group)
        self.files = self.write_files()
        initial = self.spec.get("initContainers", [])
        self.initial = [Container(self, one, one.get("restartPolicy") == "Always") for one in initial]
        self.sidecars = [one for one in self.initial if one.sidecar]
        self.main = [Container(self, one) for one in self.spec["containers"]]
        self.stopping, self.terminating_since = threading.Event(), None
        self.events, self.faults = [], []
        self.aside(self.bring_up)

    def write_files(self):
        """The files that the kubelet writes for every container."""
        texts = {
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n{self.sandbox.address} {self.name}\n",
            "hostname": f"{self.name}\n",
            "resolv.conf": "",
        }
        for name, text in texts.items():
            (self.directory / name).write_text(text, encoding="utf-8")
        return {name: self.directory / name for name in texts}

    def field(self, path):
        """A field of the pod, as in the downward API."""
        found = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        if found:
            return self.metadata["labels"].get(found[1], "")
        known = {
            "metadata.name": self.name,
            "metadata.namespace": self.metadata["namespace"],
            "metadata.uid": self.metadata["uid"],
            "status.podIP": self.sandbox.address,
        }
        if path not in known:
            raise RunError(f"{self.name}: the downward API does not support {path} here")
        return known[path]

    def tell(self, text):
        """Records an event, once."""
        if text not in self.events:
            self.events.append(text)

    def aside(self, task, *arguments):
        """Runs the pod in its own thread, until it ends."""

        def run():
            try:
                task(*arguments)
            except RunError as error:
                self.faults.append(str(error))
            except Stopped:
                pass

        threading.Thread(target=run, daemon=True).start()

    def bring_up(self):
        self.lay_out_volumes()
        for container in self.initial:
            if container.sidecar:
                self.begin(container)
            else:
                self.run_to_its_end(container)
        for container in self.main:
            self.aside(self.begin, container)

    def lay_out_volumes(self):
        """Creates all volumes before the first container; the pod waits for missing objects."""
        while True:
            try:
                for volume in self.spec.get("volumes", []):
                    self.volumes.make(volume)
                return
            except MissingObjectError as lacking:
                self.tell(str(lacking))
            self.rest(LOOK)

    def refresh(self):
        """Updates ConfigMaps and Secrets, as the kubelet does once a minute."""
        for volume in self.spec.get("volumes", []):
            if "emptyDir" not in volume and self.volumes.path(volume).exists():
                self.volumes.make(volume)

    def rest(self, seconds):
        if self.stopping.wait(seconds):
            raise Stopped

    def run_to_its_end(self, container):
        container.start()
        while not container.has_ended():
            self.rest(LOOK)
        if container.exit_code != 0:
            raise RunError(f"{self.name}: {container.name} ended with {container.exit_code}:\n{container.message()}")

    def begin(self, container):
        """Starts a container, repeatedly if necessary, until its startupProbe succeeds."""
        pause = BACK_OFF
        while True:
            container.start()
            if self.has_started(container):
                break
            container.restarts += 1
            self.tell(f"{container.name} ended with {container.exit_code}: {container.message().strip()}")
            self.rest(pause)
            pause = min(2 * pause, MAX_BACK_OFF)
        container.started.set()
        readiness, liveness = container.spec.get("readinessProbe"), container.spec.get("livenessProbe")
        if readiness:
            # Probes continue while the pod terminates.
            probe = probes.Probe(container, readiness)
            probes.start(probe, threading.Event(), lambda good, _: setattr(container, "ready", good))
        else:
            container.ready = True
        if liveness:
            probe = probes.Probe(container, liveness)
            probes.start(probe, self.stopping, lambda *found: self.judge_life(container, *found))
        self.aside(self.mind, container)

    def has_started(self, container):
        """Waits for the startup probe; False if the container ended before."""
        spec = container.spec.get("startupProbe")
        if not spec:
            return True
        probe, failures = probes.Probe(container, spec), 0
        self.rest(spec.get("initialDelaySeconds", 0))
        while not container.has_ended():
            good, container.last_said = probe.attempt()
            if good:
                return True
            failures += 1
            if failures >= spec.get("failureThreshold", 3):
                self.tell(f"{container.name}: the startupProbe failed: {container.last_said}")
                container.signal(signal.SIGKILL)
                container.shim.wait()
                return False
            deadline = time.monotonic() + probe.period
            while time.monotonic() < deadline and not container.has_ended():
                self.rest(0.02)
        return False

    def judge_life(self, container, good, said):
        if not good and not self.stopping.is_set():
            self.faults.append(f"{self.name}: the livenessProbe of {container.name} failed: {said}")

    def mind(self, container):
        container.shim.wait()
        meant = self.spec.get("restartPolicy") == "Never" and container.exit_code == 0
        if not meant and not self.stopping.is_set():
            how = f"ended by itself with {container.exit_code}:\n{container.said()[-1500:]}"
            self.faults.append(f"{self.name}: {container.name} {how}")

    @property
    def everyone(self):
        return self.sidecars + self.main

    def is_ready(self):
        return all(one.started.is_set() and one.ready and not one.has_ended() for one in self.everyone)

    def container(self, name):
        return next(one for one in self.initial + self.main if one.name == name)

    def wait_until_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            self.check()
            if time.monotonic() > deadline:
                state = "; ".join(one.state() for one in self.everyone)
                raise RunError(f"{self.name} is not ready after {seconds} s: {state}; events: {self.events}")
            time.sleep(0.02)

    def check(self):
        """Fails if a thread of the pod had an error."""
        if self.faults:
            raise RunError("\n".join(self.faults))

    def stop(self):
        """Terminates the pod as the kubelet does. Returns [(seconds since the beginning, container, event)]."""
        begun = time.monotonic()
        self.terminating_since = begun
        self.stopping.set()
        deadline = begun + self.spec.get("terminationGracePeriodSeconds", GRACE)
        happened = []

        def note(container, what):
            happened.append((round(time.monotonic() - begun, 2), container.name, what))

        def left():
            return max(0.0, deadline - time.monotonic())

        def end(container, others):
            hook = container.spec.get("lifecycle", {}).get("preStop")
            if hook:
                self.run_hook(container, hook, left, note)
            for other in others:
                wait_for(other.shim, left())
            note(container, "SIGTERM")
            container.signal(signal.SIGTERM)
            if not wait_for(container.shim, left()):
                note(container, "SIGKILL")
                container.signal(signal.SIGKILL)
                container.shim.wait()
            note(container, f"ended with {container.exit_code}")

        threads = [threading.Thread(target=end, args=(one, [])) for one in self.main if one.shim]
        running = [one for one in self.sidecars if one.shim]
        for at, container in enumerate(running):
            others = [one for one in self.main if one.shim] + running[at + 1 :]
            threads.append(threading.Thread(target=end, args=(container, others)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(happened)

    def run_hook(self, container, hook, left, note):
        note(container, "preStop begins")
        if "exec" in hook:
            code, said = container.execute(hook["exec"]["command"], left())
            note(container, f"preStop ends with {code}{': ' if said else ''}{said}")
        elif "sleep" in hook:
            time.sleep(min(hook["sleep"]["seconds"], left()))
            note(container, "preStop ends")
        else:
            raise RunError(f"{container.name}: hook not supported here: {hook}")

    def kill(self):
        self.stopping.set()
        for container in self.everyone + self.initial:
            if container.shim:
                container.shim.kill()
                container.shim.wait()
        self.sandbox.end()
        self.volumes.remove()


class Stopped(Exception):
    """The pod was terminated during its start."""


def wait_for(process, seconds):
    """Whether the process ended within that time."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
