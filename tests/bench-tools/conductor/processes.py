"""Processes on fixed cores, and their costs as the operating system reports them."""
import glob
import json
import os
import pathlib
import random
import subprocess
import sys
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "envoy"))

from demonstration.processes import Processes, RunError, dying_with_us  # noqa: E402
from demonstration.stage import listens  # noqa: E402


def cores():
    """The core of the gateway and that of everything else: the last and the first that this process may use."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[-1], ours[0]


def free_port(taken=set()):
    """A port for a server that starts later, below the ephemeral ports."""
    while True:
        port = random.randrange(10_000, 32_000)
        if port not in taken and not listens(port):
            taken.add(port)
            return port


def threads_ns(process):
    """The CPU time of each thread of a process, in nanoseconds."""
    ran = {}
    for path in glob.glob(f"/proc/{process.pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                ran[path] = int(file.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has just ended
    return ran


def ran_since(process, before):
    """The CPU time of a process since `before` (from `threads_ns`), without threads that have ended."""
    return sum(now - before.get(thread, 0) for thread, now in threads_ns(process).items())


def memory_mib(process, what):
    """`VmRSS`, the memory now, or `VmHWM`, the maximum since `forget_peak`; in MiB."""
    with open(f"/proc/{process.pid}/status") as file:
        for line in file:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
    raise RunError(f"no {what} of process {process.pid}")


def forget_peak(process):
    with open(f"/proc/{process.pid}/clear_refs", "w") as file:
        file.write("5")


def busy_ns():
    """The busy time of all cores together, in nanoseconds."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def children_ns():
    """The CPU time of ended children."""
    times = os.times()
    return int((times.children_user + times.children_system) * 1e9)


def prefer(process):
    """Raises the priority of a process's session, if that is allowed (root). The kernel schedules sessions against each
    other, so the niceness of the process alone would have no effect."""
    try:
        with open(f"/proc/{process.pid}/autogroup", "w") as file:
            file.write("-20")
    except OSError:
        pass


class PinnedProcesses(Processes):
    """Servers on fixed cores, each with a log in this directory."""

    def __init__(self, directory):
        super().__init__()
        self.directory = directory

    def start(self, name, command, core, quiet=False):
        """Starts a server on a core. Its output goes to NAME.log; with `quiet`, only its errors do."""
        command = ["taskset", "-c", core, *command]
        process = super().start(name, command, log=self.directory / f"{name}.log", quiet=quiet)
        prefer(process)
        return process

    def run(self, command, core, timeout=300):
        """Runs a program on a core to its end; returns its output."""
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=dying_with_us(),
        )
        prefer(child)
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RunError(f"{command[0]} does not end") from None
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode != 0:
            raise RunError(f"{' '.join(map(str, command))[:300]}\nended with {child.returncode}: {err.strip()}")
        return out

    def run_json(self, command, core, timeout=300):
        return json.loads(self.run(command, core, timeout).splitlines()[-1])

    def wait(self, process, url, within=30):
        """Waits until `url` answers 200."""
        self.wait_until(process, lambda: status(url) == 200, within)

    def wait_until(self, process, is_ready, within=30):
        process.wait_until(is_ready, within, pause=0.01)


# Ignores proxies in the environment.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, headers=None, method="GET"):
    """Status, headers and body of a response; follows no redirects."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    try:
        with opener.open(urllib.request.Request(url, headers=headers or {}, method=method), timeout=5) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read().decode()


def status(url):
    """The status of a response, or None."""
    try:
        with OPENER.open(url, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError:
        return None
