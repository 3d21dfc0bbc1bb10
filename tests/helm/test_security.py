"""Containers of the chart are restricted, and clients cannot send headers that are read as ours."""

import re

import pytest
from chart import CHART, SCENARIOS, changed, name, objects, of_kind, rendered, template, title
from containers import NAMES, injected, policies, unrestricted
from schemas import errors

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
POLICIES = list(policies())
POLICY_IDS = [policy["metadata"]["name"] for _, policy in POLICIES]
each_policy = pytest.mark.parametrize("policy", [policy for _, policy in POLICIES], ids=POLICY_IDS)


def test_containers_of_deployments_and_pods_are_restricted(scenario):
    for one in of_kind(scenario, "Deployment") + of_kind(scenario, "Pod"):
        spec = one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else one["spec"]
        assert not unrestricted(spec["containers"]), title(one)


def test_there_are_policies_for_each_way():
    assert len(POLICIES) >= 5


@each_policy
def test_injected_containers_are_restricted(policy):
    containers = injected(policy)["initContainers"]
    assert [one["name"] for one in containers] == NAMES
    assert not unrestricted(containers)


@each_policy
def test_injected_containers_mount_injected_volumes_and_not_the_api_token(policy):
    added = injected(policy)
    volumes = {one["name"] for one in added["volumes"]}
    for container in added["initContainers"]:
        mounts = container["volumeMounts"]
        assert {mount["name"] for mount in mounts} <= volumes, container["name"]
        # Another mount at this path keeps the application's API token out.
        assert TOKEN in [mount["mountPath"] for mount in mounts], container["name"]


@each_policy
def test_injected_pod_has_valid_form(policy):
    spec = {"containers": [{"name": "a", "image": "a"}], **injected(policy)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    assert not errors(pod, "1.36", {})


@pytest.mark.parametrize("line", ["allowPrivilegeEscalation: false", "runAsNonRoot: true", "capabilities: { drop: [ALL] }"])
def test_a_missing_restriction_is_noticed(line):
    with changed("templates/_containers.tpl", line, "") as chart:
        text = template(CHART / "ci" / "inject-swap-values.yaml", chart=chart)
    (policy,) = [one for one in objects(text) if one["kind"] == "MutatingAdmissionPolicy"]
    assert unrestricted(injected(policy)["initContainers"])


# Headers that clients must not send, because servers read them as ours; and headers that proxies and applications need.
FORGED = ["x-wechat-subject", "x.wechat.subject", "x_wechat_openid", "x-wechat_session", "x~wechat-role", "x-original-url", "x-rewrite-url"]
NEEDED = ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-client-cert", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id",
          "x-envoy-attempt-count", "traceparent", "tracestate", "x-b3-traceid", "cookie", "authorization", "access_token", "ot-baggage-sentry-trace_id", "x-wechatpay-signature"]


def removed_early():
    """The patterns of headers that Envoy Gateway and Istio remove before routing, by object."""
    for scenario in SCENARIOS:
        for one in objects(rendered(scenario)):
            if one["kind"] == "ClientTrafficPolicy":
                matches = one["spec"]["headers"]["earlyRequestHeaders"]["removeOnMatch"]
                yield f"{name(scenario)}, {title(one)}", [match["value"] for match in matches]
            for patch in one["spec"]["configPatches"] if one["kind"] == "EnvoyFilter" else []:
                (mutation,) = patch["patch"]["value"]["typed_config"]["early_header_mutation_extensions"]
                rules = mutation["typed_config"]["mutations"]
                patterns = [rule["remove_on_match"]["key_matcher"]["safe_regex"]["regex"] for rule in rules]
                yield f"{name(scenario)}, {title(one)}, {patch['match']['context']}", patterns


def test_forged_headers_are_removed_and_needed_ones_are_not():
    lists = dict(removed_early())
    assert len(lists) == 6
    for where, patterns in lists.items():

        def is_removed(header, patterns=patterns):
            return any(re.fullmatch(pattern, header, re.ASCII) for pattern in patterns)

        assert [header for header in FORGED if not is_removed(header)] == [], where
        assert [header for header in NEEDED if is_removed(header)] == [], where
