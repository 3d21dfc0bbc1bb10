"""The virtual environment of the Python tests: pytest and libraries, pinned in requirements.txt."""

import fcntl
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PLACE = HERE.parent / "target" / "tools" / "python"


def enter():
    """Continues the calling script in the environment, which is created first if it is absent or out of date."""
    if sys.prefix == str(PLACE):
        return
    requirements = (HERE / "requirements.txt").read_text(encoding="utf-8")
    installed = PLACE / "requirements.txt"
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with open(PLACE.parent / "python.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.is_file() or installed.read_text(encoding="utf-8") != requirements:
            # stdin and stdout belong to the script.
            quiet = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr, "check": True}
            subprocess.run([sys.executable, "-m", "venv", PLACE], **quiet)
            pip = [PLACE / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--requirement", HERE / "requirements.txt"], **quiet)
            installed.write_text(requirements, encoding="utf-8")
    python = str(PLACE / "bin" / "python")
    os.execv(python, [python, *sys.argv])


def parse(parser, directory):
    """Parses the command line: subjects (`golden` for test_golden.py), the parser's options, and pytest's after `--`."""
    subjects = sorted(file.stem.removeprefix("test_") for file in directory.glob("test_*.py"))
    parser.add_argument("subject", nargs="*", help=", ".join(subjects))
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    unknown = set(given.subject) - set(subjects)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    return given, words[at + 1 :]


def run_pytest(directory, chosen=(), arguments=()):
    """Runs the tests of the chosen subjects, or all; returns pytest's exit code."""
    import pytest

    files = [str(directory / f"test_{subject}.py") for subject in chosen] or [str(directory)]
    return pytest.main(["-p", "no:cacheprovider", "--quiet", f"--rootdir={directory}", *arguments, *files])
