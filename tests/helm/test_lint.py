"""helm lint."""

import pytest
from chart import CHART, NEWEST, SCENARIOS, HelmError, changed, helm


def lint(scenario, chart=CHART):
    return helm("lint", "--strict", chart, "--values", scenario, "--kube-version", NEWEST)


def test_lint_accepts_each_scenario(scenario):
    assert "0 chart(s) failed" in lint(scenario)


def test_lint_refuses_a_broken_template():
    with changed("templates/common/configmap.yaml", "apiVersion: v1", "apiVersion: v1\n  broken: [") as chart:
        with pytest.raises(HelmError):
            lint(SCENARIOS[0], chart)


def test_scenarios_exist():
    assert len(SCENARIOS) >= 8
