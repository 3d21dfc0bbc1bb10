"""Options and fixtures of the chart's tests."""

import os
import pathlib

import pytest
from chart import ROOT, SCENARIOS, name
from schemas import load_foreign


def pytest_addoption(parser):
    parser.addoption("--bless", action="store_true", help="write the golden files anew")


@pytest.fixture
def bless(request):
    return request.config.getoption("--bless")


@pytest.fixture(params=SCENARIOS, ids=name)
def scenario(request):
    """Each scenario of the chart's ci/."""
    return request.param


@pytest.fixture(scope="session")
def foreign():
    """The schemas of kinds that Kubernetes itself does not define."""
    return load_foreign()


@pytest.fixture(scope="session")
def program():
    """A build of wechat-authz."""
    found = pathlib.Path(os.environ.get("WECHAT_AUTHZ") or ROOT / "target" / "debug" / "wechat-authz")
    assert found.is_file(), f"{found} does not exist: run cargo build, or set WECHAT_AUTHZ=PATH"
    return found
