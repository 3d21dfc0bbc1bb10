"""The notes of an install."""

import re

import pytest
from chart import CHART, ROOT, SCENARIOS, istio_provider, name, notes, of_kind

WORDS = {
    "inject-swap": ["rollout restart", "get pods -l 'app.kubernetes.io/name=wordpress'", "targetPort: http", "enforces NetworkPolicies", "exceeds 10 (drainSeconds)"],
    "inject-ways": ["targetPort: wechat-http", "annotate service", "because preStopSleep is 0"],
    "inject-without-right": ["policy.create: false", "-s templates/inject/policy.yaml -s templates/inject/guard.yaml | kubectl apply", "if the named templates add the sidecars"],
    "gateway-istio": ["envoyExtAuthzHttp", "name: wechat-authz", "which it routes to the pages"],
    "gateway-istio-in-band": ["envoyExtAuthzHttp", "wait 15s for a check", "timeout: 15s", "application must serve"],
    "gateway-envoy-gateway": ["renewed by a redirect"],
}


def named(scenario):
    return CHART / "ci" / f"{scenario}-values.yaml"


@pytest.fixture(scope="module")
def headers_to_check():
    """The headers that strict.yaml sends to the check."""
    text = (ROOT / "envoy" / "strict.yaml").read_text(encoding="utf-8")
    found = set(re.findall(r"- exact: ([a-z-]+)\n", text.split("allowed_headers:\n")[1].split("decoder_header")[0]))
    assert found
    return found


def test_notes_name_the_next_steps(scenario):
    text = notes(scenario)
    for words in WORDS.get(name(scenario), []):
        assert words in text


def test_words_are_for_scenarios_that_exist():
    assert WORDS.keys() <= {name(scenario) for scenario in SCENARIOS}


def test_istio_provider_sends_what_strict_yaml_sends(headers_to_check):
    provider = istio_provider(notes(named("gateway-istio")))
    assert headers_to_check <= set(provider["envoyExtAuthzHttp"]["includeRequestHeadersInCheck"])


def test_envoy_gateway_sends_what_strict_yaml_sends(headers_to_check):
    (policy,) = of_kind(named("gateway-envoy-gateway"), "SecurityPolicy")
    assert headers_to_check <= set(policy["spec"]["extAuth"]["headersToExtAuth"])
