"""Starts, watches and ends child processes. The demo and the tests share it.

Each child has its own session, so that Ctrl-C reaches only this process, which ends its children in order. If this process
is killed, the kernel kills the children (on Linux only).
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
    """A run failed; the text tells the user at the terminal why."""


def dying_with_us():
    """For `preexec_fn`, in the main thread only: the kernel kills the child when the thread that started it ends."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare():
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                # The parent has already ended, so the signal would never come.
                os._exit(1)

    return prepare


class Process:
    """One child process."""

    def __init__(self, name, command, log=None, environment=None, quiet=False):
        """Starts it. Its output goes to the end of the file `log`, or to that of this process; with `quiet`, only its
        errors do."""
        self.name, self.log = name, log
        output = open(log, "ab") if log else None
        try:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if quiet else output,
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

    @property
    def pid(self):
        return self.child.pid

    def has_ended(self):
        return self.child.poll() is not None

    def error(self, what):
        """A RunError with the end of the log."""
        text = f"{self.name} {what}"
        if self.log:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            text += f"\n  the end of {self.log}:\n" + "\n".join(f"    {line}" for line in lines or ["(empty)"])
        return RunError(text)

    def ended_by_itself(self):
        code = self.child.returncode
        return self.error(f"ended by itself, {f'status {code}' if code >= 0 else f'signal {-code}'}")

    def wait_until(self, is_ready, seconds, pause=0.05):
        """Returns when `is_ready()` does. Fails if the process ends before, or after these seconds."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.has_ended():
                raise self.ended_by_itself()
            if time.monotonic() > deadline:
                raise self.error(f"was not ready within {seconds} s")
            time.sleep(pause)

    def signal(self, number):
        """Signals the process and the processes that it started."""
        try:
            os.killpg(self.child.pid, number)
        except ProcessLookupError:
            pass


class Processes:
    """All child processes. Leaving the `with` block ends them, the last one first."""

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

    def end(self, *ending):
        """Ends these processes: SIGTERM to all, and SIGKILL after GRACE seconds."""
        for process in ending:
            if not process.has_ended():
                process.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in ending:
            try:
                process.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            # Also reaches what a process left in its session.
            process.signal(signal.SIGKILL)
            process.child.wait()
            self.processes.remove(process)

    def __exit__(self, *_):
        self.end(*reversed(self.processes))
