"""Pods that controllers create, and the Services that select them."""

import copy

from expected import NAMESPACE, WAYS, cases, service

from .api import until
from .inject import ELSEWHERE, NEITHER, Pods, moved, normal, plain

NODE = "node-1"
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
# No controller marks nodes as ready here.
TOLERATIONS = [{"operator": "Exists"}]


def workload(kind, way, spec=None, name=None):
    """A workload with one pod."""
    name = name or f"{way}-{kind.lower()}"
    labels = {"app": way, "of": name}
    template = {"metadata": {"labels": labels}, "spec": copy.deepcopy(spec or plain(way)["spec"])}
    template["spec"]["tolerations"] = TOLERATIONS
    made = {"apiVersion": "batch/v1" if kind == "Job" else "apps/v1", "kind": kind, "spec": {"template": template}}
    made["metadata"] = {"name": name, "namespace": NAMESPACE}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        return made
    made["spec"]["selector"] = {"matchLabels": labels}
    if kind == "StatefulSet":
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        made["spec"].update(serviceName=name, volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}])
        template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return made


def node(api):
    """Creates a node object, which EndpointSlices and DaemonSets need."""
    api.make("v1", "Node", NODE)


def pods_of(api, one, namespace):
    """The pods of a workload."""
    query = ",".join(f"{key}={value}" for key, value in one["spec"]["template"]["metadata"]["labels"].items())
    return api.all("v1", "Pod", namespace, labelSelector=query)


def first_pod(api, one, namespace):
    """Waits for the pod of a workload."""
    name = one["metadata"]["name"]
    until(f"a pod of {name}", lambda: bool(pods_of(api, one, namespace)) or said(api, namespace, name), 60)
    return pods_of(api, one, namespace)[0]


def said(api, namespace, name):
    """The events of a workload without a pod."""
    return [
        event["message"]
        for event in api.all("v1", "Event", namespace)
        if event["reason"].startswith("Failed") and event["involvedObject"]["name"].startswith(name)
    ][-1:] or "no pod yet"


def comparable(pod):
    """A copy without the hashes and ids of controllers."""
    pod = normal(pod)
    labels = pod["metadata"]["labels"]
    pod["metadata"]["labels"] = {key: labels[key] for key in labels if not key.endswith(("hash", "uid", "generation"))}
    return pod


def injected(report, api):
    """The same pod from each kind of workload in each way, compared with the pod in a namespace without policies."""
    for kind in KINDS:
        seen = {}
        for way in WAYS:
            one = workload(kind, way)
            for namespace in (ELSEWHERE, NAMESPACE):
                api.must(api.create(moved(one, namespace)))
            original, pod = (comparable(first_pod(api, one, namespace)) for namespace in (ELSEWHERE, NAMESPACE))
            seen[way] = Pods(api).judged(original, pod, way)
        report.pods(f"the pod of a {kind}", dict.fromkeys(WAYS, "injected"), seen)


def denied(report, api):
    """The events of a workload show that the guard denies its pods."""
    (case,) = [case for case, _ in cases() if case["name"] == "swap/host-network"]
    one = workload("Deployment", "swap", case["object"]["spec"], "on-the-node")
    api.must(api.create(one))

    def told():
        status = api.must(api.get("apps/v1", "Deployment", NAMESPACE, "on-the-node")).get("status", {})
        failures = [each for each in status.get("conditions", []) if each["type"] == "ReplicaFailure"]
        texts = [each["message"] for each in failures if each["status"] == "True"]
        return any("with hostNetwork its port is open on the node" in text for text in texts) or texts

    until("the Deployment says why it has no pod", told, 60)
    wanted = "no pod, and the guard's words in its status"
    report.so("a Deployment with hostNetwork has", wanted, not pods_of(api, one, NAMESPACE), "a pod")


def runs(api, pod, address):
    """Sets the pod's node, address and readiness, as a scheduler and a kubelet do."""
    data = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    path = api.path("v1", "Pod", data["namespace"], data["name"], "binding")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": data, "target": {"kind": "Node", "name": NODE}}
    if not pod["spec"].get("nodeName"):
        api.must(api.ask("POST", path, binding))
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
    api.must(api.merge({"apiVersion": "v1", "kind": "Pod", "metadata": data}, {"status": status}, "status"))


def ends(api, namespace, name):
    """The ports and addresses in a Service's EndpointSlices."""
    mine = {"labelSelector": f"kubernetes.io/service-name={name}"}
    found = []
    for one in api.all("discovery.k8s.io/v1", "EndpointSlice", namespace, **mine):
        for port in one["ports"] or []:
            found += [(port["port"], endpoint["addresses"]) for endpoint in one["endpoints"] or []]
    return found


# The targetPort of a Service in each way, and the port of the pod that its clients reach.
LEADS = (("swap", "http", 15006), ("named", "wechat-http", 15006), ("service", 8080, 15006), ("relocate", 8080, 8080))


def slices(report, api):
    """The port that kube-proxy and ingress controllers read from a Service's EndpointSlice."""
    for number, (way, target, wanted) in enumerate(LEADS, 1):
        one, address = workload("Deployment", way), f"10.0.0.{number}"
        runs(api, first_pod(api, one, NAMESPACE), address)
        made = service(way, target, one["spec"]["selector"]["matchLabels"])
        made["metadata"] = {"name": f"to-{way}", "namespace": NAMESPACE}
        # Only one port of the sample belongs to the application.
        del made["spec"]["ports"][1]
        api.must(api.create(made))

        def there(way=way):
            found = ends(api, NAMESPACE, f"to-{way}")
            return len(found) == 1 or found

        until(f"the EndpointSlice of way {way}", there, 60)
        envoys = " (Envoy's own)" if wanted == 15006 else " (Envoy's now)"
        seen = [f"{port} at {at}{envoys}" for port, (at,) in ends(api, NAMESPACE, f"to-{way}")]
        what = f"way {way}, a Service with targetPort {target}: its EndpointSlice has"
        report.row(what, [f"{wanted} at {address}{envoys}"], seen)


def after(report, api):
    """After the chart's removal, new pods of a workload are unchanged."""
    seen = {}
    for way in WAYS:
        one = workload("Deployment", way)
        for pod in pods_of(api, one, NAMESPACE):
            api.must(api.delete(pod))
        fresh, original = (comparable(first_pod(api, one, namespace)) for namespace in (NAMESPACE, ELSEWHERE))
        seen[way] = Pods(api).judged(original, fresh, way)
    report.pods("the pod that a Deployment makes anew", dict.fromkeys(WAYS, NEITHER), seen)
