"""Programs from wheels: downloaded by pip, pinned by their digests, unpacked below target/. Safe to run concurrently and to
interrupt."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


def works(*command):
    """Whether a command succeeds."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.run(command, timeout=300, check=False, **quiet).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Wheel:
    """A program of one release. `who` is the script that fetches `name`; `program` is its path below the release's directory."""

    def __init__(self, who, name, package, version, digests, place, program, size):
        self.who, self.name, self.package, self.version = who, name, package, version
        self.digests, self.place, self.size = digests, place, size
        self.program = place / version / program

    def get(self, unpack):
        """The path of the program. `unpack` extracts it and its files from the open wheel to a directory."""
        if not self.program.is_file():
            self.place.mkdir(parents=True, exist_ok=True)
            with open(self.place / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.program.is_file():
                    self._install(unpack)
        return self.program

    def _install(self, unpack):
        """Downloads and unpacks beside the final directory, then renames, so that no incomplete program is ever visible."""
        for stale in self.place.glob("making-*"):
            shutil.rmtree(stale, ignore_errors=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=self.place))
        final = self.place / self.version
        try:
            self._say(f"fetching {self.name} {self.version} (about {self.size} MB)")
            ready = work / self.version
            ready.mkdir()
            with zipfile.ZipFile(self._download(work)) as wheel:
                unpack(wheel, ready)
            made = ready / self.program.relative_to(final)
            # Envoy prints its version with a flag, Go with a command.
            if not works(str(made), "--version") and not works(str(made), "version"):
                sys.exit(f"{self.who}: the downloaded {self.name} does not run on this machine")
            shutil.rmtree(final, ignore_errors=True)
            ready.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _download(self, work):
        """The wheel, checked by pip against the digests."""
        pinned = work / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in self.digests)
        pinned.write_text(f"{self.package}=={self.version} {hashes}\n")
        command = [self._pip(work), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(work / "wheel")]
        command += ["--requirement", str(pinned)]
        if subprocess.run(command, stdout=sys.stderr, timeout=900, check=False).returncode != 0:
            sys.exit(f"{self.who}: pip could not download {self.package}=={self.version}; its output is above")
        return next((work / "wheel").glob("*.whl"))

    def _pip(self, work):
        """A Python that has pip: this one, or a virtual environment's."""
        if works(sys.executable, "-m", "pip", "--version"):
            return sys.executable
        python = work / "venv" / "bin" / "python"

        def can_make():
            made = works(sys.executable, "-m", "venv", "--clear", str(work / "venv"))
            return made and works(str(python), "-m", "pip", "--version")

        if can_make():
            return str(python)
        if os.geteuid() == 0 and shutil.which("apt-get"):
            # Debian ships Python without pip and venv.
            self._say("this Python has no pip; installing Debian's python3-venv")
            works("apt-get", "update", "-qq")
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            command = ["apt-get", "install", "-y", "-qq", "python3-venv"]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
            if can_make():
                return str(python)
        sys.exit(f"{self.who}: this Python has no pip and cannot make one; on Debian: apt-get install python3-venv")

    def _say(self, text):
        print(f"{self.who}: {text}", file=sys.stderr, flush=True)
