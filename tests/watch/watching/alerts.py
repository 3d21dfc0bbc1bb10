"""The alerts with their cases for promtool, and the sections of the runbook."""
import copy
import pathlib
import re
import subprocess

import yaml
from demonstration.processes import RunError, dying_with_us

CASES = pathlib.Path(__file__).resolve().parent.parent / "rules"


def promtool(*arguments, given=None):
    """Whether promtool succeeds, and its output."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(
        command,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        preexec_fn=dying_with_us(),
        check=False,
    )
    return done.returncode == 0, done.stdout


def alerts(groups):
    return [rule for group in groups for rule in group["rules"]]


class Cases:
    """The rules of one mode and their cases, in a directory of their own."""

    def __init__(self, groups, mode, work):
        self.groups, self.mode, self.directory = groups, mode, work / mode
        self.directory.mkdir()
        self.files = [f"{name}.test.yaml" for name in ("common", mode)]
        for file in self.files:
            (self.directory / file).write_text((CASES / file).read_text(encoding="utf-8"), encoding="utf-8")

    def write(self, groups):
        """Writes the rules. Of the annotations, the cases compare the description only."""
        groups = copy.deepcopy(groups)
        for rule in alerts(groups):
            rule["annotations"] = {"description": rule["annotations"]["description"]}
        (self.directory / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}, allow_unicode=True), "utf-8")

    def lint(self):
        """promtool's lint."""
        plain = self.directory / "plain.yaml"
        plain.write_text(yaml.safe_dump({"groups": self.groups}, allow_unicode=True), "utf-8")
        fine, said = promtool("check", "rules", "--lint=all", "--lint-fatal", plain)
        if not fine:
            raise RunError(f"promtool refuses the rules of mode {self.mode}:\n{said}")

    def run(self):
        """Runs every case."""
        self.write(self.groups)
        fine, said = self.cases()
        if not fine:
            raise RunError(f"cases of the alerts in mode {self.mode}:\n{said}")

    def cases(self):
        return promtool("test", "rules", *(self.directory / file for file in self.files))

    def alerts_with_cases(self):
        """The names of the alerts with a case that fires, and with one that does not."""
        firing, silent = set(), set()
        for file in self.files:
            for group in yaml.safe_load((self.directory / file).read_text("utf-8"))["tests"]:
                for case in group.get("alert_rule_test", []):
                    (firing if case.get("exp_alerts") else silent).add(case["alertname"])
        return firing, silent

    def unnoticed(self, expression):
        """The names of the alerts whose cases all pass with this expression instead of their own."""
        spoilt = copy.deepcopy(self.groups)
        for rule in alerts(spoilt):
            rule["expr"] = expression
            rule.pop("for", None)
        self.write(spoilt)
        _, output = self.cases()
        return {rule["alert"] for rule in alerts(self.groups)} - set(re.findall(r"alertname: (\w+),", output))


def anchors(markdown):
    """The anchors of a page: its headings, as GitHub and GitLab derive them."""
    headings = re.findall(r"^#+ +(.+?) *#*$", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_runbook(file, rules):
    """Each link of an alert must have its section, and each section of an alert its alert."""
    there, linked = anchors(file.read_text(encoding="utf-8")), set()
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        if not page.endswith(file.name) or anchor not in there:
            raise RunError(f"{rule['alert']}: {file.name} has no section {anchor!r}")
        linked.add(anchor)
    stale = {anchor for anchor in there if anchor.startswith("wechatauthz")} - linked
    if stale:
        raise RunError(f"{file.name}: no alert links to {', '.join(sorted(stale))}")
