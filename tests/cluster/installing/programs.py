"""etcd, kube-apiserver and the controllers, built from the modules that go.mod pins."""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import time

from demonstration.processes import RunError, dying_with_us

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TOOLS = ROOT / "target" / "tools"
PLACE = TOOLS / "cluster"
PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}


def kubernetes():
    """The release that go.mod names."""
    text = (HERE / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^\s*k8s\.io/kubernetes (v\d+\.\d+\.\d+)(?: // indirect)?$", text, re.M)
    if not found:
        raise RunError("tests/cluster/go.mod names no release of k8s.io/kubernetes")
    return found[1]


def build():
    """Builds the programs, with Go's cache; returns the duration in seconds."""
    begun, version = time.monotonic(), kubernetes()
    major, minor, _ = version.removeprefix("v").split(".")
    # Otherwise the server reports v0.0.0, which Helm uses.
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in told.items())
    go = subprocess.run([ROOT / "tests" / "go"], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    if go.returncode != 0:
        raise RunError("Go is not available; the reason is above")
    # Two at a time with low priority: the linker takes gigabytes for each.
    command = ["nice", "-n", "10", go.stdout.strip(), "build", "-p=2", "-trimpath", f"-ldflags=-s -w {flags}"]
    PLACE.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / "cluster.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((PLACE / name).is_file() for name in PROGRAMS):
            print(f"building etcd and Kubernetes {version}, once: about ten minutes on two cores", flush=True)
        for name, package in PROGRAMS.items():
            quiet = {"capture_output": True, "text": True, "preexec_fn": dying_with_us(), "check": False}
            done = subprocess.run([*command, f"-o={PLACE / name}", package], cwd=HERE, timeout=3600, **quiet)
            if done.returncode != 0:
                raise RunError(f"go could not build {name}:\n{done.stderr[-4000:]}")
    return time.monotonic() - begun


def needs(**programs):
    """Installs the Debian packages of missing programs."""
    missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RunError(f"these Debian packages are needed and cannot be installed here: {missing}")
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], **quiet)
