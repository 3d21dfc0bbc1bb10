"""The alerts, without any process: promtool's lint, a firing and a silent case for each, and a section of the runbook."""

import pytest
from watching.alerts import Cases, alerts, check_runbook
from watching.chart import MODES


@pytest.fixture(params=MODES, scope="module")
def cases(request, rendered, tmp_path_factory):
    """The alerts of each mode with their cases."""
    return Cases(rendered[request.param].rules(), request.param, tmp_path_factory.mktemp("rules"))


@pytest.mark.parametrize("mode", MODES)
def test_monitors_and_rules_have_the_label_that_prometheus_selects(mode, rendered):
    assert rendered[mode].rules() and rendered[mode].endpoints()


def test_promtool_accepts_the_rules(cases):
    cases.lint()


def test_each_alert_has_a_severity_and_texts(cases):
    for rule in alerts(cases.groups):
        assert rule["labels"].get("severity") in ("critical", "warning"), rule["alert"]
        assert all(rule["annotations"].get(text) for text in ("summary", "description", "runbook_url")), rule["alert"]


def test_each_case_has_its_result(cases):
    cases.run()


def test_each_alert_has_a_firing_and_a_silent_case(cases):
    names = {rule["alert"] for rule in alerts(cases.groups)}
    firing, silent = cases.alerts_with_cases()
    assert names - firing == set()
    assert names - silent == set()


@pytest.mark.parametrize("expression", ['label_replace(vector(1), "a", "b", "", "")', "vector(0) > 0"], ids=["always", "never"])
def test_cases_notice_an_alert_that_fires_always_or_never(cases, expression):
    assert cases.unnoticed(expression) == set()


def test_each_alert_links_to_a_section_of_the_runbook(rendered, chart):
    check_runbook(chart / "RUNBOOK.md", [rule for mode in MODES for rule in alerts(rendered[mode].rules())])
