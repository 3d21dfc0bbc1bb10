"""A release from its installation to its removal, in Helm and a real API server."""

import json

import yaml
from demonstration.processes import RunError
from expected import NAMESPACE, VALUES, WAYS, ours

from .api import until
from .helm import done, refused
from .inject import ADMISSION, GUARD, MAP, NEITHER, RELEASE, Pods, normal, plain

# Objects that the server and its controllers create.
PASSING = {"Event", "Lease", "ComponentStatus"}
# Values that the chart refuses, and words of the refusal.
BAD = {
    "envoy.concurency=4": "concurency",
    "protect[0].port=8080": "protect swap: service swap exchanges port names",
    "config.apps[0].origin=5": "origin",
    "envoy.trustedHops=many": "trustedHops",
    # Accepted by Helm, refused by the server.
    "commonLabels.team=not a label!": "not a label!",
}


def arguments(chart, *more):
    return (RELEASE, chart, "--namespace", NAMESPACE, "--values", VALUES, *more)


def rendered(helm, *words):
    """The objects of a release, including that of `helm test`, rendered with the server's capabilities."""
    text = helm.must("template", *words, "--dry-run=server")
    objects = [one for one in yaml.safe_load_all(text) if one]
    for one in objects:
        # Helm sets the release's namespace in extra objects without one.
        if ADMISSION not in one["apiVersion"]:
            one["metadata"].setdefault("namespace", words[words.index("--namespace") + 1])
    return objects


def install(report, helm, chart):
    code, out, err = helm.run("install", *arguments(chart))
    report.row("helm install", "done", done(code, out, err))
    named = ("rollout restart", "kubectl -n shop get pods -l 'app=swap'", "helm test edge -n shop")
    report.row("commands that its notes lack", [], [word for word in named if word not in out])


def policies(api):
    """The chart's policies in the server, without generated fields."""
    found = {}
    for kind in (MAP, f"{MAP}Binding", GUARD, f"{GUARD}Binding"):
        for one in api.all(ADMISSION, kind):
            if one["metadata"]["name"].startswith(f"{NAMESPACE}-{RELEASE}-"):
                found[kind, one["metadata"]["name"]] = one["spec"]
    return found


def checked(report, api):
    """The warnings of the server's type checker about the guards' expressions."""

    def guards():
        return [one for one in api.all(ADMISSION, GUARD) if (GUARD, one["metadata"]["name"]) in policies(api)]

    def looked_at():
        found = guards()
        return len(found) == len(WAYS) and all("typeChecking" in one.get("status", {}) for one in found) or len(found)

    until("the guards' expressions are looked at", looked_at, 60)
    said = [one["status"]["typeChecking"].get("expressionWarnings", []) for one in guards()]
    said = [warning["warning"] for warnings in said for warning in warnings]
    report.row("the server's warnings of types in the guards' expressions", [], said)


def specs(api):
    """The plain pod of each way, as the server would create it now."""
    return {way: normal(api.must(api.create(plain(way), dry=True)))["spec"] for way in WAYS}


def envoys(spec):
    """Envoy's threads and drain time, which the upgrade below changes."""
    two = ours({"spec": spec})
    if len(two) != 2:
        return "no Envoy"
    words = two[1]["args"]
    threads = words[words.index("--concurrency") + 1]
    return f"{threads} threads, {two[1]['lifecycle']['preStop']['sleep']['seconds']} s"


def wait_for(api, wanted):
    """Waits until changed policies apply: before, the guard denies pods of the other policy's version."""

    def made(way):
        answer = api.create(plain(way), dry=True)
        return envoys(normal(answer.body)["spec"]) if answer.good else answer.message

    def is_so():
        seen = {way: made(way) for way in WAYS}
        return seen == dict.fromkeys(WAYS, wanted) or seen

    until(f"pods have {wanted}", is_so, 60)


def last(helm):
    """The release's last revision."""
    said = helm.must("history", RELEASE, "--namespace", NAMESPACE, "--output", "json")
    return json.loads(said)[-1]["revision"]


def changes(report, api, helm, chart):
    """Upgrade, invalid values and rollback, and their effect on new pods."""
    before, stood, first = specs(api), policies(api), last(helm)
    more = arguments(chart, "--set", "envoy.concurrency=3,drainSeconds=7")
    report.row("helm upgrade with other envoy.concurrency and drainSeconds", "done", done(*helm.run("upgrade", *more)))
    wait_for(api, "3 threads, 7 s")
    now = {way: envoys(spec) for way, spec in specs(api).items()}
    report.pods("new pods have", dict.fromkeys(WAYS, "3 threads, 7 s"), now)

    versions = _versions(api)
    for values, words in BAD.items():
        answer = helm.run("upgrade", *arguments(chart, "--set", values))
        report.row(f"helm upgrade with {values}", f"refused: {words}", refused(words, *answer))
        changed = [name for name, version in _versions(api).items() if versions.get(name) != version]
        report.row("changed by it", [], changed)

    back = helm.run("rollback", RELEASE, first, "--namespace", NAMESPACE)
    report.row("helm rollback", "done", done(*back))
    wait_for(api, envoys(before["swap"]))
    report.so("the policies are", "as before the upgrade", policies(api) == stood)
    again = specs(api)
    seen = {way: "as before the upgrade" if again[way] == before[way] else envoys(again[way]) for way in WAYS}
    report.pods("new pods are", dict.fromkeys(WAYS, "as before the upgrade"), seen)


def fewer(report, api, helm, chart):
    """Removes an application from `protect`: its policies disappear and its pods stay unchanged. Then restores it."""
    first, judge = last(helm), Pods(api)
    entries = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["protect"]
    kept = json.dumps([entry for entry in entries if entry["name"] != "named"])
    upgraded = helm.run("upgrade", *arguments(chart, "--set-json", f"protect={kept}"))
    report.row("helm upgrade without the application `named`", "done", done(*upgraded))
    report.row("it leaves of its policies", [], [name for kind, name in policies(api) if "-named" in name])
    until("pods of `named` are let alone", judge.is_so(plain("named"), "named", NEITHER), 60)
    report.row("helm rollback", "done", done(*helm.run("rollback", RELEASE, first, "--namespace", NAMESPACE)))
    until("pods of `named` are protected again", judge.is_so(plain("named"), "named", "injected"), 60)
    seen = {way: judge.word(plain(way), way, api.create(plain(way), dry=True)) for way in WAYS}
    report.pods("and then a pod is", dict.fromkeys(WAYS, "injected"), seen)


def _owned(api, release):
    """Every object of a release in all kinds of the server, and Helm's records."""
    for version, kind in api.lists():
        for one in api.all(version, kind) if kind not in PASSING else ():
            labels, marks = (one["metadata"].get(field) or {} for field in ("labels", "annotations"))
            recorded = labels.get("owner") == "helm" and labels.get("name") == release
            named = release in (labels.get("app.kubernetes.io/instance"), marks.get("meta.helm.sh/release-name"))
            if recorded or named:
                yield one


def owned(api, release=RELEASE):
    return sorted({f"{one['kind']} {one['metadata']['name']}" for one in _owned(api, release)})


def _versions(api):
    """Of every object but Helm's records; by what was asked for where that is counted, so that a status is no change."""
    found = {}
    for one in _owned(api, RELEASE):
        data = one["metadata"]
        if one["kind"] != "Secret":
            found[f"{one['kind']} {data['name']}"] = data.get("generation", data["resourceVersion"])
    return found


def uninstall(report, api, helm, release=RELEASE, namespace=NAMESPACE):
    there = owned(api, release)
    # Otherwise the check below would prove nothing.
    if len(there) < 4:
        raise RunError(f"only these objects belong to the release: {there}")
    answer = helm.run("uninstall", release, "--namespace", namespace)
    report.row(f"helm uninstall of {len(there)} objects", "done", done(*answer))
    left = []

    def gone():
        # Pods and ReplicaSets disappear after their owner.
        for pod in api.all("v1", "Pod", namespace):
            if "deletionTimestamp" in pod["metadata"]:
                # As the kubelet does after the containers have ended.
                api.delete(pod)
        left[:] = owned(api, release)
        return not left or left

    try:
        until("all is gone", gone, 30)
    except RunError:
        # The row below reports what is left.
        pass
    report.row(f"in {len(api.kinds)} kinds it leaves", [], left)
