"""The alerts: promtool's judgement, a case that fires and one that does not for each, a runbook for each."""
import copy
import pathlib
import re
import subprocess

import yaml
from demonstration.processes import Failure, dying_with_us

CASES = pathlib.Path(__file__).resolve().parent.parent / "rules"


def promtool(*arguments, given=None):
    """Whether it is content, and what it said."""
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
    """The rules of one mode with their cases, in a directory of their own."""

    def __init__(self, groups, mode, work):
        self.groups, self.mode, self.directory = groups, mode, work / mode
        self.directory.mkdir()
        self.files = [f"{name}.test.yaml" for name in ("common", mode)]
        for file in self.files:
            (self.directory / file).write_text((CASES / file).read_text(encoding="utf-8"), encoding="utf-8")

    def write(self, groups):
        """Of an alert's annotations the cases compare what people read: the description."""
        groups = copy.deepcopy(groups)
        for rule in alerts(groups):
            rule["annotations"] = {"description": rule["annotations"]["description"]}
        (self.directory / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}, allow_unicode=True), "utf-8")

    def check(self):
        plain = self.directory / "plain.yaml"
        plain.write_text(yaml.safe_dump({"groups": self.groups}, allow_unicode=True), "utf-8")
        fine, said = promtool("check", "rules", "--lint=all", "--lint-fatal", plain)
        if not fine:
            raise Failure(f"promtool refuses the rules of mode {self.mode}:\n{said}")
        for rule in alerts(self.groups):
            for annotation in ("summary", "description", "runbook_url"):
                if not rule["annotations"].get(annotation):
                    raise Failure(f"{rule['alert']} has no {annotation}")
            if rule["labels"].get("severity") not in ("critical", "warning"):
                raise Failure(f"{rule['alert']} has no severity")

    def run(self):
        """Every case."""
        self.write(self.groups)
        fine, said = self.cases()
        if not fine:
            raise Failure(f"cases of the alerts in mode {self.mode}:\n{said}")

    def cases(self):
        return promtool("test", "rules", *(self.directory / file for file in self.files))

    def covered(self):
        """Names of the alerts with a case that fires and one that does not."""
        fires, silent = set(), set()
        for file in self.files:
            for group in yaml.safe_load((self.directory / file).read_text("utf-8"))["tests"]:
                for case in group.get("alert_rule_test", []):
                    (fires if case.get("exp_alerts") else silent).add(case["alertname"])
        names = {rule["alert"] for rule in alerts(self.groups)}
        for what, which in (("fires", fires), ("does not fire", silent)):
            if names - which:
                raise Failure(f"mode {self.mode}: no case in which it {what}: {', '.join(sorted(names - which))}")
        return names

    def would_notice(self):
        """An alert that always fires and one that never does must each spoil a case: else the cases prove nothing."""
        for what, expression in (("always", 'label_replace(vector(1), "a", "b", "", "")'), ("never", "vector(0) > 0")):
            spoilt = copy.deepcopy(self.groups)
            for rule in alerts(spoilt):
                rule["expr"] = expression
                rule.pop("for", None)
            self.write(spoilt)
            _, said = self.cases()
            noticed = set(re.findall(r"alertname: (\w+),", said))
            unnoticed = {rule["alert"] for rule in alerts(self.groups)} - noticed
            if unnoticed:
                raise Failure(f"mode {self.mode}: no case notices that it {what} fires: {', '.join(sorted(unnoticed))}")
        self.write(self.groups)


def anchors(markdown):
    """Where links to a page may point: its headings, as GitHub and GitLab make anchors of them."""
    headings = re.findall(r"^#+ +(.+?) *#*$", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def runbook(file, rules):
    """Each link of an alert must have its section, and each section of an alert its alert."""
    there, linked = anchors(file.read_text(encoding="utf-8")), set()
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        if not page.endswith(file.name) or anchor not in there:
            raise Failure(f"{rule['alert']}: {file.name} has no section {anchor!r}")
        linked.add(anchor)
    stale = {anchor for anchor in there if anchor.startswith("wechatauthz")} - linked
    if stale:
        raise Failure(f"{file.name}: no alert leads to {', '.join(sorted(stale))}")
