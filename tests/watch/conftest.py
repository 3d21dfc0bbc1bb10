"""Options and fixtures of the tests of alerts, monitors and dashboards."""

import pathlib

import pytest
from watching.chart import CHART, MODES, Rendered


def pytest_addoption(parser):
    parser.addoption("--chart", type=pathlib.Path, default=CHART, help="another directory than the chart's")


@pytest.fixture(scope="session")
def chart(request):
    return request.config.getoption("--chart")


@pytest.fixture(scope="session")
def rendered(chart, tmp_path_factory):
    """What the chart renders in each mode."""
    return {mode: Rendered(chart, mode, tmp_path_factory.mktemp("helm")) for mode in MODES}
