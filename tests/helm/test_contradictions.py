"""Values that contradict each other are refused, each contradiction in one sentence."""

import pytest
from chart import CHART, HelmError, base, put_all, template, template_values

MAP = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
PUBLIC = {"path_prefix": "/static", "access": "public"}
SUBJECT = "wx:wx0123456789abcdef:oAbc"
RELOCATE = {"name": "blog", "selector": {"app": "blog"}, "port": 3000, "service": "relocate", "relocate": {"port": 13000}}
# The mode, the contradicting values, and words of the sentence: one row for each sentence of templates/validate.yaml.
CONTRADICTIONS = [
    ("inject", {"config": {}}, "config.apps is empty"),
    ("inject", {"keys.existingSecret": ""}, "keys.existingSecret is empty"),
    ("inject", {"wechat.existingSecret": ""}, "wechat.existingSecret is empty"),
    ("inject", {"config.apps.0.website": None}, "neither official_account nor website"),
    ("inject", {"config.policy": [{"path_prefix": "/a", "path_pattern": "/a/*", "access": "public"}]}, "config.policy[0] has both path_prefix and path_pattern"),
    ("inject", {"config.policy": [PUBLIC, {"path_prefix": "/a", "access": "optional", "subjects": [SUBJECT]}]}, "config.policy[1] has subjects, which have no effect with access: optional"),
    ("inject", {"config.policy": [{"host": "*", "path_prefix": "/a", "access": "required"}]}, 'config.policy[0] has host: "*" without access: public and a path'),
    ("inject", {"config.policy": [{"access": "public"}]}, "config.policy[0] has access: public and matches every request"),
    ("inject", {"redis.existingSecret": "r"}, "config.redis is not"),
    ("inject", {"redis.existingSecret": "r", "config.redis": {"url": "redis://r:1/0"}, "redis.passwordKey": ""}, "none of its entries"),
    ("inject", {"redis.existingSecret": "r", "config.redis": {"url": "redis://r:1/0"}, "redis.sentinelPasswordKey": "s"}, "config.redis.sentinel is not"),
    ("inject", {"protect": []}, "protect is empty in mode inject"),
    ("inject", {"imagePullSecrets": ["x"]}, "imagePullSecrets has no effect"),
    ("inject", {"extraContainers": [{"name": "x"}]}, "extraContainers has no effect"),
    ("inject", {"gateway.dnsConfig": {"searches": ["a"]}}, "gateway.dnsConfig has no effect in mode inject"),
    ("inject", {"config.gateway": {"client_address": "peer"}}, "config.gateway.client_address contradicts"),
    ("inject", {"config.gateway": {"delivers_set_cookie": False}}, "delivers_set_cookie: false contradicts"),
    ("inject", {"config.gateway": {"pages_in_band": True}}, "pages_in_band contradicts mode inject"),
    ("inject", {"gateway.istio.enabled": True}, "gateway.istio is enabled, but mode is inject"),
    ("inject", {"gateway.autoscaling.enabled": True}, "gateway.autoscaling is enabled, but mode is inject"),
    ("inject", {"protect": [base()["protect"][0], {**base()["protect"][0], "selector": {"a": "b"}}]}, "the name is not unique"),
    ("inject", {"protect": [base()["protect"][0], {**base()["protect"][0], "name": "other"}]}, "select the same pods"),
    ("inject", {"policy.guard": False, "networkPolicy.enabled": False}, "without sidecars would be open"),
    ("inject", {"protect.0.port": 8080}, "swap exchanges port names"),
    ("inject", {"protect.0.port": "wechat-http"}, "the chart uses the port name"),
    ("inject", {"protect.0.service": "service"}, "needs a port number"),
    ("inject", {"protect.0.relocate": {"port": 1}}, "relocate is set, but service is swap"),
    ("inject", {"protect": [{**RELOCATE, "relocate": {}}]}, "needs relocate.port"),
    ("inject", {"protect": [{**RELOCATE, "relocate": {"port": 3000}}]}, "relocate.port is the same as port"),
    ("inject", {"protect": [{**RELOCATE, "relocate": {"port": 15006}}]}, "the sidecars use relocate.port"),
    ("inject", {"protect": [{**RELOCATE, "port": 80}]}, "Envoy does not run as root"),
    ("inject", {"protect": [RELOCATE], "policy.guard": False}, "needs policy.guard"),
    ("inject", {"protect": [{**RELOCATE, "openPorts": [13000]}]}, "without a login"),
    ("inject", {"protect": [{"name": "blog", "selector": {"app": "b"}, "port": 8080, "service": "named", "openPorts": [8080]}]}, "without a login"),
    ("gateway", {"protect": base()["protect"]}, "protect is set, but mode is gateway"),
    ("gateway", {"networkPolicy": {"from": []}}, "networkPolicy.from is empty"),
    ("gateway", {"gateway.envoyGateway": {"enabled": True, "httpRoutes": ["a"]}, "gateway.istio": {"enabled": True, "selector": {"a": "b"}}}, "are both enabled"),
    ("gateway", {"gateway.envoyGateway": {"enabled": True, "httpRoutes": ["a"]}, "config.gateway": {"delivers_set_cookie": True}}, "which does not deliver Set-Cookie on success"),
    ("gateway", {"gateway.envoyGateway": {"enabled": True}}, "httpRoutes is empty"),
    ("gateway", {"gateway.istio": {"enabled": True}}, "selector is empty"),
    ("gateway", {"gateway.httpRoute": {"enabled": True}}, "parentRefs is empty"),
    ("gateway", {"gateway.httpRoute": {"enabled": True, "parentRefs": [{"name": "x"}]}, "gateway.ingress": {"enabled": True}}, "enable one of them"),
    ("gateway", {"config.gateway": {"pages_in_band": True}, "gateway.ingress": {"enabled": True}}, "routes to the pages too: use one of them"),
    ("gateway", {"config.gateway": {"pages_in_band": True}, "config.apps.0.domain_proofs": ["MP_verify_AbCdEfGh12345678.txt"]}, "let the application serve the file"),
    ("gateway", {"config.gateway": {"pages_in_band": True}, "config.apps.0.official_account": {"appid": "wxfedcba9876543210", "jssdk": True}}, "has jssdk, which a check cannot answer"),
    ("gateway", {"config.gateway": {"pages_in_band": True}, "gateway.envoyGateway": {"enabled": True, "httpRoutes": ["a"], "timeout": "500ms"}}, "shorter than a login waits"),
    ("gateway", {"gateway.autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "above maxReplicas"),
    ("gateway", {"gateway.dnsPolicy": "None", "gateway.dnsConfig": {"searches": ["a"]}}, "could not resolve WeChat's address"),
    ("gateway", {"serviceAccount": {"create": False}}, "serviceAccount.name is empty"),
]
# Other values that the same sentences apply to.
AGAIN = [
    ("gateway", {"config.policy": [PUBLIC, {"access": "optional"}]}, "config.policy[1] has access: optional and matches every request"),
    ("inject", {"config.policy": [{"access": "public", "allow_encoded_slashes": True}]}, "to open everything, set path_pattern: /**"),
    ("inject", {"config.policy": [{"host": "*", "access": "public"}]}, 'has host: "*" without access: public and a path'),
    ("inject", {"config.policy": [{"host": "*", "methods": ["GET"], "access": "public"}]}, 'has host: "*" without access: public and a path'),
    ("inject", {"config.policy": [{"path_prefix": "/a", "access": "public", "subjects": [SUBJECT]}]}, "no effect with access: public"),
    ("inject", {"gateway.hostAliases": [{"ip": "10.0.0.7", "hostnames": ["a"]}]}, "gateway.hostAliases has no effect in mode inject"),
    ("inject", {"gateway.dnsPolicy": "Default"}, "gateway.dnsPolicy has no effect in mode inject"),
    ("gateway", {"config.gateway": {"pages_in_band": True}, "gateway.envoyGateway": {"enabled": True, "httpRoutes": ["a"], "timeout": "14s"}}, "14s is shorter than a login waits"),
    ("inject", {"protect": [base()["protect"][0], {"name": "other", "selector": {"app": "blog", "tier": "front"}, "port": "http"}]}, "select the same pods"),
    ("inject", {"protect": [{"name": "other", "selector": {"app": "blog", "tier": "front"}, "port": "http"}, base()["protect"][0]]}, "select the same pods"),
    ("inject", {"protect.0.port": 8080, "protect.0.service": "service", "policy.guard": False, "networkPolicy.enabled": False}, "without sidecars would be open"),
]
# Valid values that are close to a contradiction.
BLOG = base()["protect"][0]
CLOSE = [
    {"protect": [BLOG, {**BLOG, "name": "other", "selector": {"app": "other"}}]},
    {"protect": [{**BLOG, "selector": {"app": ""}}, {**BLOG, "name": "other", "selector": {"app": "other", "tier": "front"}}]},
    {"policy.guard": False},
    {"networkPolicy.enabled": False},
    {"protect.0.service": "named", "policy.guard": False, "networkPolicy.enabled": False},
    {"config.gateway": {"pages_in_band": False}},
    {"config.policy": [{"access": "required"}]},
    {"config.policy": [{"access": "required", "subjects": [SUBJECT]}]},
    {"config.policy": [{"path_pattern": "/**", "access": "public"}]},
    {"config.policy": [{"host": "blog.example.com", "access": "public"}, {"host": "*", "path_pattern": "/healthz", "access": "public"}]},
    {"config.policy": [{"methods": ["GET"], "access": "public"}, {"clients": ["10.0.0.0/8"], "access": "optional"}]},
]


def ids(rows):
    return [f"{mode}, {words}" for mode, _, words in rows]


@pytest.mark.parametrize(("mode", "changes", "words"), CONTRADICTIONS + AGAIN, ids=ids(CONTRADICTIONS + AGAIN))
def test_a_contradiction_is_refused_with_its_sentence(mode, changes, words):
    with pytest.raises(HelmError) as error:
        template_values(put_all(base(mode), changes))
    assert words in str(error.value)


@pytest.mark.parametrize("changes", CLOSE, ids=str)
def test_valid_values_close_to_a_contradiction_are_accepted(changes):
    template_values(put_all(base(), changes))


def test_each_sentence_has_a_row():
    sentences = (CHART / "templates" / "validate.yaml").read_text(encoding="utf-8").count("{{ fail ")
    # Not in a row: the cluster without the policies (below), and `relocate` without its port, which has the sentence of
    # `relocate` missing.
    assert sentences == len(CONTRADICTIONS) + 2


def test_a_cluster_without_the_policies_is_refused_with_both_alternatives():
    with pytest.raises(HelmError) as error:
        template_values(base(), version="1.35.4")
    assert "mode: gateway" in str(error.value) and "policy.create: false" in str(error.value)


@pytest.mark.parametrize(("version", "apis"), [("1.36.0", ()), ("1.36.0-eks-1234", ()), ("1.37.1", ()), ("1.35.0", (MAP,))])
def test_policies_are_rendered_by_version_or_by_their_api(version, apis):
    """By the version alone, as `helm template` knows it, and for an earlier version that has them switched on."""
    assert "MutatingAdmissionPolicy" in template(CHART / "ci" / "inject-swap-values.yaml", version=version, apis=apis)
