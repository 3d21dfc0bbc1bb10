"""The chart under test: what Helm renders of it, and copies of it with a fault."""

import contextlib
import copy
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "helm" / "wechat-authz"
HELM = ROOT / "target" / "tools" / "helm"
# The version that scenarios are rendered for. The policies of mode inject need 1.36.
NEWEST = "1.36.2"
SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))


class HelmError(Exception):
    """Helm refused; the text is what it printed."""


def helm(*arguments):
    """Runs Helm and returns its output."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home}
        command = [HELM, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise HelmError(done.stdout + done.stderr)
    return done.stdout


def name(scenario):
    return scenario.name.removesuffix("-values.yaml")


def template(*values, chart=CHART, version=NEWEST, apis=()):
    """What Helm renders."""
    arguments = ["template", "wechat-authz", chart, "--namespace", "shop", "--kube-version", version]
    for file in values:
        arguments += ["--values", file]
    for api in apis:
        arguments += ["--api-versions", api]
    return helm(*arguments)


@functools.cache
def rendered(scenario):
    return template(scenario)


def objects(text):
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(scenario, kind):
    return [one for one in objects(rendered(scenario)) if one["kind"] == kind]


def configuration(scenario):
    """wechat-authz.yaml as the scenario renders it."""
    (text,) = [one["data"]["wechat-authz.yaml"] for one in of_kind(scenario, "ConfigMap") if "wechat-authz.yaml" in one["data"]]
    return text


def title(one):
    return f"{one['kind']} {one['metadata']['name']}"


@contextlib.contextmanager
def changed(file, old, new):
    """A copy of the chart in which `file` has `new` instead of the first `old`."""
    with tempfile.TemporaryDirectory(prefix="wechat-authz-chart-") as directory:
        chart = pathlib.Path(directory) / "wechat-authz"
        shutil.copytree(CHART, chart)
        text = (chart / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not contain `{old}`"
        (chart / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        yield chart


def base(mode="inject"):
    """Valid values."""
    values = {
        "config": {"apps": [{"name": "blog", "origin": "https://blog.example.com", "website": {"appid": "wx0123456789abcdef"}}]},
        "wechat": {"existingSecret": "wechat"},
        "keys": {"existingSecret": "keys"},
    }
    if mode == "gateway":
        return {**values, "mode": "gateway", "networkPolicy": {"from": [{"podSelector": {}}]}}
    return {**values, "protect": [{"name": "blog", "selector": {"app": "blog"}, "port": "http"}]}


def put(values, path, value):
    """A copy of the values with `value` at a path such as protect.0.port."""
    values = copy.deepcopy(values)
    at = values
    parts = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parts[:-1]:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
    at[parts[-1]] = value
    return values


def put_all(values, changes):
    for path, value in changes.items():
        values = put(values, path, value)
    return values


def template_values(values, version=NEWEST):
    """What Helm renders of values that are not in a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        return template(file.name, version=version)


def notes(scenario):
    """The notes of an install. `helm template` prints none, so a copy of the chart renders them as an object."""
    with tempfile.TemporaryDirectory() as work:
        chart = pathlib.Path(work) / name(scenario)
        shutil.copytree(CHART, chart)
        text = (chart / "templates" / "NOTES.txt").read_text(encoding="utf-8")
        (chart / "templates" / "_notes.tpl").write_text('{{- define "notes" -}}\n' + text + "{{- end }}\n", encoding="utf-8")
        object_ = "kind: Notes\nmetadata: {name: n}\ntext: {{ include \"notes\" . | quote }}\n"
        (chart / "templates" / "notes.yaml").write_text(object_, encoding="utf-8")
        (one,) = [one for one in objects(template(scenario, chart=chart)) if one["kind"] == "Notes"]
        return one["text"]


def istio_provider(text):
    """The extension provider for Istio in the notes, or None."""
    start = text.find("  - name: ")
    if start < 0:
        return None
    (one,) = yaml.safe_load(text[start : text.index("\n\n", start)])
    return one


def show(names):
    """Scenarios as JSON: their objects, the provider in their notes, and wechat-authz.yaml."""
    chosen = {name(scenario): scenario for scenario in SCENARIOS if name(scenario) in names}
    unknown = set(names) - chosen.keys()
    if unknown:
        raise HelmError(f"no such scenario: {', '.join(sorted(unknown))}")
    return json.dumps({
        known: {
            "objects": objects(rendered(scenario)),
            "provider": istio_provider(notes(scenario)),
            "configuration": yaml.safe_load(configuration(scenario)),
        }
        for known, scenario in chosen.items()
    })
