"""What the API server would hold: the chart's manifests, and pods and Services as its policies leave them."""
import json
import pathlib
import subprocess
import uuid

from demonstration.processes import RunError

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
NAMESPACE = "shop"
WAYS = ("swap", "named", "service", "relocate", "loopback")
# What the Service of an application has as its target in each way, before anything of ours is there.
TARGETS = {"swap": "http", "named": "wechat-http", "service": 8080, "relocate": 8080, "loopback": 8080}


def admit(values, objects=()):
    """The chart's manifests, and the objects as they are kept: by tests/admission/run, in the server's own plugins."""
    command = [ROOT / "tests" / "admission" / "run", "--admit", values]
    done = subprocess.run(
        command, input=json.dumps(list(objects)), stdout=subprocess.PIPE, text=True, timeout=1800, check=False
    )
    if done.returncode != 0:
        raise RunError("tests/admission/run refuses; its own words are above")
    said = json.loads(done.stdout)
    return said["manifests"], said["admitted"]


def application(way):
    """A pod that knows nothing of us, with probes as they are usual; but where they cannot come."""
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
    """The same with a name and an id, as a controller makes one after the other."""
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
    """What is measured: one pod, and the chart's manifests."""

    def __init__(self):
        self.manifests, (self.pod,) = admit(HERE / "sizes-values.yaml", [application("swap")])


class Cluster:
    """Everything that is tried."""

    def __init__(self):
        pods, services = [application(way) for way in WAYS], [service(way) for way in WAYS]
        self.manifests, admitted = admit(HERE / "values.yaml", pods + services)
        self.pods = dict(zip(WAYS, admitted[: len(WAYS)]))
        self.services = dict(zip(WAYS, admitted[len(WAYS) :]))
        self.gateway_manifests, _ = admit(HERE / "gateway-values.yaml")

    def deployment(self):
        """The pod of mode gateway, as its Deployment has it."""
        (deployment,) = [one for one in self.gateway_manifests if one["kind"] == "Deployment"]
        return deployment["spec"]["template"]
