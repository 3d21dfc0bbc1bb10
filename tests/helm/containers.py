"""The containers that the chart's admission policies add to pods."""

import json
import re

from chart import SCENARIOS, name, of_kind

NAMES = ["wechat-authz", "wechat-envoy"]
# The restricted pod security standard, and what the chart adds to it, set on the container itself.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def unrestricted(containers):
    """How containers differ from RESTRICTED."""
    found = []
    for one in containers:
        context = one.get("securityContext", {})
        found += [
            f"container {one['name']}: securityContext.{key} is {context.get(key)!r} instead of {value!r}"
            for key, value in RESTRICTED.items()
            if context.get(key) != value
        ]
        if any("hostPort" in port for port in one.get("ports", [])):
            found.append(f"container {one['name']} has a hostPort")
    return found


def literal(text):
    """The value of a CEL literal in a policy's patch. The application's port is read as 8080."""
    text = text.replace('" + string(variables.appPort) + "', "8080")
    out, at = [], 0
    # Removes dyn( … ) outside of strings.
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            out.append(text[at : end + 1])
            at = end + 1
        elif text.startswith("dyn(", at):
            at += 4
        elif text[at] == ")":
            at += 1
        else:
            out.append(text[at])
            at += 1
    return json.loads("".join(out))


def injected(policy):
    """The containers and volumes that a policy adds, from its expression."""
    text = policy["spec"]["mutations"][0]["jsonPatch"]["expression"]
    added = {"initContainers": [], "volumes": []}
    for line in text.splitlines():
        found = re.search(r'JSONPatch\{op: "add", path: "/spec/(initContainers|volumes)/-", value: (.*)\}(,?)$', line)
        if found:
            added[found[1]].append(literal(found[2]))
    return added


def policies():
    """Each scenario's policies for pods, by scenario."""
    for scenario in SCENARIOS:
        if not name(scenario).startswith("inject"):
            continue
        for policy in of_kind(scenario, "MutatingAdmissionPolicy"):
            if not policy["metadata"]["name"].endswith("-service"):
                yield scenario, policy
