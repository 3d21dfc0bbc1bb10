"""Every object has a valid form in every version of Kubernetes that the chart supports."""

import copy
import functools
import json

import pytest
from chart import HERE, SCENARIOS, name, objects, rendered, template, title
from kinds import FOREIGN
from schemas import VERSIONS, errors, minor

# With its admission policies, mode inject needs 1.36. inject-swap makes no sense without them.
CASES = [
    (scenario, version)
    for scenario in SCENARIOS
    for version in VERSIONS
    if minor(version) >= 36 or name(scenario) != "inject-swap"
]


def kind(one):
    return one["apiVersion"], one["kind"]


@functools.cache
def found(text, version, foreign):
    return errors(json.loads(text), version, foreign.schemas)


class Foreign:
    """Schemas as a key of a cache."""

    def __init__(self, schemas):
        self.schemas = schemas


@pytest.fixture(scope="module")
def cached(foreign):
    return Foreign(foreign)


@pytest.mark.parametrize(("scenario", "version"), CASES, ids=[f"{name(scenario)}-{version}" for scenario, version in CASES])
def test_objects_have_valid_form(scenario, version, cached):
    without_policies = minor(version) < 36 and name(scenario) == "inject-ways"
    values = [scenario, HERE / "no-policies.yaml"] if without_policies else [scenario]
    for one in objects(template(*values, version=f"{version}.0")):
        # Foreign kinds do not depend on the version of Kubernetes.
        judged_for = VERSIONS[-1] if kind(one) in FOREIGN else version
        wrong = found(json.dumps(one, sort_keys=True), judged_for, cached)
        assert not wrong, f"{title(one)}: {wrong[:3]}"


def test_each_foreign_kind_is_in_a_scenario():
    seen = {kind(one) for scenario in SCENARIOS for one in objects(rendered(scenario))}
    assert FOREIGN <= seen


def test_an_unknown_field_is_noticed_in_each_kind(foreign):
    for one in {one["kind"]: one for scenario in SCENARIOS for one in objects(rendered(scenario))}.values():
        spoilt = copy.deepcopy(one)
        spoilt.setdefault("spec", {})
        if one["kind"] in ("ConfigMap", "ServiceAccount"):
            spoilt["specification"] = {}
        elif isinstance(spoilt["spec"], dict):
            spoilt["spec"]["specification"] = {}
        assert errors(spoilt, "1.36", foreign), f"an unknown field in {title(one)} is not noticed"
