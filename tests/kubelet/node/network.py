"""The node's network: one bridge, and a network namespace with an address on it for each pod."""
import ctypes
import itertools
import os
import socket
import subprocess
import threading
import time

from demonstration.processes import RunError

NODE, LENGTH, BRIDGE = "10.88.0.1", 16, "pods"
libc = ctypes.CDLL(None, use_errno=True)


def command(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RunError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


class Network:
    """The node's network, in the namespace of this process."""

    def __init__(self):
        self.numbers = itertools.count(2)
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", BRIDGE, "type", "bridge")
        command("ip", "addr", "add", f"{NODE}/{LENGTH}", "dev", BRIDGE)
        command("ip", "link", "set", BRIDGE, "up")

    def sandbox(self):
        return Sandbox(next(self.numbers))


class Sandbox:
    """A pod's network namespace, kept alive by an idle process, and the pod's address."""

    def __init__(self, number):
        self.address = f"10.88.{number >> 8}.{number & 255}"
        self.pause = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self.path = f"/proc/{self.pause.pid}/ns/net"
        deadline = time.monotonic() + 10
        while os.readlink(self.path) == os.readlink("/proc/self/ns/net"):
            if time.monotonic() > deadline or self.pause.poll() is not None:
                raise RunError("a pod's network namespace was not created")
            time.sleep(0.01)
        outside, inside = f"pod{number}", ["nsenter", f"--net={self.path}", "ip"]
        command("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", self.pause.pid)
        command("ip", "link", "set", outside, "master", BRIDGE, "up")
        command(*inside, "addr", "add", f"{self.address}/{LENGTH}", "dev", "eth0")
        command(*inside, "link", "set", "lo", "up")
        command(*inside, "link", "set", "eth0", "up")
        command(*inside, "route", "add", "default", "via", NODE)

    def listener(self, port):
        """A socket that listens on the pod's loopback, like one of another container."""
        made = []

        def listen():
            # Only this thread changes its namespace; the socket stays in the namespace of its creation.
            with open(self.path, encoding="ascii") as there:
                if libc.setns(there.fileno(), 0) == 0:
                    made.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        if not made:
            raise RunError(f"cannot listen on port {port} of a pod")
        return made[0]

    def end(self):
        self.pause.kill()
        self.pause.wait()


class Relay:
    """Forwards the connections of a listening socket to `target()`: an address, or a socket's path."""

    def __init__(self, listener, target):
        self.listener, self.target = listener, target
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.hand_on, args=(near,), daemon=True).start()

    def hand_on(self, near):
        try:
            far = connect(self.target())
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=pump, args=(far, near), daemon=True)
        back.start()
        pump(near, far)
        back.join()
        near.close()
        far.close()

    def close(self):
        # close() alone does not wake the thread that accepts.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()


def connect(target):
    if isinstance(target, tuple):
        return socket.create_connection(target, timeout=10)
    made = socket.socket(socket.AF_UNIX)
    made.connect(target)
    return made


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
