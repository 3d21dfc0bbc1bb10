"""What is derived from other files is up to date."""

import re
import subprocess
import sys

import yaml
from chart import CHART, ROOT, changed


def is_up_to_date(chart):
    command = [sys.executable, "-B", ROOT / "helm" / "make", "--check", "--chart", chart]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def test_helm_make_has_nothing_to_write():
    done, printed = is_up_to_date(CHART)
    assert done, printed


def test_helm_make_notices_a_changed_default():
    with changed("values.yaml", "mode: inject\n", "mode: gateway\n") as chart:
        done, printed = is_up_to_date(chart)
    assert not done and "README.md" in printed, printed


def test_memory_limit_is_the_one_that_the_program_is_sized_for():
    limit = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["resources"]["limits"]["memory"]
    limits = (ROOT / "src" / "server" / "limits.rs").read_text(encoding="utf-8")
    sized_for = re.search(r"assert!\(TOTAL_KIB / 1_024 <= (\d+) - ", limits)[1]
    assert limit == f"{sized_for}Mi"
