"""The packaged chart."""

import pathlib
import subprocess

import pytest
from chart import CHART, SCENARIOS, helm, rendered, template


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("package")
    helm("package", CHART, "--destination", directory)
    (archive,) = pathlib.Path(directory).iterdir()
    return archive


def test_package_contains_what_templates_read_and_nothing_else(archive):
    names = subprocess.run(["tar", "-tzf", archive], capture_output=True, text=True, check=True).stdout.split()
    assert not [one for one in names if "/ci/" in one or "values.base" in one or "README.head" in one]
    for file in ("files/envoy.yaml", "files/app.yaml", "rules/inject.yaml", "dashboards/wechat-authz.json", "values.schema.json"):
        assert f"wechat-authz/{file}" in names


def test_package_renders_what_the_directory_renders(archive):
    assert template(SCENARIOS[0], chart=archive) == rendered(SCENARIOS[0])
