"""The custom resources that the chart renders, with their definitions from Go modules."""

import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
# By group: the module, and the files with the definitions.
MODULES = {
    "gateway.networking.k8s.io": ("sigs.k8s.io/gateway-api@v1.4.0", "config/crd/standard/*.yaml"),
    "gateway.envoyproxy.io": ("github.com/envoyproxy/gateway@v1.7.0", "charts/gateway-helm/crds/generated/*.yaml"),
    "istio.io": ("istio.io/api@v1.28.0", "kubernetes/customresourcedefinitions.gen.yaml"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/*.yaml",
    ),
}
FOREIGN = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"),
    ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}


class MissingError(Exception):
    """A module or a definition is not available."""


def definitions():
    """The CustomResourceDefinition of each of these kinds."""
    import yaml

    loader = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    # YAML 1.1 has a type for a single `=`; in a CRD it is an operator.
    loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))
    go = subprocess.run([HERE.parent / "go"], capture_output=True, text=True, timeout=900, check=True).stdout.strip()
    found, known = [], set()
    for module, files in MODULES.values():
        command = [go, "mod", "download", "-json", module]
        # Outside the repository, so that no go.mod applies.
        told = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300, check=False)
        place = json.loads(told.stdout or "{}")
        if "Dir" not in place:
            raise MissingError(f"{module} is not available: {place.get('Error')} {told.stderr}")
        for file in sorted(pathlib.Path(place["Dir"]).glob(files)):
            for one in yaml.load_all(file.read_text(encoding="utf-8"), Loader=loader):
                if not one or one.get("kind") != "CustomResourceDefinition":
                    continue
                spec = one["spec"]
                kinds = {(f"{spec['group']}/{version['name']}", spec["names"]["kind"]) for version in spec["versions"]}
                if kinds & FOREIGN:
                    found.append(one)
                    known |= kinds
    if FOREIGN - known:
        raise MissingError(f"no definition of {sorted(FOREIGN - known)}")
    return found
