"""Child processes that cannot outlive us: started, watched and ended by their id.

Each has its own session, so that Ctrl-C reaches us alone and we end them in order. Should we be killed outright, the
kernel kills them (Linux; elsewhere they would stay).
"""
import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE = 5.0
TAIL = 15


class RunError(Exception):
    """What went wrong, in words for the person at the terminal."""


def dying_with_us():
    """For `preexec_fn`, from the main thread: the kernel's signal comes when the thread that started a child ends."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare():
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                # Already orphaned, so the signal would never come.
                os._exit(1)

    return prepare


class Process:
    """One of ours."""

    def __init__(self, name, command, log=None, environment=None):
        """Starts it; its output goes to the file `log`, or where ours goes."""
        self.name, self.log = name, log
        output = open(log, "wb") if log else None
        try:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=dying_with_us(),
            )
        except OSError as error:
            raise RunError(f"{name} cannot be started: {error}") from None
        finally:
            if output:
                output.close()

    def has_ended(self):
        return self.child.poll() is not None

    def error(self, what):
        """An error with the end of its log."""
        text = f"{self.name} {what}"
        if self.log:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            text += f"\n  the end of {self.log}:\n" + "\n".join(f"    {line}" for line in lines or ["(empty)"])
        return RunError(text)

    def ended_by_itself(self):
        code = self.child.returncode
        return self.error(f"ended by itself, {f'status {code}' if code >= 0 else f'signal {-code}'}")

    def wait_until(self, is_ready, seconds):
        """Returns when `is_ready()`; fails when the process ends before, or the time does."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.has_ended():
                raise self.ended_by_itself()
            if time.monotonic() > deadline:
                raise self.error(f"was not ready within {seconds} s")
            time.sleep(0.05)

    def signal(self, number):
        """To the process and whatever it started."""
        try:
            os.killpg(self.child.pid, number)
        except ProcessLookupError:
            pass


class Processes:
    """All of ours. Leaving the `with` block ends every one, last started first."""

    def __init__(self):
        self.processes = []

    def __enter__(self):
        return self

    def start(self, *arguments, **named):
        process = Process(*arguments, **named)
        self.processes.append(process)
        return process

    def watch(self):
        """Fails if one has ended."""
        for process in self.processes:
            if process.has_ended():
                raise process.ended_by_itself()

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if not process.has_ended():
                process.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in self.processes:
            try:
                process.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            # Also what a process left behind in its session.
            process.signal(signal.SIGKILL)
            process.child.wait()
