"""Helm, as a user of a server."""

import os
import subprocess

from demonstration.processes import RunError, dying_with_us


class Helm:
    def __init__(self, program, server, user="admin"):
        self.program, home = program, server.work / f"helm-{user}"
        home.mkdir(exist_ok=True)
        homes = {f"HELM_{kind}_HOME": str(home) for kind in ("CACHE", "CONFIG", "DATA")}
        # Without the configuration and plugins of the user who runs the tests.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        self.environment = {**kept, **homes, "KUBECONFIG": str(server.kubeconfig(user))}

    def run(self, *arguments):
        """Its exit code, stdout and stderr."""
        command = [str(part) for part in (self.program, *arguments)]
        quiet = {"capture_output": True, "text": True, "preexec_fn": dying_with_us(), "check": False}
        done = subprocess.run(command, env=self.environment, timeout=300, **quiet)
        return done.returncode, done.stdout, done.stderr

    def must(self, *arguments):
        """Its output; fails if Helm does."""
        code, out, err = self.run(*arguments)
        if code != 0:
            raise RunError(f"helm {' '.join(map(str, arguments))}: exit code {code}\n{out}{err}")
        return out


def done(code, out, err):
    """`done`, or Helm's output if it failed or warned."""
    return "done" if code == 0 and not err.strip() else f"exit code {code}: {(err + (out if code else '')).strip()}"


def refused(words, code, out, err):
    """Whether Helm refused with these words."""
    return f"refused: {words}" if code != 0 and words in err else f"exit code {code}: {out[-300:]}{err}"
