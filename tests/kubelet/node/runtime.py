"""Starts one container's process as a container runtime does. A program of its own, one process for each container:

    runtime.py run SPEC             namespaces, a root of its own, the mounts, the user; ends as the process ends
    runtime.py exec PID SPEC        one more process in the container of this PID

SPEC is JSON, see `container.py`. Not done: the default seccomp filter and limits of processor and memory.
"""
import ctypes
import json
import os
import signal
import stat
import sys

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_PIDS = 0x00020000, 0x04000000, 0x08000000, 0x20000000
READONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
PARENT_DEATH, DROP_BOUND, NO_NEW_PRIVILEGES = 1, 24, 38
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Exit codes of a process that ended by a signal, and of one that could not be started, as runtimes report them.
BY_SIGNAL, NOT_STARTED = 128, 127

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """Calls a function of libc and raises its error."""
    given = [os.fsencode(one) if isinstance(one, str) else one for one in arguments]
    if getattr(libc, name)(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def place(source, target):
    """Creates a mount point: a directory or a file, like the source."""
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a", encoding="utf-8"):
            pass


def bind(source, target, readonly):
    place(source, target)
    mount(source, target, flags=BIND | RECURSIVE)
    if readonly:
        mount(None, target, flags=BIND | REMOUNT | READONLY | NOSUID)


def build_root(spec):
    """Creates the container's root: the files of its image and its mounts only."""
    root = spec["root"]
    mount(None, "/", flags=RECURSIVE | PRIVATE)
    mount("container", root, "tmpfs", NOSUID, "mode=0755")
    for one in spec["mounts"]:
        bind(one["source"], root + one["target"], one["readonly"])
    for name in ("proc", "dev", "tmp"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    mount("proc", f"{root}/proc", "proc", NOSUID | NODEV | NOEXEC)
    mount("dev", f"{root}/dev", "tmpfs", NOSUID, "mode=0755")
    for name in DEVICES:
        bind(f"/dev/{name}", f"{root}/dev/{name}", False)
    os.makedirs(f"{root}/dev/shm")
    mount("shm", f"{root}/dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777,size=64m")
    os.chdir(root)
    call("pivot_root", ".", ".")
    call("umount2", ".", DETACH)
    os.chdir("/")
    if spec["readonly"]:
        mount(None, "/", flags=REMOUNT | READONLY | NOSUID)


def become(spec):
    """Changes to the container's user and drops what its security context removes."""
    if spec["drop"]:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            last = int(file.read())
        for capability in range(last + 1):
            call("prctl", DROP_BOUND, capability, 0, 0, 0)
    os.setgroups(spec["groups"])
    os.setresgid(*[spec["group"]] * 3)
    os.setresuid(*[spec["user"]] * 3)
    if not spec["escalation"]:
        call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # Set here, because a change of the user clears it: the process ends with its parent.
    call("prctl", PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def execute(spec):
    """Replaces this process by the program, found on the container's PATH."""
    argv, env = spec["argv"], spec["env"]
    places = [""] if "/" in argv[0] else [f"{place.rstrip('/')}/" for place in env["PATH"].split(":")]
    try:
        os.chdir(spec["directory"])
        found = next((place + argv[0] for place in places if os.path.exists(place + argv[0])), argv[0])
        os.execve(found, argv, env)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(NOT_STARTED)


def fork(prepare, spec, pidfile=None):
    """Starts the first process of a new PID namespace, or another one in an existing namespace. Returns its exit code."""
    # Kept open, because the child shares its root with this process.
    directory = os.open(os.path.dirname(pidfile), os.O_DIRECTORY) if pidfile else None
    child = os.fork()
    if child == 0:
        try:
            prepare(spec)
            become(spec)
            execute(spec)
        except OSError as error:
            print(f"the container could not be made: {error}", file=sys.stderr, flush=True)
        os._exit(NOT_STARTED)
    if pidfile:
        name = os.path.basename(pidfile)
        file = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory)
        os.write(file, str(child).encode())
        os.close(file)
        os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else BY_SIGNAL - code


def enter(path):
    """The namespace of this file."""
    with open(path, encoding="ascii") as file:
        call("setns", file.fileno(), 0)


def run(spec):
    enter(spec["network"])
    call("unshare", NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS)
    call("sethostname", spec["hostname"], len(spec["hostname"]))
    return fork(build_root, spec, spec["pidfile"])


def execute_in(pid, spec):
    held = [open(f"/proc/{pid}/ns/{name}", encoding="ascii") for name in ("net", "ipc", "uts", "pid", "mnt")]
    for file in held:
        call("setns", file.fileno(), 0)
    return fork(lambda _: os.chdir("/"), spec)


def main(words):
    if words[0] == "run" and len(words) == 2:
        return run(json.loads(words[1]))
    if words[0] == "exec" and len(words) == 3:
        return execute_in(int(words[1]), json.loads(words[2]))
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
