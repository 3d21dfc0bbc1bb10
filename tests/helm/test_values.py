"""Invalid values are refused by the schema, which names them."""

import pytest
from chart import HelmError, base, put, template_values

# A path, an invalid value, and a word that the refusal must contain.
WRONG = [
    ("modus", "inject", "modus"),
    ("mode", "webhook", "mode"),
    ("protect.0.port", "HTTP!", "port"),
    ("protect.0.port", 70000, "port"),
    ("protect.0.selector", {}, "selector"),
    ("protect.0.servise", "swap", "servise"),
    ("protect.0.service", "swop", "service"),
    ("protect.0.name", "Blog", "name"),
    ("image.pulPolicy", "Always", "pulPolicy"),
    ("image.digest", "latest", "digest"),
    ("envoy.traces.collector", "http://collector:4318", "collector"),
    ("envoy.traces.percent", 101, "percent"),
    ("config.apps.0.orgin", "https://x.example.com", "orgin"),
    ("config.apps.0.origin", "shop.example.com", "origin"),
    ("config.apps.0.website.appid", "0123", "appid"),
    ("config.apps.0.website.secret_file", "/x/y", "secret_file"),
    ("config.listen", {"check": "127.0.0.1:1"}, "listen"),
    ("config.admin", {"token_file": "/x/y"}, "admin"),
    ("config.keys", {"directory": "/x"}, "directory"),
    ("config.redis", {"url": "rediss://user:secret@host:1"}, "url"),
    ("config.session", {}, "session"),
    ("resources.requests", {"cpu": "a lot"}, "cpu"),
    ("envoy.concurrency", 0, "concurrency"),
    ("envoy.keepHeaders", ["x-wechat-openid"], "keepHeaders"),
    ("envoy.keepHeaders", ["x_auth_client_ip"], "keepHeaders"),
    ("envoy.keepHeaders", ["x-forwarded-for"], "keepHeaders"),
    ("envoy.keepHeaders", ["X-Forwarded-Prefix"], "keepHeaders"),
    ("envoy.maxStreamDuration", "1h", "maxStreamDuration"),
    ("envoy.proxyProtocol", "yes", "proxyProtocol"),
    ("envoy.image.tags", "x", "tags"),
    ("gateway.replicas", 0, "replicas"),
    ("gateway.podDisruptionBudget.maxUnavailable", 0, "maxUnavailable"),
    ("gateway.service.type", "ExternalName", "type"),
    ("gateway.dnsPolicy", "Cluster", "dnsPolicy"),
    ("gateway.dnsConfig", {"nameserver": ["10.0.0.53"]}, "nameserver"),
    ("gateway.hostAliases", [{"ip": "10.0.0.7", "hostname": "a"}], "hostname"),
    ("gateway.revisionHistoryLimit", -1, "revisionHistoryLimit"),
    ("gateway.runtimeClassName", "G Visor", "runtimeClassName"),
    ("metrics.rules.thresholds", {"checkErrorRatio": 2}, "checkErrorRatio"),
    ("networkPolicy.to", [], "to"),
    ("drainSeconds", "10", "drainSeconds"),
    ("wechat.secret", "x", "secret"),
]


@pytest.mark.parametrize(("path", "value", "word"), WRONG, ids=[f"{path}={value}" for path, value, _ in WRONG])
def test_an_invalid_value_is_refused_by_its_name(path, value, word):
    with pytest.raises(HelmError) as error:
        template_values(put(base(), path, value))
    assert word in str(error.value) and "schema" in str(error.value)
