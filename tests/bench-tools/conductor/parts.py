"""The parts of a check: its instructions compared with a server that does nothing, and the cost of each part of
envoy/fast.yaml in Envoy. Explains the bars that compare with a smaller configuration."""
import re
import statistics
import subprocess
import time
from dataclasses import replace

import gateways
from cases import CASES
from measure import Meter
from processes import RunError

CHECKS = ("floor_h1", "strict_h1", "floor_h2c", "strict_h2c")
# Slow enough for callgrind, which makes everything about 50 times slower.
PER_SECOND, SECONDS = 400, 8


def cases_of_checks():
    return [case for case in CASES if case.name in CHECKS]


def cases_of_fast():
    """Cases from Envoy without a check to the whole of fast.yaml, one part at a time."""
    known = {case.name: case for case in CASES}
    rising = [
        ("jwt_authn", "Envoy verifies the token (cached), and no more"),
        ("metadata", "+ its header goes into the metadata that the gate looks at"),
        ("claims", "+ its claims become the identity headers"),
        ("gate", "+ ext_authz, which is not asked"),
        ("empty", "+ headers for what the token does not say"),
    ]
    cases = [known["no_auth"]]
    left_out = list(gateways.PARTS)
    for name, says in rising:
        if name in left_out:
            left_out.remove(name)
        cases.append(replace(known["fast"], name=f"fast_{name}", says=says, without=tuple(left_out)))
    whole = replace(known["fast"], says="+ the script that takes our cookie out: fast.yaml as shipped")
    return [*cases, whole, known["floor_h1"]]


def instructions(stage):
    """The instructions per check of each case, for a stage whose auth processes run under callgrind."""
    meter, counts = Meter(stage), {}
    for case in stage.cases:
        process = stage.sides[case.name].auth
        meter.probe(case)
        meter.hold(case.name, PER_SECOND, 2)
        control(process, "--zero")
        held = meter.hold(case.name, PER_SECOND, SECONDS)
        if held["errors"]:
            raise RunError(f"{case.name}: {held['errors']} errors under callgrind")
        before = set(stage.directory.glob(f"callgrind.{process.pid}.*"))
        control(process, "--dump")
        counts[case.name] = total(stage.directory, process, before) / held["requests"]
    return counts


def control(process, what):
    subprocess.run(["callgrind_control", what, str(process.pid)], check=True, capture_output=True, timeout=60)


def total(directory, process, before):
    """The instructions in the new dump."""
    for _ in range(100):
        for file in set(directory.glob(f"callgrind.{process.pid}.*")) - before:
            found = re.findall(r"^(?:summary|totals): (\d+)", file.read_text(errors="replace"), re.MULTILINE)
            if found:
                return int(found[-1])
        time.sleep(0.1)
    raise RunError("callgrind wrote nothing")


def told_of_checks(counts):
    lines = ["", "instructions for each check, counted by callgrind, the same whatever else the machine does:"]
    for way in ("h1", "h2c"):
        ours, floor = counts[f"strict_{way}"], counts[f"floor_{way}"]
        lines.append(f"  {way:<4} ours {ours:>8.0f}   a server that does nothing {floor:>8.0f}   more {ours - floor:>8.0f}")
    return lines


def told_of_fast(cases, rounds):
    lines = ["", f"{'fast.yaml by its parts':<74}{'Envoy µs':>10}{'more':>8}{'of no_auth':>12}"]
    before = None
    for case in cases:
        cost = statistics.median(one["envoy_cpu_us"] for one in rounds[case.name])
        share = statistics.median(
            one["rps"] / base["rps"] for one, base in zip(rounds[case.name], rounds["no_auth"]))
        more = "" if before is None or case.asked == "floor" else f"{cost - before:+.1f}"
        lines.append(f"{case.name:<16}{case.says:<58}{cost:>10.1f}{more:>8}{share:>12.2f}")
        before = cost
    return lines
