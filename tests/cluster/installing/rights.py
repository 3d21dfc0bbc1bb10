"""Restricted namespaces, teams without cluster-scoped rights, and Kubernetes 1.35."""

import copy
import pathlib
import shlex
import shutil
import tempfile

import yaml
from demonstration.processes import RunError
from expected import NAMESPACE, VALUES, WAYS, ours

from . import workloads
from .api import until
from .scenarios import RESTRICTED
from .helm import Helm, done, refused
from .inject import ADMISSION, ELSEWHERE, GUARD, MAP, Pods, plain, strict
from .release import owned, rendered, uninstall
from .programs import ROOT
from .server import Server

LOCKED, TEAM = "locked", "team"
RELEASE = "wechat-authz"
CI = ROOT / "helm" / "wechat-authz" / "ci"
WITHOUT_RIGHT = CI / "inject-without-right-values.yaml"
CONTEXT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def restricted(report, stage):
    """The sidecars pass the restricted standard, and a pod that violates it is denied."""
    api, helm = stage.api, stage.helm
    stage.server.namespace(LOCKED, {**RESTRICTED, "pod-security.kubernetes.io/warn": "restricted"})
    stage.server.namespace(ELSEWHERE)
    words = (RELEASE, stage.chart, "--namespace", LOCKED, "--values", VALUES)
    report.row("helm install", "done", done(*helm.run("install", *words)))
    judge, seen, loose, warned = Pods(api, LOCKED), {}, {}, []
    for way in WAYS:
        pod = copy.deepcopy(plain(way))
        pod["metadata"]["namespace"] = LOCKED
        pod["spec"]["containers"][0]["securityContext"] = CONTEXT
        until(f"way {way} injects", judge.is_so(pod, way, "injected"), 60)
        answer = api.create(pod, dry=True)
        seen[way], warned = judge.word(pod, way, answer), warned + answer.warnings
        del pod["spec"]["containers"][0]["securityContext"]
        said = api.create(pod, dry=True).message
        blamed = "violates PodSecurity" in said and "web" in said and "wechat-" not in said
        loose[way] = "denied for its own container" if blamed else said or "let in"
    report.pods("a pod that meets the standard", dict.fromkeys(WAYS, "injected"), seen)
    report.row("warnings", [], warned)
    report.pods("a pod that does not", dict.fromkeys(WAYS, "denied for its own container"), loose)
    uninstall(report, api, helm, RELEASE, LOCKED)


def team(report, stage):
    """A user with the role `admin` of a namespace installs with `policy.create: false`; a platform team applies the policies."""
    server, admin = stage.server, stage.api
    server.namespace(TEAM)
    server.namespace(ELSEWHERE)
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "admin"}
    user = {"apiGroup": group, "kind": "User", "name": "team"}
    admin.make(f"{group}/v1", "RoleBinding", "team", TEAM, roleRef=role, subjects=[user])
    api, helm = server.client("team"), Helm(stage.program, server, "team")
    api.lists()
    until("the role has its rights", lambda: may_create(api, "", "pods", TEAM), 60)
    wanted = {"pods": True, "networkpolicies": True, "mutatingadmissionpolicies": False}
    allowed = {
        "pods": may_create(api, "", "pods", TEAM),
        "networkpolicies": may_create(api, "networking.k8s.io", "networkpolicies", TEAM),
        "mutatingadmissionpolicies": may_create(api, "admissionregistration.k8s.io", "mutatingadmissionpolicies", ""),
    }
    report.row("what its user may create", wanted, allowed)

    words = (RELEASE, stage.chart, "--namespace", TEAM)
    answer = helm.run("install", *words, "--values", WITHOUT_RIGHT, "--set", "policy.create=true")
    wanted = 'cannot get resource "mutatingadmissionpolicies"'
    report.row("helm install with policy.create: true", f"refused: {wanted}", refused(wanted, *answer))
    report.row("and makes", [], owned(admin, RELEASE))

    code, out, err = helm.run("install", *words, "--values", WITHOUT_RIGHT)
    report.row("helm install with policy.create: false", "done", done(code, out, err))
    report.row("its notes say that nothing is protected yet", True, "This release contains no admission policies" in out)
    (entry,) = yaml.safe_load(WITHOUT_RIGHT.read_text(encoding="utf-8"))["protect"]
    container = {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": entry["port"]}]}
    data = {"name": "blog", "namespace": TEAM, "labels": entry["selector"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": data, "spec": {"containers": [container]}}
    report.row("of ours a pod of the team's has", [], names(api.must(api.create(pod, dry=True))))

    # The command in the notes, with its two placeholders replaced by files.
    (command,) = [line.strip() for line in out.splitlines() if line.strip().startswith("helm template ")]
    if not command.endswith(" | kubectl apply -f -"):
        raise RunError(f"the notes contain another command: {command}")
    asked = shlex.split(command.removesuffix(" | kubectl apply -f -"))[1:]
    files = {"CHART": str(stage.chart), "VALUES": str(WITHOUT_RIGHT)}
    text = stage.helm.must(*(files.get(word, word) for word in asked))
    objects = [one for one in yaml.safe_load_all(text) if one]
    wanted = sorted((MAP, f"{MAP}Binding", GUARD, f"{GUARD}Binding"))
    report.row("the platform team's helm template has", wanted, sorted(one["kind"] for one in objects))
    for one in objects:
        admin.must(admin.apply(one))
    both = ["wechat-authz", "wechat-envoy"]

    def now():
        # The guard may apply shortly before and after the mutating policy: then the pod is denied.
        answer = api.create(pod, dry=True)
        return names(answer.body) if answer.good else answer.message

    until("the policies hold in the team's namespace", lambda: now() == both or now(), 60)
    report.row("with them a pod of the team's has", both, now())
    # The named templates add the same containers to an application's own chart.
    by_policy = api.must(api.create(pod, dry=True))["spec"]
    for one in reversed(objects):
        admin.must(admin.delete(one))
    until("the policies are gone", lambda: not now(), 60)
    report.row("helm uninstall by the team", "done", done(*helm.run("uninstall", RELEASE, "--namespace", TEAM)))
    report.row("there is left", [], owned(admin, RELEASE))
    own_chart(report, stage, api, helm, pod, by_policy)


# The parts of a Deployment that an application's own chart includes.
OURS = '(dict "chart" (index .Subcharts "wechat-authz") "protect" "blog") | nindent 8'
INCLUDED = """\
      initContainers: {{- include "wechat-authz.initContainers" OURS }}
      volumes: {{- include "wechat-authz.volumes" OURS }}
"""


def own_chart(report, stage, api, helm, pod, by_policy):
    """An application's own chart includes this one; its user needs no more rights."""
    labels = pod["metadata"]["labels"]
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "blog"}}
    deployment["spec"] = {"selector": {"matchLabels": labels}, "template": template}
    values = {**yaml.safe_load(WITHOUT_RIGHT.read_text(encoding="utf-8")), "fullnameOverride": RELEASE}
    text = yaml.dump(deployment, Dumper=Plain) + INCLUDED.replace("OURS", OURS)
    with tempfile.TemporaryDirectory() as work:
        parent = pathlib.Path(work) / "parent"
        (parent / "templates").mkdir(parents=True)
        shutil.copytree(stage.chart, parent / "charts" / "wechat-authz")
        (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 0.1.0\n", encoding="utf-8")
        (parent / "values.yaml").write_text(yaml.safe_dump({"wechat-authz": values}), encoding="utf-8")
        (parent / "templates" / "deployment.yaml").write_text(text, encoding="utf-8")
        answer = helm.run("install", "blog", parent, "--namespace", TEAM)
    report.row("helm install of an application's own chart that includes ours", "done", done(*answer))

    def made():
        return workloads.pods_of(api, deployment, TEAM)

    until("its Deployment has a pod", lambda: bool(made()) or workloads.said(stage.api, TEAM, "blog"), 60)
    (seen,) = made()
    same = ours(seen) == ours({"spec": by_policy})
    report.so("its pod has", "the containers that the policy puts in", same, names(seen))
    report.row("helm uninstall of it", "done", done(*helm.run("uninstall", "blog", "--namespace", TEAM)))


class Plain(yaml.SafeDumper):
    """Writes YAML without anchors."""

    def ignore_aliases(self, data):
        return True


def names(pod):
    return [container["name"] for container in ours(pod)]


def may_create(api, group, resource, namespace):
    """As `kubectl auth can-i create`."""
    asked = {"verb": "create", "group": group, "resource": resource, "namespace": namespace}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    path = f"/apis/{kind['apiVersion']}/selfsubjectaccessreviews"
    return api.must(api.ask("POST", path, {**kind, "spec": {"resourceAttributes": asked}}))["status"]["allowed"]


# The message of mode inject without its kinds of policies.
OTHER_WAYS = (
    "this cluster has no MutatingAdmissionPolicy (Kubernetes 1.36 and later have it): set mode: gateway, or set "
    "policy.create: false and include the chart's named templates in the application's own chart"
)


def older(report, stage):
    """The chart's message in a cluster without these policies, and what it can do there."""
    server = Server(stage.processes, stage.work, stage.etcd, "older", emulated_version="1.35")
    api, helm = server.api, Helm(stage.program, server)
    known, version = api.lists(), api.ask("GET", "/version").body
    with_it = "with" if (ADMISSION, MAP) in known else "without"
    seen = f"{version['emulationMajor']}.{version['emulationMinor']} {with_it} {MAP}"
    report.row("the server is", f"1.35 without {MAP}", seen)
    words = ("--namespace", NAMESPACE, "--create-namespace", "--values", VALUES)
    answer = helm.run("install", RELEASE, stage.chart, *words)
    report.row("helm install, mode inject", f"refused: {OTHER_WAYS}", refused(OTHER_WAYS, *answer))
    report.row("and makes", [], owned(api, RELEASE))
    for values in (WITHOUT_RIGHT, CI / "gateway-plain-values.yaml"):
        name = values.name.removesuffix("-values.yaml")
        api.make("v1", "Namespace", name)
        # This server has no controllers, and pods need a ServiceAccount.
        api.make("v1", "ServiceAccount", "default", name)
        mine = (RELEASE, stage.chart, "--namespace", name, "--values", values)
        strict(report, api, rendered(helm, *mine), name)
        report.row(f"{name}, helm install", "done", done(*helm.run("install", *mine)))
        uninstall(report, api, helm, RELEASE, name)
