"""Processes on their cores, and what the operating system says they cost."""
import glob
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


class RunError(Exception):
    """It could not be measured."""


def cores():
    """(the gateway's core, everything else's): the last and the first this process may use."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[-1], ours[0]


def free_port(taken=set()):
    """A port for a server that starts later; below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        if port not in taken and not listens(port):
            taken.add(port)
            return port


def listens(port):
    """Whether a server takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def threads_ns(process):
    """How long each thread of a process has run, in nanoseconds."""
    ran = {}
    for path in glob.glob(f"/proc/{process.pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                ran[path] = int(file.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has just ended
    return ran


def ran_since(process, before):
    """How long a process has run since `threads_ns` gave `before`; without the threads that have ended meanwhile."""
    return sum(now - before.get(thread, 0) for thread, now in threads_ns(process).items())


def memory_mib(process, what):
    """`VmRSS`, what it holds now, or `VmHWM`, the most it held since `forget_peak`; in MiB."""
    with open(f"/proc/{process.pid}/status") as file:
        for line in file:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
    raise RunError(f"no {what} of process {process.pid}")


def forget_peak(process):
    with open(f"/proc/{process.pid}/clear_refs", "w") as file:
        file.write("5")


def busy_ns():
    """How long all cores together have done anything, in nanoseconds."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def children_ns():
    """How long ended children have run."""
    times = os.times()
    return int((times.children_user + times.children_system) * 1e9)


def prefer(process):
    """Lets the processes of a new session run before other work of this machine, where that is allowed (root): the
    kernel weighs sessions against each other, so a niceness of the process alone would change nothing."""
    try:
        with open(f"/proc/{process.pid}/autogroup", "w") as file:
            file.write("-20")
    except OSError:
        pass


class Processes:
    """Everything that was started; `end_all` ends it, by process id."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []

    def start(self, name, command, core, quiet=False):
        """Starts a server on a core; what it says goes to NAME.log, or nowhere but for its errors."""
        with open(self.directory / f"{name}.log", "ab") as log:
            out = subprocess.DEVNULL if quiet else log
            # A session of its own: Ctrl-C reaches the conductor alone, which then ends the others.
            started = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True,
            )
        prefer(started)
        started.name = name
        self.running.append(started)
        return started

    def run(self, command, core, timeout=300):
        """Runs a program on a core to its end; gives what it printed."""
        started = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        prefer(started)
        started.name = str(command[0])
        self.running.append(started)
        try:
            out, err = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RunError(f"{command[0]} does not end") from None
        finally:
            if started.poll() is not None:
                self.running.remove(started)
        if started.returncode != 0:
            raise RunError(f"{' '.join(map(str, command))[:300]}\nended with {started.returncode}: {err.strip()}")
        return out

    def run_json(self, command, core, timeout=300):
        return json.loads(self.run(command, core, timeout).splitlines()[-1])

    def wait(self, process, url, within=30):
        """Waits until `url` answers 200."""
        self.wait_until(process, lambda: status(url) == 200, within)

    def wait_until(self, process, ready, within=30):
        begun = time.monotonic()
        while not ready():
            if process.poll() is not None or time.monotonic() - begun > within:
                log = (self.directory / f"{process.name}.log").read_text(errors="replace")
                raise RunError(f"{process.name} does not start:\n{log[-2000:]}")
            time.sleep(0.01)

    def end_all(self):
        self.end(*self.running)

    def end(self, *ending):
        """Ends processes: politely, then not."""
        for one in ending:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
        patience = time.monotonic() + 3
        for one in ending:
            try:
                one.wait(max(0.05, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
            self.running.remove(one)


# Never through a proxy that the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, headers=None, method="GET"):
    """(status, headers, body) of an answer; redirects are not followed."""

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
    """The status of an answer, or None."""
    try:
        with OPENER.open(url, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError:
        return None
