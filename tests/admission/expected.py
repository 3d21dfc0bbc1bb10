"""The pods and Services for the policies, and the expected results, defined independently of the chart."""

import copy
import json
import pathlib

import yaml
from endpoints import leads_to

HERE = pathlib.Path(__file__).resolve().parent
VALUES = HERE / "values.yaml"
WAYS = ("swap", "named", "service", "relocate")
NAMESPACE = "shop"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def pod_of(case, way, metadata=None):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": case.get("namespace", NAMESPACE), "labels": {"app": way}},
        "spec": copy.deepcopy(case["pod"]),
    }
    for key, value in {**case.get("metadata", {}), **(metadata or {})}.items():
        if key == "labels":
            pod["metadata"]["labels"].update(value)
        elif value is None:
            pod["metadata"].pop(key, None)
        else:
            pod["metadata"][key] = value
    pod["metadata"]["labels"].update(case.get("labels", {}))
    return pod


def cases():
    """Every pod, in each of the four ways or in the ways that it lists."""
    files = [(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")), WAYS) for path in sorted((HERE / "pods").glob("*.yaml"))]
    for name, case, ways in [*files, *tricks()]:
        expect = case.get("expect", {})
        for way in ways:
            made = {
                "name": f"{way}/{name}",
                "namespace": case.get("namespace", NAMESPACE),
                "object": pod_of(case, way),
            }
            if "old" in case:
                made["operation"] = "UPDATE"
                before = {key: value for key, value in case.items() if key != "metadata"}
                before["labels"] = case["old"].get("labels", {})
                made["old"] = pod_of(before, way)
            yield made, expect.get(way, expect.get("all", "injected"))


def tricks():
    """The pods of tricks.yaml in the form of those of pods/."""
    plain = yaml.safe_load((HERE / "pods" / "plain.yaml").read_text(encoding="utf-8"))["pod"]
    for trick in yaml.safe_load((HERE / "tricks.yaml").read_text(encoding="utf-8")):
        pod = {**copy.deepcopy(plain), **trick.get("pod", {})}
        pod["containers"][0].update(trick.get("web", {}))
        pod["containers"] += trick.get("beside", [])
        if "init" in trick:
            pod["initContainers"] = trick["init"]
        yield trick["name"], {"pod": pod, "expect": {"all": trick.get("expect", "injected")}}, trick.get("ways", WAYS)


def service(way, target, selector=None, port=80):
    ports = [{"name": "web", "port": port, "protocol": "TCP"}, {"name": "other", "port": 9090, "targetPort": 9090}]
    ports[0]["targetPort"] = target
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": way} if selector is None else selector, "ports": ports},
    }


# The expected target of each Service's first port.
SERVICES = (
    ("number", service("service", 8080), NAMESPACE, 15006),
    # Without a targetPort, the API server sets the port before the policies; this test does not.
    ("same-number", service("service", 8080, port=8080), NAMESPACE, 15006),
    ("more-labels", service("service", 8080, {"app": "service", "tier": "front"}), NAMESPACE, 15006),
    ("by-name", service("service", "http"), NAMESPACE, "http"),
    ("another-number", service("service", 8081), NAMESPACE, 8081),
    ("another-application", service("other", 8080), NAMESPACE, 8080),
    ("swap-by-name", service("swap", "http"), NAMESPACE, "http"),
    ("without-selector", service("service", 8080, {}), NAMESPACE, 8080),
    ("another-namespace", service("service", 8080), "elsewhere", 8080),
)


def ours(pod):
    return [c for c in pod["spec"].get("initContainers", []) if c["name"] in ("wechat-authz", "wechat-envoy")]


def expected_containers(original, way):
    """The expected containers of the application."""
    containers = copy.deepcopy(original["spec"]["containers"])
    for container in containers:
        # In way relocate the declared port stays: Envoy listens on it, and names of it lead to Envoy.
        named = any(port.get("name") == "http" for port in container.get("ports", []))
        moved = any(port["containerPort"] == 8080 for port in container.get("ports", []))
        for port in container.get("ports", []):
            if way == "swap" and port.get("name") == "http":
                port["name"] = "wechat-app"
                port.setdefault("protocol", "TCP")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for handler in ("httpGet", "tcpSocket"):
                asked = container.get(probe, {}).get(handler)
                if not asked:
                    continue
                if way == "swap" and named and asked["port"] == "http":
                    asked["port"] = "wechat-app"
                if way == "relocate" and moved and asked["port"] in ("http", 8080):
                    asked["port"] = 18080
        if way == "relocate" and moved:
            env = container.setdefault("env", [])
            for name, value in (("PORT", "18080"), ("HOST", "127.0.0.1")):
                found = [variable for variable in env if variable["name"] == name]
                if found:
                    found[0].clear()
                    found[0].update(name=name, value=value)
                else:
                    env.append({"name": name, "value": value})
        if way != "named" and "preStop" not in container.get("lifecycle", {}):
            container.setdefault("lifecycle", {})["preStop"] = {"sleep": {"seconds": 5}}
    return containers


def sorted_by(items, key):
    return sorted(items, key=lambda item: json.dumps(item.get(key) if key else item, sort_keys=True))


def same_containers(left, right):
    """Equality except for the order of variables and ports, which merging by key may change."""

    def plain(containers):
        containers = copy.deepcopy(containers)
        for container in containers:
            for field in ("env", "ports"):
                if field in container:
                    container[field] = sorted_by(container[field], None)
        return containers

    return plain(left) == plain(right)


def injected_faults(original, pod, way):
    """The errors of a pod that the policies have changed."""
    two = ours(pod)
    if [c["name"] for c in two] != ["wechat-authz", "wechat-envoy"]:
        yield "our two containers are not there once, in order"
        return
    if pod["spec"]["initContainers"][-2:] != two:
        yield "our containers are not the last"
    before = original["spec"].get("initContainers", [])
    if pod["spec"]["initContainers"][: len(before)] != before:
        yield "the application's own init containers changed"
    volumes = original["spec"].get("volumes", [])
    if pod["spec"]["volumes"][: len(volumes)] != volumes:
        yield "the application's own volumes changed"
    wanted = expected_containers(original, way)
    if not same_containers(pod["spec"]["containers"], wanted):
        yield (
            f"the application's containers are\n    {json.dumps(pod['spec']['containers'], ensure_ascii=False)}\n"
            f"  and should be\n    {json.dumps(wanted, ensure_ascii=False)}"
        )
    ruled = {"containers", "initContainers", "volumes"}
    if {k: v for k, v in pod["spec"].items() if k not in ruled} != {
        k: v for k, v in original["spec"].items() if k not in ruled
    }:
        yield "pod-level fields changed"
    seen = set()
    for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
        for port in container.get("ports", []):
            key = (port["containerPort"], port.get("protocol", "TCP"))
            if key in seen:
                yield f"the port {key} is there twice"
            seen.add(key)
    known = {volume["name"] for volume in pod["spec"]["volumes"]}
    for container in two:
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if mounts.get(TOKEN) != "wechat-no-token":
            yield f"{container['name']} would get the application's API token"
        if not set(mounts.values()) <= known:
            yield f"{container['name']} mounts what is not there"
    greeting = [v["value"] for v in two[0]["env"] if v["name"] == "GREETING"]
    if greeting != [v["value"] for v in yaml.safe_load(VALUES.read_text(encoding="utf-8"))["extraEnv"][:1]]:
        yield f"a text did not survive the literal: {greeting}"
    target = {"swap": "http", "named": "wechat-http", "service": 15006, "relocate": 8080}[way]
    envoy = 8080 if way == "relocate" else 15006
    if leads_to(pod["spec"], target) != envoy:
        yield f"a Service's endpoints lead to {leads_to(pod['spec'], target)}, not to Envoy"
    args = two[1]["args"]
    cluster = yaml.safe_load(args[args.index("--config-yaml") + 1])["static_resources"]["clusters"][0]
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    app = 18080 if way == "relocate" else 8080
    if address != {"address": "127.0.0.1", "port_value": app}:
        yield f"Envoy sends requests to {address}"
