"""A container as a process of this machine, as the manifest describes it, in its own root and namespaces."""
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
# The maximum size of a termination message from the log, as in the kubelet.
MESSAGE_BYTES, MESSAGE_LINES = 2048, 80
REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def expanded(text, env):
    """Expands `$(NAME)` as Kubernetes does; `$$` is a dollar sign."""

    def fill(found):
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return REFERENCE.sub(fill, text)


class Container:
    """A container of a pod. `sidecar`: whether it keeps running with the application."""

    def __init__(self, pod, spec, sidecar=False):
        self.pod, self.spec, self.sidecar, self.name = pod, spec, sidecar, spec["name"]
        self.image = pod.node.images.find(spec["image"])
        self.log = pod.directory / f"{self.name}.log"
        self.pidfile = pod.directory / f"{self.name}.pid"
        self.root = pod.directory / "roots" / self.name
        self.shim, self.pid, self.began, self.restarts = None, None, 0, 0
        # Set by its probes, with the output of the last one.
        self.started, self.ready, self.last_said = threading.Event(), False, ""

    def env(self):
        """The environment: the image's variables, then the manifest's."""
        env = {"HOSTNAME": self.pod.name, **self.image.env}
        for variable in self.spec.get("env", []):
            if "valueFrom" in variable:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                env[variable["name"]] = self.pod.field(path)
            else:
                env[variable["name"]] = expanded(variable.get("value", ""), env)
        if self.spec.get("envFrom"):
            raise RunError(f"{self.name}: envFrom is not supported here")
        return env

    def argv(self, env):
        """The manifest's command and arguments, or the image's."""
        command, args = self.spec.get("command"), self.spec.get("args")
        if command:
            words = command + (args or [])
        else:
            words = self.image.entrypoint + (self.image.command if args is None else args)
        return [expanded(word, env) for word in words]

    def mounts(self):
        """The mounts: the image's files, and the manifest's volumes."""
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
        # Deeper paths are mounted later.
        return sorted(found, key=lambda one: one["target"].count("/"))

    def settings(self, argv, env):
        """The settings for runtime.py."""
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
        """Runs another process in the container. Returns its exit code (None after a time-out) and its output."""
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
        """Signals its first process, as a runtime does."""
        if not self.has_ended():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def said(self):
        """Its output since its last start."""
        with open(self.log, "rb") as log:
            log.seek(self.began)
            return log.read().decode("utf-8", "replace")

    def message(self):
        """The termination message, if the manifest takes it from the log."""
        if self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError" or self.exit_code == 0:
            return ""
        text = self.said().encode()[-MESSAGE_BYTES:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-MESSAGE_LINES:])

    def state(self):
        """The state in words, for error messages."""
        where = "ready" if self.ready else "started" if self.started.is_set() else "not started"
        return f"{self.name} {where}{f' ({self.last_said})' if self.last_said else ''}"

    def port(self, wanted):
        """The port with this number or name."""
        if isinstance(wanted, int):
            return wanted
        for port in self.spec.get("ports", []):
            if port.get("name") == wanted:
                return port["containerPort"]
        raise RunError(f"{self.name} has no port {wanted}")
