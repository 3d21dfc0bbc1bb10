"""One container as a process of this machine: what the manifest says, in a root and namespaces of its own."""
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

from demonstration.processes import RunError

RUNTIME = pathlib.Path(__file__).resolve().parent / "runtime.py"
# How much of a log becomes the termination message, as kubelet takes it.
MESSAGE_BYTES, MESSAGE_LINES = 2048, 80
REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def expanded(text, env):
    """`$(NAME)` in arguments and values, as Kubernetes fills it in; `$$` is one dollar."""

    def fill(found):
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return REFERENCE.sub(fill, text)


class Container:
    """Of a pod. `sidecar` says whether it goes on beside the application."""

    def __init__(self, pod, spec, sidecar=False):
        self.pod, self.spec, self.sidecar, self.name = pod, spec, sidecar, spec["name"]
        self.image = pod.node.images.find(spec["image"])
        self.log = pod.directory / f"{self.name}.log"
        self.pidfile = pod.directory / f"{self.name}.pid"
        self.root = pod.directory / "roots" / self.name
        self.shim, self.pid, self.began, self.restarts = None, None, 0, 0
        # Found by its probes, with what the last one said.
        self.started, self.ready, self.last_said = threading.Event(), False, ""

    def env(self):
        """The image's, then the manifest's, in order."""
        env = {"HOSTNAME": self.pod.name, **self.image.env}
        for variable in self.spec.get("env", []):
            if "valueFrom" in variable:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                env[variable["name"]] = self.pod.field(path)
            else:
                env[variable["name"]] = expanded(variable.get("value", ""), env)
        if self.spec.get("envFrom"):
            raise RunError(f"{self.name}: envFrom is not known here")
        return env

    def argv(self, env):
        """The manifest's command and arguments, where it has them; else the image's."""
        command, args = self.spec.get("command"), self.spec.get("args")
        if command:
            words = command + (args or [])
        else:
            words = self.image.entrypoint + (self.image.command if args is None else args)
        return [expanded(word, env) for word in words]

    def mounts(self):
        """The image's files, and the volumes where the manifest mounts them."""
        found = []

        def mounted(source, target, readonly=True):
            found.append({"source": str(source), "target": target, "readonly": readonly})

        for target, source in self.image.files.items():
            mounted(source, target)
        volumes = {volume["name"]: volume for volume in self.pod.spec["volumes"]}
        for mount in self.spec.get("volumeMounts", []):
            if mount.get("subPath"):
                raise RunError(f"{self.name}: a subPath would hide every later change of {mount['name']}")
            source = self.pod.volumes.path(volumes[mount["name"]])
            mounted(source, mount["mountPath"], mount.get("readOnly", False))
        for name, file in self.pod.files.items():
            mounted(file, f"/etc/{name}")
        # What lies deeper is mounted later.
        return sorted(found, key=lambda one: one["target"].count("/"))

    def settings(self, argv, env):
        """What runtime.py reads."""
        whole = self.pod.spec.get("securityContext") or {}
        own = self.spec.get("securityContext") or {}
        group = own.get("runAsGroup", whole.get("runAsGroup", self.image.group))
        user = own.get("runAsUser", whole.get("runAsUser", self.image.user))
        if user == 0 and own.get("runAsNonRoot", whole.get("runAsNonRoot")):
            raise RunError(f"{self.name}: container has runAsNonRoot and image will run as root")
        return {
            "argv": argv,
            "env": env,
            "directory": self.spec.get("workingDir", "/"),
            "user": user,
            "group": group,
            "groups": [whole["fsGroup"]] if "fsGroup" in whole else [],
            "drop": "ALL" in (own.get("capabilities") or {}).get("drop", []),
            "escalation": own.get("allowPrivilegeEscalation", True),
        }

    def start(self):
        self.root.mkdir(parents=True, exist_ok=True)
        self.pidfile.unlink(missing_ok=True)
        env = self.env()
        spec = self.settings(self.argv(env), env) | {
            "network": self.pod.sandbox.path,
            "hostname": self.pod.name,
            "root": str(self.root),
            "mounts": self.mounts(),
            "readonly": (self.spec.get("securityContext") or {}).get("readOnlyRootFilesystem", False),
            "pidfile": str(self.pidfile),
        }
        self.began = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.shim = subprocess.Popen(
                [sys.executable, "-IS", RUNTIME, "run", json.dumps(spec)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self.pidfile.exists() and not self.has_ended():
            if time.monotonic() > deadline:
                raise RunError(f"{self.name} was not started within 20 s")
            time.sleep(0.005)
        if not self.pidfile.exists():
            raise RunError(f"{self.name} could not be started:\n{self.said()}")
        self.pid = int(self.pidfile.read_text(encoding="ascii"))

    def execute(self, argv, timeout):
        """One more process in the container: its exit code, None where it took too long; and what it said."""
        env = self.env()
        spec = self.settings([expanded(word, env) for word in argv], env)
        command = [sys.executable, "-IS", RUNTIME, "exec", str(self.pid), json.dumps(spec)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return None, f"no end within {timeout} s"
        return done.returncode, (done.stdout + done.stderr).strip()

    def has_ended(self):
        return self.shim is not None and self.shim.poll() is not None

    @property
    def exit_code(self):
        return self.shim.returncode

    def signal(self, number):
        """To its first process, as a runtime does."""
        if not self.has_ended():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def said(self):
        """What it has written since it was last started."""
        with open(self.log, "rb") as log:
            log.seek(self.began)
            return log.read().decode("utf-8", "replace")

    def message(self):
        """The termination message, where the manifest takes it from the log."""
        if self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError" or self.exit_code == 0:
            return ""
        text = self.said().encode()[-MESSAGE_BYTES:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-MESSAGE_LINES:])

    def state(self):
        """In words, for who waits for it in vain."""
        where = "ready" if self.ready else "started" if self.started.is_set() else "not started"
        return f"{self.name} {where}{f' ({self.last_said})' if self.last_said else ''}"

    def port(self, wanted):
        """A port of this container by number or name."""
        if isinstance(wanted, int):
            return wanted
        for port in self.spec.get("ports", []):
            if port.get("name") == wanted:
                return port["containerPort"]
        raise RunError(f"{self.name} has no port {wanted}")
