"""The objects in the API server: the chart's manifests, and pods and Services after its policies."""
import json
import pathlib
import subprocess
import uuid

from demonstration.processes import RunError

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
NAMESPACE = "shop"
WAYS = ("swap", "named", "service", "relocate", "loopback")
# The targetPort of an application's Service in each way, before the policies.
TARGETS = {"swap": "http", "named": "wechat-http", "service": 8080, "relocate": 8080, "loopback": 8080}


def admit(values, objects=()):
    """The chart's manifests, and the objects after the API server's plugins (tests/admission/run)."""
    command = [ROOT / "tests" / "admission" / "run", "--admit", values]
    done = subprocess.run(
        command, input=json.dumps(list(objects)), stdout=subprocess.PIPE, text=True, timeout=1800, check=False
    )
    if done.returncode != 0:
        raise RunError("tests/admission/run failed; its output is above")
    said = json.loads(done.stdout)
    return said["manifests"], said["admitted"]


def application(way):
    """An application's pod with the usual probes, except where they cannot reach it."""
    web = {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}
    if way != "loopback":
        asked = {"httpGet": {"path": "/healthy", "port": "http"}, "periodSeconds": 1}
        web["startupProbe"] = asked | {"failureThreshold": 30}
        web["readinessProbe"] = asked
        web["livenessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 2}
    metadata = {"name": way, "namespace": NAMESPACE, "labels": {"app": way}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [web]}}


def service(way):
    ports = [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": TARGETS[way]}]
    metadata, spec = {"name": way, "namespace": NAMESPACE}, {"selector": {"app": way}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def created(pod, name):
    """A copy with its own name and id, as a controller creates it."""
    made = json.loads(json.dumps(pod))
    made["metadata"] |= {"name": name, "uid": str(uuid.uuid4()), "namespace": NAMESPACE}
    return made


def config_maps(manifests):
    """{("configMap", name): files}."""
    found = {}
    for one in manifests:
        if one["kind"] == "ConfigMap":
            found["configMap", one["metadata"]["name"]] = {name: text.encode() for name, text in one["data"].items()}
    return found


class Measured:
    """The objects of --sizes: one pod, and the chart's manifests."""

    def __init__(self):
        self.manifests, (self.pod,) = admit(HERE / "sizes-values.yaml", [application("swap")])


class Cluster:
    """The objects of all parts."""

    def __init__(self):
        pods, services = [application(way) for way in WAYS], [service(way) for way in WAYS]
        self.manifests, admitted = admit(HERE / "values.yaml", pods + services)
        self.pods = dict(zip(WAYS, admitted[: len(WAYS)]))
        self.services = dict(zip(WAYS, admitted[len(WAYS) :]))
        self.gateway_manifests, _ = admit(HERE / "gateway-values.yaml")

    def deployment(self):
        """The pod of mode gateway, from its Deployment."""
        (deployment,) = [one for one in self.gateway_manifests if one["kind"] == "Deployment"]
        return deployment["spec"]["template"]
