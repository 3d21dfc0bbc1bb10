"""The images of the containers, assembled from programs of this machine. tests/image/run tests the files of wechat-authz's
image; here its settings are read from the Dockerfile."""
import dataclasses
import json
import os
import pathlib
import re
import sys

from demonstration.processes import RunError

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent.parent
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclasses.dataclass(frozen=True)
class Image:
    """An image: its files by path, and its settings."""

    files: dict
    entrypoint: list
    command: list
    env: dict
    user: int
    group: int


def libraries():
    """The files that a dynamically linked program needs."""
    return {place: place for place in ("/lib", "/lib64", "/usr/lib") if os.path.isdir(place)}


def is_static(program):
    """Whether an ELF file has no loader."""
    with open(program, "rb") as file:
        return re.search(rb"/lib[^\0]*/ld-[^\0]*\.so", file.read(8192)) is None


def dockerfile():
    """The settings of the Dockerfile's last stage: {instruction: [arguments, …]}."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    said = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    return said


def ours(program):
    said = dockerfile()
    user, group = map(int, said["USER"][-1].split(":"))
    files = {"/wechat-authz": program, **({} if is_static(program) else libraries())}
    if os.path.isfile(CERTIFICATES):
        files[CERTIFICATES] = CERTIFICATES
    return Image(
        files=files,
        entrypoint=json.loads(said["ENTRYPOINT"][-1]),
        command=json.loads(said["CMD"][-1]),
        env=dict(line.split("=", 1) for line in said["ENV"]),
        user=user,
        group=group,
    )


def envoy(program):
    files = {"/usr/local/bin/envoy": program, **libraries()}
    return Image(files, ["/usr/local/bin/envoy"], [], {"PATH": USUAL_PATH}, 101, 101)


def application():
    """The sample application, with this machine's Python."""
    python = os.path.realpath(sys.executable)
    places = ["/usr", *libraries(), sys.base_prefix]
    files = {place: place for place in places if place == "/usr" or not place.startswith("/usr/")}
    files |= {"/app/web.py": HERE / "web.py", "/app/app.py": ROOT / "envoy" / "app.py"}
    return Image(files, [python, "-B", "/app/web.py"], [], {"PATH": USUAL_PATH}, 1000, 1000)


def answering(program):
    """An application with minimal costs, for measurements."""
    words = ["answer", "--listen", "0.0.0.0:8080", "--header", "content-type:text/plain", "--body", "ok"]
    files = {"/bench-tools": program, **libraries()}
    return Image(files, ["/bench-tools"], words, {"PATH": USUAL_PATH}, 1000, 1000)


class Images:
    """The images by the names in manifests."""

    def __init__(self, programs):
        self.ours, self.envoy = ours(programs["wechat-authz"]), envoy(programs["envoy"])
        self.application = answering(programs["bench-tools"]) if "bench-tools" in programs else application()
        self.release = pathlib.Path(programs["envoy"]).parent.name

    def find(self, name):
        repository, _, tag = name.partition(":")
        if repository.endswith("envoyproxy/envoy"):
            if not tag.endswith(f"v{self.release}"):
                raise RunError(f"the chart needs Envoy {tag}, but this machine has {self.release}")
            return self.envoy
        found = {"wechat-authz": self.ours, "web": self.application}.get(repository)
        if found is None:
            raise RunError(f"no image {name}")
        return found
