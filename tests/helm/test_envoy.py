"""Envoy accepts its configuration together with the arguments that each policy sets."""

import subprocess

import pytest
from chart import ROOT, name, of_kind
from containers import injected, policies

FILE = "/etc/wechat-envoy/envoy.yaml"
ENTRIES = [
    pytest.param(scenario, policy, id=f"{name(scenario)}-{policy['metadata']['name'].removeprefix('shop-wechat-authz-')}")
    for scenario, policy in policies()
]
each_entry = pytest.mark.parametrize(("scenario", "policy"), ENTRIES)


def entry(policy):
    """The name of the application in `protect`."""
    return policy["metadata"]["name"].removeprefix("shop-wechat-authz-")


def envoy_yaml(scenario, policy):
    of_entry = [one for one in of_kind(scenario, "ConfigMap") if one["metadata"]["name"] == f"wechat-authz-{entry(policy)}"]
    (text,) = [one["data"]["envoy.yaml"] for one in of_entry]
    return text


def arguments(policy):
    (envoy,) = [one for one in injected(policy)["initContainers"] if one["name"] == "wechat-envoy"]
    return envoy["args"]


@pytest.fixture(scope="session")
def envoy():
    return subprocess.run([ROOT / "envoy" / "get"], capture_output=True, text=True, check=True).stdout.strip()


@each_entry
def test_switches_change_their_lines(scenario, policy):
    text = envoy_yaml(scenario, policy)
    assert "#<" not in text and "#</" not in text, "a mark of helm/make is left"
    assert "${" not in text, "a placeholder is left"
    # inject-ways sets every switch, the other scenarios none.
    switched = name(scenario) == "inject-ways"
    proofs = "(?:6ynZPDvfTF[.]txt|MP_verify_AbCdEfGh12345678[.]txt)" if switched else "(?:MP|WW)_verify_[A-Za-z0-9]{16}[.]txt"
    for line, expected in [
        (f'safe_regex: {{ regex: "^/{proofs}$" }}', True),
        ("filters.listener.proxy_protocol", switched),
        ('key: remote-user, value: "%REQ(kept-header-1)%"', switched),
        ("kept-header-0", switched),
        ("merge_slashes: true", switched),
        ("max_stream_duration: 900s", switched),
        ("max_stream_duration: 3600s", not switched),
    ]:
        assert (line in text) == expected, line


@each_entry
def test_h2c_to_the_application_is_as_protect_says(scenario, policy):
    assert ("http2_protocol_options" in " ".join(arguments(policy))) == (entry(policy) == "named")


@each_entry
def test_envoy_starts_only_with_the_cluster_of_the_application(scenario, policy, envoy, tmp_path):
    (tmp_path / "envoy.yaml").write_text(envoy_yaml(scenario, policy), encoding="utf-8")
    words = [str(tmp_path / "envoy.yaml") if word == FILE else word for word in arguments(policy)]

    def validate(words):
        command = [envoy, "--mode", "validate", "--base-id", "0", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert FILE in arguments(policy)
    done = validate(words)
    assert done.returncode == 0, done.stderr[-2000:]
    at = words.index("--config-yaml")
    assert validate(words[:at] + words[at + 2 :]).returncode != 0
