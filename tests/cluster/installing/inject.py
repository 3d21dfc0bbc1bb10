"""Mode inject: the pods and Services of tests/admission, and pods that controllers make, through a real API server."""

import copy
import json

import yaml
from demonstration.processes import RunError
from expected import NAMESPACE, SERVICES, TOKEN, WAYS, cases, injected_faults, ours, service

from .api import until
from .helm import done
from .report import words

RELEASE = "edge"
# No policy matches in this namespace: it shows what the server itself changes in a pod.
ELSEWHERE = "elsewhere"
MAP, GUARD = "MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"
ADMISSION = "admissionregistration.k8s.io/v1"
DENIED_WITHOUT_US = "does not have its containers"
NEITHER = "untouched"
MADE_UP = "uid creationTimestamp managedFields resourceVersion generation namespace ownerReferences".split()
# Another policy that changes pods.
NEIGHBOUR = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: { name: NAME }
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    objectSelector: { matchLabels: { neighbours: "yes" } }
    resourceRules: [ { apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] } ]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: { expression: 'Object{metadata: Object.metadata{annotations: {"NAME": "was here"}}}' }
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: { name: NAME }
spec: { policyName: NAME }
"""


def normal(pod):
    """A copy without what the server generates: names, ids, times, and the random suffix of a token's volume."""
    pod = {field: copy.deepcopy(pod[field]) for field in ("metadata", "spec")}
    data = pod["metadata"]
    if "generateName" in data:
        data.pop("name", None)
    for field in MADE_UP:
        data.pop(field, None)
    text = json.dumps(pod, ensure_ascii=False)
    for volume in pod["spec"].get("volumes", []):
        if volume["name"].startswith("kube-api-access-"):
            text = text.replace(volume["name"], "kube-api-access")
    return json.loads(text)


def moved(one, namespace):
    return {**one, "metadata": {**one["metadata"], "namespace": namespace}}


class Pods:
    """Compares a pod after admission with the same pod without the policies."""

    def __init__(self, api, namespace=NAMESPACE):
        self.api, self.namespace = api, namespace

    def without_us(self, pod):
        return normal(self.api.must(self.api.create(moved(pod, ELSEWHERE), dry=True)))

    def word(self, pod, way, answer):
        """The result for a pod: `injected`, `untouched`, the reason of a denial, or errors."""
        if not answer.good:
            return f"denied: {answer.message}"
        return self.judged(self.without_us(pod), answer.body, way)

    def judged(self, original, made, way):
        made = made if "status" not in made else normal(made)
        if made == original:
            return NEITHER
        faults = list(injected_faults(original, made, way))
        if made["metadata"] != original["metadata"]:
            faults.append("the metadata changed")
        if not faults:
            # Applies the result again: it must not change.
            again = moved({"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(made)}, self.namespace)
            answer = self.api.create(again, dry=True)
            if not answer.good:
                faults.append(f"denied on being asked again: {answer.message}")
            elif normal(answer.body)["spec"] != made["spec"]:
                faults.append("changed again on being asked again")
        return "; ".join(faults) or "injected"

    def is_so(self, pod, way, word):
        """For `until`: whether a new pod has this result."""

        def look():
            seen = self.word(pod, way, self.api.create(moved(pod, self.namespace), dry=True))
            return seen == word or (seen.startswith("denied") and word in seen) or seen

        return look


def plain(way):
    (case,) = [case for case, _ in cases() if case["name"] == f"{way}/plain"]
    return case["object"]


def named_apart(case):
    """An existing pod."""
    old = copy.deepcopy(case["old"])
    old["metadata"]["name"] = case["name"].replace("/", "-")
    return old


EARLIER = {**service("service", 8080), "metadata": {"name": "there-before-us", "namespace": NAMESPACE}}


def before(api):
    """Creates pods and a Service before the installation."""
    api.must(api.create(EARLIER))
    for case, _ in cases():
        if "old" in case:
            api.must(api.create(named_apart(case)))


def untouched(report, api, when):
    seen = {way: Pods(api).word(plain(way), way, api.create(plain(way), dry=True)) for way in WAYS}
    report.pods(f"{when}, a pod", dict.fromkeys(WAYS, NEITHER), seen)


def strict(report, api, objects, what):
    """Applies every object with strict validation and without warnings. Also checks that an unknown field is noticed."""
    said = []
    for one in objects:
        answer = api.apply(one, dry=True)
        if not answer.good or answer.warnings:
            said.append(f"{one['kind']} {one['metadata']['name']}: {answer.message or answer.warnings}")
    kinds = ", ".join(sorted({one["kind"] for one in objects}))
    report.row(f"faults and warnings of {what}, {len(objects)} objects ({kinds}), strictly validated", [], said)
    blind = []
    for one in {one["kind"]: one for one in objects}.values():
        # The fields of a kind besides its metadata, and one unknown field.
        field = next(field for field in ("spec", "metadata") if isinstance(one.get(field), dict))
        answer = api.apply({**one, field: {**one[field], "prodect": 1}}, dry=True)
        if answer.good or "prodect" not in answer.message:
            blind.append(f"{one['kind']}: {answer.message}")
    report.row("with a field `prodect` in each kind", "refused", "; ".join(blind) or "refused")


def active(report, api):
    """Waits until the policies apply, usually the guard first. Their effect is checked later."""
    took = []
    for way in WAYS:

        def holds(way=way):
            word = Pods(api).word(plain(way), way, api.create(plain(way), dry=True))
            return (word != NEITHER and DENIED_WITHOUT_US not in word) or word

        took.append(until(f"the policies of way {way} hold", holds, 60))
    report.so("until the policies hold", "less than a minute", max(took) < 60)


def pods(report, api):
    """Every pod of tests/admission/pods in all four ways."""
    judge, by_file = Pods(api), {}
    for case, expect in cases():
        way, file = case["name"].split("/")
        wanted, seen = by_file.setdefault(file, ({}, {}))
        pod = case["object"]
        if "old" in case:
            old = named_apart(case)
            pod = copy.deepcopy(api.must(api.get("v1", "Pod", NAMESPACE, old["metadata"]["name"])))
            pod["metadata"].update(case["object"]["metadata"], name=old["metadata"]["name"])
            answer = api.replace(pod, dry=True)
            word = f"denied: {answer.message}"
            if answer.good:
                word = NEITHER if not ours(answer.body) and answer.body["spec"] == pod["spec"] else "changed"
        else:
            word = judge.word(pod, way, api.create(pod, dry=True))
        if expect not in ("injected", NEITHER):
            # The policies' message, anywhere in the server's.
            expect, bare = f"denied: {expect}", expect
            word = expect if word.startswith("denied") and bare in word else word
        wanted[way], seen[way] = expect, word
    for file, (wanted, seen) in by_file.items():
        report.pods(file, wanted, seen)


def tokens(report, api):
    """The mounts of the API token: the application keeps its token, the sidecars have an empty directory."""
    wanted = {"web": "kube-api-access", "wechat-authz": "wechat-no-token", "wechat-envoy": "wechat-no-token"}
    seen = {}
    for way in WAYS:
        spec = normal(api.must(api.create(plain(way), dry=True)))["spec"]
        mounts = {}
        for container in spec["containers"] + spec["initContainers"]:
            mounts[container["name"]] = [one["name"] for one in container["volumeMounts"] if one["mountPath"] == TOKEN]
        seen[way] = words(mounts)
    report.pods("where the API's token is looked for, there is", dict.fromkeys(WAYS, words(wanted)), seen)


def neighbours(report, api):
    """Two other policies, with names before and after: in any order, the sidecars are added once."""
    names = ("aaa-neighbour", "zzz-neighbour")
    made = [one for name in names for one in yaml.safe_load_all(NEIGHBOUR.replace("NAME", name))]
    for one in made:
        api.must(api.create(one))
    seen = {}
    for way in WAYS:
        pod = copy.deepcopy(plain(way))
        pod["metadata"]["labels"]["neighbours"] = "yes"

        def both(pod=pod):
            marks = api.must(api.create(pod, dry=True))["metadata"].get("annotations", {})
            return sorted(marks) == sorted(names) or marks

        until("other policies are active", both, 60)
        seen[way] = Pods(api).word(pod, way, api.create(pod, dry=True))
    report.pods("beside two other policies that change the pod", dict.fromkeys(WAYS, "injected"), seen)
    for one in made:
        api.must(api.delete(one))


def services(report, api):
    """The target of each Service's port after one and after two writes."""
    for name, made, namespace, target in SERVICES:
        one = {**made, "metadata": {"name": "web", "namespace": namespace}}
        answer = api.create(one, dry=True)
        seen = answer.message
        if answer.good:
            first, other = answer.body["spec"]["ports"]
            rest = {"name": "web", "port": one["spec"]["ports"][0]["port"], "protocol": "TCP"}
            seen = first["targetPort"] if {**first, "targetPort": 0} == {**rest, "targetPort": 0} else first
            if other != {"name": "other", "port": 9090, "protocol": "TCP", "targetPort": 9090}:
                seen = f"{seen}, and the other port {other}"
        report.row(f"a Service, {name.replace('-', ' ')}, leads to", target, seen)
    # Without a targetPort, the server sets the port itself before the policies.
    bare = service("service", 8080, port=8080)
    del bare["spec"]["ports"][0]["targetPort"]
    answer = api.create(bare, dry=True)
    seen = answer.message or answer.body["spec"]["ports"][0]["targetPort"]
    report.row("a Service without a targetPort, on 8080, leads to", 15006, seen)
    # The command in the notes for existing Services.
    answer = api.merge(EARLIER, {"metadata": {"annotations": {"wechat-authz/touched": "1"}}})
    seen = answer.message or answer.body["spec"]["ports"][0]["targetPort"]
    report.row("a Service that was there before us leads, once annotated, to", 15006, seen)


def by_hand(report, api, helm, install):
    """If the mutating policies are deleted, the guard denies all pods, and an upgrade restores the policies."""
    there = api.all(ADMISSION, MAP) + api.all(ADMISSION, f"{MAP}Binding")
    there = [one for one in there if one["metadata"]["name"].startswith(f"{NAMESPACE}-{RELEASE}-")]
    if len(there) != 10:
        raise RunError(f"{len(there)} policies and bindings of ours instead of 10")
    for one in there:
        api.must(api.delete(one))
    judge, missed = Pods(api), []
    for way in WAYS:
        until(f"the guard denies in way {way}", judge.is_so(plain(way), way, DENIED_WITHOUT_US), 60)
    for case, expect in cases():
        if expect == "injected":
            answer = api.create(case["object"], dry=True)
            if answer.good or DENIED_WITHOUT_US not in answer.message:
                missed.append(f"{case['name']}: {answer.message or 'let in'}")
    report.row("let in with the changing policies deleted", [], missed)
    report.row("helm upgrade with nothing changed", "done", done(*helm.run("upgrade", *install)))
    active(report, api)
