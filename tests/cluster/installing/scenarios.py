"""Every scenario of the chart from its installation to its removal; in mode gateway with the pods of controllers."""

import kinds as foreign
from demonstration.processes import RunError

from . import workloads
from .api import until
from .helm import done
from .inject import strict
from .release import rendered, uninstall

RELEASE = "wechat-authz"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.36"}


def kinds(stage):
    """Defines the kinds of Gateway API, Envoy Gateway, Istio and the Prometheus operator."""
    try:
        definitions = foreign.definitions()
    except foreign.MissingError as missing:
        raise RunError(str(missing)) from None
    for one in definitions:
        stage.api.must(stage.api.create({field: one[field] for field in ("apiVersion", "kind", "metadata", "spec")}))

    def known():
        lacking = foreign.FOREIGN - stage.api.lists().keys()
        return not lacking or sorted(lacking)

    until("the kinds of others are served", known, 60)


def pods_of(api, namespace):
    return api.all("v1", "Pod", namespace, labelSelector=f"app.kubernetes.io/instance={RELEASE}")


def description(pod):
    """The containers, and whether the API token is mounted."""
    spec = pod["spec"]
    names = [container["name"] for container in spec.get("initContainers", []) + spec["containers"]]
    projected = [volume.get("projected", {}).get("sources", []) for volume in spec.get("volumes", [])]
    token = any("serviceAccountToken" in source for sources in projected for source in sources)
    return f"{', '.join(names)}, {'an' if token else 'no'} API token"


def checksums(pods):
    return {pod["metadata"]["annotations"]["checksum/config"] for pod in pods}


def inject(report, stage, values):
    """The server accepts all objects of mode inject. `inject` tests their effect."""
    name = namespace = values.name.removesuffix("-values.yaml")
    stage.server.namespace(namespace, RESTRICTED)
    words = (RELEASE, stage.chart, "--namespace", namespace, "--values", values)
    strict(report, stage.api, rendered(stage.helm, *words), name)
    report.row(f"{name}, helm install", "done", done(*stage.helm.run("install", *words)))
    uninstall(report, stage.api, stage.helm, RELEASE, namespace)


def gateway(report, stage, values):
    api, helm = stage.api, stage.helm
    name = namespace = values.name.removesuffix("-values.yaml")
    stage.server.namespace(namespace, RESTRICTED)
    words = (RELEASE, stage.chart, "--namespace", namespace, "--values", values)
    objects = rendered(helm, *words)
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    # Objects that the scenario requires.
    priority = deployment["spec"]["template"]["spec"].get("priorityClassName")
    if priority:
        api.make("scheduling.k8s.io/v1", "PriorityClass", priority, value=1)
    strict(report, api, objects, name)
    report.row(f"{name}, helm install", "done", done(*helm.run("install", *words)))
    # Without a number of replicas there is one, until the autoscaler changes it.
    wanted = deployment["spec"].get("replicas", 1)

    def there():
        return len(pods_of(api, namespace)) == wanted or workloads.said(api, namespace, RELEASE)

    until(f"{name}: {wanted} pods", there, 60)
    first = pods_of(api, namespace)
    seen = sorted({f"{len(first)} × {description(pod)}" for pod in first})
    report.row(f"{name}, under restricted pod security, has", [f"{wanted} × wechat-authz, no API token"], seen)
    ready(report, api, namespace, name, first)

    upgraded = helm.run("upgrade", *words, "--set", "config.prefix=/_login")
    report.row(f"{name}, helm upgrade with another config.prefix", "done", done(*upgraded))
    others = []

    def anew():
        others[:] = checksums(pods_of(api, namespace)) - checksums(first)
        return bool(others)

    until(f"{name}: a pod with the changed configuration", anew, 60)
    report.row(f"{name}, checksums of another configuration among its pods", 1, len(others))
    uninstall(report, api, helm, RELEASE, namespace)


def ready(report, api, namespace, name, pods):
    """Once its pods are ready, the Services lead to the check and pages listeners."""
    for number, pod in enumerate(pods, 1):
        workloads.runs(api, pod, f"10.1.0.{number}")
    addresses = [f"10.1.0.{number}" for number in range(1, len(pods) + 1)]
    seen = {}

    def there():
        found = workloads.ends(api, namespace, RELEASE)
        seen.clear()
        for port, at in found:
            seen.setdefault(port, []).extend(at)
        for at in seen.values():
            at.sort()
        return seen == {9100: addresses, 9101: addresses} or seen

    try:
        until(f"{name}: the EndpointSlice", there, 30)
    except RunError:
        # The row below reports it.
        pass
    report.row(f"{name}, its Service leads to", {9100: addresses, 9101: addresses}, dict(sorted(seen.items())))
