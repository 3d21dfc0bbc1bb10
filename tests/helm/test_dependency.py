"""An application's own chart depends on this one: switched off, by an alias, with global values, by the named templates."""

import copy
import shutil

import pytest
import yaml
from chart import CHART, NEWEST, HelmError, base, objects, put_all, template
from containers import NAMES, unrestricted
from schemas import SINCE, errors

PARENT = """\
apiVersion: v2
name: parent
version: 0.1.0
dependencies:
- { name: wechat-authz, version: 0.1.0, alias: login, condition: login.enabled }
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  selector: { matchLabels: { app: blog } }
  template:
    metadata: { labels: { app: blog } }
    spec:
      containers: [ { name: app, image: app } ]
{{- if .Values.login.enabled }}
      initContainers: {{- include "wechat-authz.initContainers" (dict "chart" .Subcharts.login "protect" "blog") | nindent 8 }}
      volumes: {{- include "wechat-authz.volumes" (dict "chart" .Subcharts.login "protect" "blog") | nindent 8 }}
{{- end }}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    parent = tmp_path_factory.mktemp("dependency") / "parent"
    (parent / "charts").mkdir(parents=True)
    (parent / "templates").mkdir()
    shutil.copytree(CHART, parent / "charts" / "wechat-authz")
    (parent / "Chart.yaml").write_text(PARENT, encoding="utf-8")
    (parent / "templates" / "deployment.yaml").write_text(DEPLOYMENT, encoding="utf-8")
    return parent


@pytest.fixture
def parent(directory):
    """Renders the parent chart with changes of its values."""
    login = put_all(base(), {"protect.0.port": 8080, "policy.create": False, "enabled": True})
    values = {"global": {"imageRegistry": "registry.test:5000", "other": 1}, "login": login}

    def render(changes=(), version=NEWEST):
        changed = copy.deepcopy(values)
        changed["login"].update(changes)
        (directory / "values.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        return objects(template(chart=directory, version=version))

    return render


@pytest.mark.parametrize("version", ["1.29.0", "1.33.0", NEWEST])
def test_named_templates_add_the_restricted_containers(parent, version):
    found = parent(version=version)
    assert not {one["kind"] for one in found} & set(SINCE), "policy.create: false renders policies"
    (deployment,) = [one for one in found if one["kind"] == "Deployment"]
    assert not errors(deployment, ".".join(version.split(".")[:2]), {})
    containers = deployment["spec"]["template"]["spec"]["initContainers"]
    assert [one["name"] for one in containers] == NAMES
    assert all(one["image"].startswith("registry.test:5000/") for one in containers), "global.imageRegistry is ignored"
    assert ("lifecycle" in containers[1]) == (version != "1.29.0"), "preStop's sleep does not exist before 1.30"
    assert not unrestricted(containers)


def test_a_chart_that_is_switched_off_renders_nothing(parent):
    assert [one["kind"] for one in parent({"enabled": False})] == ["Deployment"]


def test_an_unknown_value_of_a_parent_is_refused_by_its_name(parent):
    with pytest.raises(HelmError, match="prodect"):
        parent({"prodect": []})
