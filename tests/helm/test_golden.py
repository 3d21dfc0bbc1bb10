"""Each scenario renders the bytes of its golden file, every time."""

import difflib
import re

import pytest
import yaml
from chart import HERE, SCENARIOS, changed, name, rendered, template

GOLDEN = HERE / "golden"
MAX_VALUE_BYTES = 4000


def without_long_files(text):
    """Long files in ConfigMaps as their number of lines: test_generated and tests/watch compare their content."""
    kept = []
    for part in re.split(r"^---\n", text, flags=re.M):
        one = yaml.safe_load(part) if part.strip() else None
        if one and one["kind"] == "ConfigMap" and any(len(value) > MAX_VALUE_BYTES for value in one["data"].values()):
            one["data"] = {key: f"({value.count(chr(10))} lines)" for key, value in one["data"].items()}
            part = yaml.safe_dump(one, allow_unicode=True, sort_keys=False)
        kept.append(part)
    return "---\n".join(kept)


def test_scenario_renders_its_golden_file(scenario, bless):
    file = GOLDEN / f"{name(scenario)}.yaml"
    text = without_long_files(rendered(scenario))
    if bless:
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    if old != text:
        difference = difflib.unified_diff(old.splitlines(True), text.splitlines(True), file.name, "rendered now")
        pytest.fail(f"{''.join(difference)[:4000]}\nif this is intended: ./tests/helm/run --bless", pytrace=False)


def test_each_golden_file_has_a_scenario():
    assert {file.stem for file in GOLDEN.iterdir()} == {name(scenario) for scenario in SCENARIOS}


def test_same_values_render_the_same_bytes(scenario):
    assert template(scenario) == rendered(scenario)


def test_a_random_value_in_a_template_is_noticed():
    with changed("templates/common/configmap.yaml", "data:", "  annotations: { at: {{ randAlphaNum 8 }} }\ndata:") as chart:
        assert template(SCENARIOS[0], chart=chart) != template(SCENARIOS[0], chart=chart)
