"""Changes of a pod that already has the sidecars: written by hand, changed while it runs, or debugged. Also changes that must
be admitted: the API server's defaults, LimitRanger, cloud identities, tracers, meshes."""

import copy

ADMITTED = ""
MISSING = "does not have its containers"
TOKENS = "/var/run/secrets/eks.amazonaws.com/serviceaccount"


def container(pod, name):
    (one,) = [c for c in pod["spec"]["initContainers"] + pod["spec"]["containers"] if c["name"] == name]
    return one


def volume(pod, name):
    (one,) = [v for v in pod["spec"]["volumes"] if v["name"] == name]
    return one


def sets(name, **fields):
    """Other fields of a container."""
    return lambda pod: container(pod, name).update(copy.deepcopy(fields))


def lacks(name, field):
    return lambda pod: container(pod, name).pop(field)


def extends(name, field, *more):
    return lambda pod: container(pod, name).setdefault(field, []).extend(copy.deepcopy(more))


def context(name, **fields):
    return lambda pod: container(pod, name)["securityContext"].update(fields)


def argument(name, old, new):
    def change(pod):
        one = container(pod, name)
        assert any(old in word for word in one["args"]), one["args"]
        one["args"] = [word.replace(old, new) for word in one["args"]]

    return change


def mount(where, path, **fields):
    def change(pod):
        (one,) = [m for m in container(pod, where)["volumeMounts"] if m["mountPath"] == path]
        one.update(fields)

    return change


def source(name, **fields):
    """Another source for a volume of ours."""

    def change(pod):
        one = volume(pod, name)
        one.clear()
        one.update(name=name, **fields)

    return change


def into_containers(name):
    def change(pod):
        one = container(pod, name)
        pod["spec"]["initContainers"].remove(one)
        one.pop("restartPolicy")
        pod["spec"]["containers"].append(one)

    return change


def all_of(*changes):
    def change(pod):
        for one in changes:
            one(pod)

    return change


def defaults(pod):
    """Sets the API server's defaults."""
    pod["spec"].update(restartPolicy="Always", dnsPolicy="ClusterFirst", securityContext={}, schedulerName="default-scheduler")
    for one in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
        one.setdefault("terminationMessagePath", "/dev/termination-log")
        one.setdefault("terminationMessagePolicy", "File")
        one.setdefault("imagePullPolicy", "IfNotPresent")
        one.setdefault("resources", {})
        for field in ("startupProbe", "readinessProbe", "livenessProbe"):
            if field in one:
                one[field].setdefault("successThreshold", 1)
        for variable in one.get("env", []):
            if "fieldRef" in variable.get("valueFrom", {}):
                variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    volume(pod, "certificates")["configMap"].setdefault("defaultMode", 420)


def crowded(pod):
    """A very large pod: an expression that costs too much would deny it."""
    for number in range(40):
        env = [{"name": f"V{index}", "valueFrom": {"secretKeyRef": {"name": "web", "key": f"k{index}"}}} for index in range(100)]
        mounts = [{"name": f"v{index}", "mountPath": f"/v{index}"} for index in range(30)]
        ports = [{"containerPort": 20000 + 10 * number + index, "hostPort": 20000 + 10 * number + index, "protocol": "TCP"} for index in range(10)]
        pod["spec"]["containers"].append({"name": f"c{number}", "image": "c:1", "env": env, "volumeMounts": mounts, "ports": ports})
    pod["spec"]["volumes"] += [{"name": f"v{index}", "projected": {"sources": [{"secret": {"name": f"s{index}"}}] * 10}} for index in range(30)]


# Changes of an injected pod, and the guard's message.
INJECTED = {
    "another image under our name": (sets("wechat-authz", image="busybox"), MISSING),
    "another image under Envoy's name": (sets("wechat-envoy", image="envoyproxy/envoy:v1.0.0"), MISSING),
    "another tag of our image": (sets("wechat-authz", image="wechat-authz:older"), MISSING),
    "another command": (sets("wechat-authz", command=["sleep", "inf"]), MISSING),
    "another command of Envoy's": (sets("wechat-envoy", command=["sleep"]), MISSING),
    "other arguments": (sets("wechat-authz", args=["serve", "--config", "/tmp/own.yaml"]), MISSING),
    "no arguments": (lacks("wechat-envoy", "args"), MISSING),
    "another port of the application": (argument("wechat-envoy", "080", "081"), MISSING),
    "no restart": (lacks("wechat-envoy", "restartPolicy"), MISSING),
    "Envoy without ports": (lacks("wechat-envoy", "ports"), MISSING),
    "a port more": (extends("wechat-envoy", "ports", {"containerPort": 9901, "protocol": "TCP"}), MISSING),
    "a port of ours on the node": (extends("wechat-authz", "ports", {"containerPort": 8080, "hostPort": 8080, "protocol": "TCP"}), MISSING),
    "root": (context("wechat-authz", runAsUser=0, runAsNonRoot=False), MISSING),
    "privileged": (context("wechat-envoy", privileged=True), MISSING),
    "a capability": (context("wechat-envoy", capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}), MISSING),
    "a root that is written to": (context("wechat-envoy", readOnlyRootFilesystem=False), MISSING),
    "unmasked": (context("wechat-authz", procMount="Unmasked"), MISSING),
    "no security context": (lacks("wechat-authz", "securityContext"), MISSING),
    "a hook": (sets("wechat-authz", lifecycle={"postStart": {"exec": {"command": ["wechat-authz", "drain"]}}}), MISSING),
    "no hook": (lacks("wechat-envoy", "lifecycle"), MISSING),
    "a probe that runs something": (sets("wechat-envoy", livenessProbe={"exec": {"command": ["envoy", "--version"]}}), MISSING),
    "a preloaded library": (extends("wechat-envoy", "env", {"name": "LD_PRELOAD", "value": "/x.so"}), MISSING),
    "another path": (extends("wechat-envoy", "env", {"name": "PATH", "value": "/x"}), MISSING),
    "a proxy": (extends("wechat-authz", "env", {"name": "https_proxy", "value": "http://x:1"}), MISSING),
    "other certificates": (extends("wechat-authz", "env", {"name": "SSL_CERT_FILE", "value": "/x"}), MISSING),
    "a variable of ours twice": (extends("wechat-authz", "env", {"name": "GREETING", "value": "x"}), MISSING),
    "a variable of the configuration": (extends("wechat-authz", "env", {"name": "REDIS_HOST", "value": "x"}), MISSING),
    "variables from elsewhere": (extends("wechat-envoy", "envFrom", {"configMapRef": {"name": "x"}}), MISSING),
    "another program": (
        all_of(
            lambda pod: pod["spec"]["volumes"].append({"name": "bin", "configMap": {"name": "x", "defaultMode": 493}}),
            extends("wechat-envoy", "volumeMounts", {"name": "bin", "mountPath": "/usr/local/bin"}),
        ),
        MISSING,
    ),
    "a mount below ours": (
        all_of(
            lambda pod: pod["spec"]["volumes"].append({"name": "own", "emptyDir": {}}),
            extends("wechat-authz", "volumeMounts", {"name": "own", "mountPath": "/var/run/secrets/../../etc/wechat-authz"}),
        ),
        MISSING,
    ),
    "another volume of the operator's": (source("certificates", configMap={"name": "own"}), MISSING),
    "no variables from elsewhere": (lacks("wechat-authz", "envFrom"), MISSING),
    "the API's token": (mount("wechat-authz", "/var/run/secrets/kubernetes.io/serviceaccount", name="wechat-state"), MISSING),
    "part of a volume": (mount("wechat-authz", "/etc/wechat-authz", subPath="own"), MISSING),
    "another configuration": (source("wechat-config", configMap={"name": "own", "defaultMode": 292}), MISSING),
    "another configuration of Envoy's": (source("wechat-envoy-config", emptyDir={}), MISSING),
    "the socket on the node": (source("wechat-socket", hostPath={"path": "/run/own"}), MISSING),
    "other keys": (source("wechat-keys", secret={"secretName": "own", "defaultMode": 292}), MISSING),
    "Envoy beside the application": (into_containers("wechat-envoy"), MISSING),
    "a message over a file": (sets("wechat-authz", terminationMessagePath="/etc/wechat-authz/wechat-authz.yaml"), MISSING),
    "our keys for the application": (
        extends("web", "volumeMounts", {"name": "wechat-keys", "mountPath": "/keys"}),
        "no other container may mount its volumes",
    ),
    # What others do to each container of a pod.
    "the API server's defaults": (defaults, ADMITTED),
    "other resources": (sets("wechat-envoy", resources={"limits": {"cpu": "1", "memory": "1Gi"}}), ADMITTED),
    "images always pulled": (sets("wechat-authz", imagePullPolicy="Always"), ADMITTED),
    "a mesh's probes": (
        sets("wechat-envoy", livenessProbe={"httpGet": {"path": "/app-health/wechat-envoy/livez", "port": 15020}}),
        ADMITTED,
    ),
    "a cloud's identity": (
        all_of(
            lambda pod: pod["spec"]["volumes"].append(
                {"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "sts"}}]}}
            ),
            *[
                all_of(
                    extends(name, "env", {"name": "AWS_REGION", "value": "cn-north-1"}, {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": f"{TOKENS}/token"}),
                    extends(name, "volumeMounts", {"name": "aws-iam-token", "mountPath": TOKENS, "readOnly": True}),
                )
                for name in ("web", "wechat-authz", "wechat-envoy")
            ],
        ),
        ADMITTED,
    ),
    "a secret of Vault's": (
        all_of(
            lambda pod: pod["spec"]["volumes"].append({"name": "vault-secrets", "emptyDir": {"medium": "Memory"}}),
            extends("wechat-authz", "volumeMounts", {"name": "vault-secrets", "mountPath": "/vault/secrets"}),
        ),
        ADMITTED,
    ),
    "many containers": (crowded, ADMITTED),
    "a tracer's variable in front": (
        lambda pod: container(pod, "wechat-authz")["env"].insert(0, {"name": "DD_AGENT_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}),
        ADMITTED,
    ),
    "a sidecar of others": (
        lambda pod: pod["spec"]["initContainers"].append({"name": "istio-proxy", "image": "istio/proxyv2:1", "restartPolicy": "Always", "ports": [{"name": "http-envoy-prom", "containerPort": 15090 - 70, "protocol": "TCP"}]}),
        ADMITTED,
    ),
}


def labelled(pod):
    pod["metadata"].setdefault("annotations", {})["note"] = "new"


def released(pod):
    """A pod of an earlier release of the chart."""
    sets("wechat-authz", image="wechat-authz:0.0.1")(pod)
    sets("wechat-envoy", image="envoyproxy/envoy:v1.39.0", args=["--old"])(pod)


def debugger(**fields):
    return lambda pod: pod["spec"].setdefault("ephemeralContainers", []).append(
        {"name": f"debugger-{len(pod['spec'].get('ephemeralContainers', []))}", "image": "busybox", **copy.deepcopy(fields)}
    )


WITH_KEYS = debugger(volumeMounts=[{"name": "wechat-keys", "mountPath": "/keys"}])
def unlabelled(pod):
    pod["metadata"]["labels"] = {"app": "apart"}


MOUNT = "no other container may mount its volumes"
IMAGES = "the images of its containers must be those of the chart"

# An earlier change of a running pod, the change, its subresource, and the guard's message.
RUNNING = {
    "an annotation": (None, labelled, "", ADMITTED),
    "another image of the application": (None, sets("web", image="web:2"), "", ADMITTED),
    "another image under our name": (None, sets("wechat-authz", image="busybox"), "", IMAGES),
    "another image under Envoy's name": (None, sets("wechat-envoy", image="busybox"), "", IMAGES),
    "our image under Envoy's name": (None, sets("wechat-envoy", image="wechat-authz:0.1.0"), "", IMAGES),
    "an annotation, of an earlier release": (released, labelled, "", ADMITTED),
    "our image, of an earlier release": (released, sets("wechat-authz", image="busybox"), "", IMAGES),
    "this release's image": (sets("wechat-authz", image="wechat-authz:0.0.1"), sets("wechat-authz", image="wechat-authz:0.1.0"), "", ADMITTED),
    "labels on what only looks like ours": (
        all_of(sets("wechat-authz", image="busybox"), lambda pod: pod["metadata"]["labels"].clear()),
        "labels",
        "",
        MISSING,
    ),
    "no labels any more": (None, unlabelled, "", ADMITTED),
    "another image under our name, without the labels": (unlabelled, sets("wechat-authz", image="busybox"), "", IMAGES),
    "another image under our name, and no labels any more": (None, all_of(unlabelled, sets("wechat-authz", image="busybox")), "", IMAGES),
    "a debugger with our keys, without the labels": (unlabelled, WITH_KEYS, "ephemeralcontainers", MOUNT),
    "a debugger, without the labels": (unlabelled, debugger(), "ephemeralcontainers", ADMITTED),
    "a debugger": (None, debugger(), "ephemeralcontainers", ADMITTED),
    "a debugger of the application": (None, debugger(targetContainerName="web"), "ephemeralcontainers", ADMITTED),
    "a debugger in our processes": (None, debugger(targetContainerName="wechat-authz"), "ephemeralcontainers", "a debugger in its containers' processes"),
    "a debugger in Envoy's processes": (None, debugger(targetContainerName="wechat-envoy"), "ephemeralcontainers", "a debugger in its containers' processes"),
    "a debugger with our keys": (None, WITH_KEYS, "ephemeralcontainers", MOUNT),
    "a debugger with our Secret": (None, debugger(envFrom=[{"secretRef": {"name": "wechat-keys"}}]), "ephemeralcontainers", "may read the Secrets"),
    "a privileged debugger": (None, debugger(securityContext={"privileged": True}), "ephemeralcontainers", "a container that is privileged"),
    "an annotation beside an earlier debugger": (WITH_KEYS, labelled, "", ADMITTED),
    "a debugger beside an earlier one": (WITH_KEYS, debugger(), "ephemeralcontainers", ADMITTED),
    "a second debugger with our keys": (debugger(), WITH_KEYS, "ephemeralcontainers", MOUNT),
}


def twins(plain):
    """The application's port a second time, with a hostPort: the policy of way swap merges ports by their number."""
    ports = [{"name": "http", "containerPort": 8080}, {"containerPort": 8080, "hostPort": 80}]
    for title, pair in {"last": ports, "first": ports[::-1], "both": [{**port, "hostPort": 80} for port in ports]}.items():
        made = copy.deepcopy(plain)
        made["spec"]["containers"][0]["ports"] = copy.deepcopy(pair)
        yield {"name": f"swap/hostPort {title}", "namespace": made["metadata"]["namespace"], "object": made}


def open_ports(pod):
    """The application's ports that are open on the node."""
    return [p for c in pod["spec"]["containers"] for p in c.get("ports", []) if p["containerPort"] == 8080 and p.get("hostPort")]


def injected_cases(name, pod):
    """Each change of an injected pod: the case, and the guard's message."""
    for title, (change, expect) in INJECTED.items():
        made = copy.deepcopy(pod)
        change(made)
        yield {"name": f"{name}/{title}", "namespace": made["metadata"]["namespace"], "object": made}, expect
    for title, (before, change, subresource, expect) in RUNNING.items():
        old = copy.deepcopy(pod)
        if before:
            before(old)
        made = copy.deepcopy(old)
        if change == "labels":
            made["metadata"]["labels"] = copy.deepcopy(pod["metadata"]["labels"])
        else:
            change(made)
        case = {"namespace": made["metadata"]["namespace"], "object": made, "old": old, "operation": "UPDATE"}
        yield {"name": f"{name}/running, {title}", "subresource": subresource, **case}, expect
