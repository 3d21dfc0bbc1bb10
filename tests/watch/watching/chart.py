"""The objects for Prometheus and Grafana that the chart renders."""
import json
import os
import pathlib
import subprocess

import yaml
from demonstration.processes import RunError, dying_with_us

ROOT = pathlib.Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "wechat-authz"
RELEASE, NAMESPACE = "wechat-authz", "shop"
MODES = ("inject", "gateway")


def helm():
    """The path of Helm, which is built if it is missing."""
    command = [ROOT / "tests" / "helm" / "get"]
    get = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=dying_with_us(), check=False)
    if get.returncode != 0:
        raise RunError("Helm is not available; the reason is above")
    return pathlib.Path(get.stdout.strip())


class Rendered:
    """The objects that one mode renders."""

    def __init__(self, chart, mode, work):
        values = pathlib.Path(__file__).resolve().parent.parent / f"{mode}-values.yaml"
        command = [helm(), "template", RELEASE, chart, "--namespace", NAMESPACE, "--values", values]
        command += ["--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"]
        environment = {**os.environ, "HELM_CACHE_HOME": work, "HELM_CONFIG_HOME": work, "HELM_DATA_HOME": work}
        done = subprocess.run(
            [str(part) for part in command],
            env={name: str(value) for name, value in environment.items()},
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=dying_with_us(),
            check=False,
        )
        if done.returncode != 0:
            raise RunError(f"helm cannot render the chart in mode {mode}:\n{done.stderr}")
        self.mode = mode
        self.objects = [one for one in yaml.safe_load_all(done.stdout) if one]

    def all(self, kind):
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind):
        found = self.all(kind)
        if len(found) != 1:
            raise RunError(f"mode {self.mode} has {len(found)} objects {kind} instead of one")
        self.labelled(found[0])
        return found[0]

    def labelled(self, one):
        """Prometheus selects objects by this label, which tests/watch/*-values.yaml set."""
        if one["metadata"]["labels"].get("release") != "monitoring":
            raise RunError(f"{one['kind']} {one['metadata']['name']} does not have the label that the values set")

    def rules(self):
        """The groups of rules."""
        return self.one("PrometheusRule")["spec"]["groups"]

    def endpoints(self):
        """The endpoints of the monitor."""
        if self.mode == "gateway":
            return self.one("ServiceMonitor")["spec"]["endpoints"]
        monitors = self.all("PodMonitor")
        if not monitors:
            raise RunError("mode inject has no PodMonitor")
        for monitor in monitors:
            self.labelled(monitor)
        return monitors[0]["spec"]["podMetricsEndpoints"]

    def dashboards(self):
        """The dashboards by file name."""
        maps = [one for one in self.all("ConfigMap") if one["metadata"]["labels"].get("grafana_dashboard") == "1"]
        if len(maps) != 1:
            raise RunError(f"mode {self.mode} has {len(maps)} ConfigMaps for Grafana instead of one")
        return {name: json.loads(text) for name, text in maps[0]["data"].items()}
