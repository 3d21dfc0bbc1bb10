"""What mode gateway renders for Envoy Gateway, and for the routes to the pages."""

from chart import CHART, base, of_kind, objects, put_all, template_values

ENVOY_GATEWAY = {"gateway.envoyGateway": {"enabled": True, "httpRoutes": ["blog"], "gatewayName": "public"}}


def paths(changes):
    """How the ClientTrafficPolicy treats paths."""
    text = template_values(put_all(base("gateway"), changes))
    (policy,) = [one for one in objects(text) if one["kind"] == "ClientTrafficPolicy"]
    return policy["spec"]["path"]


def test_envoy_gateway_leaves_paths_unchanged():
    assert paths(ENVOY_GATEWAY) == {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": True}


def test_envoy_gateway_merges_slashes_if_told_to():
    merged = {**ENVOY_GATEWAY, "gateway.envoyGateway.mergeSlashes": True}
    assert paths(merged) == {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": False}


def test_each_domain_proof_has_a_route_by_its_file_name():
    expected = {"/MP_verify_AbCdEfGh12345678.txt", "/6ynZPDvfTF.txt"}
    (route,) = of_kind(CHART / "ci" / "gateway-envoy-gateway-values.yaml", "HTTPRoute")
    exact = {match["path"]["value"] for match in route["spec"]["rules"][0]["matches"] if match["path"]["type"] == "Exact"}
    assert exact == expected
    (ingress,) = of_kind(CHART / "ci" / "gateway-plain-values.yaml", "Ingress")
    exact = {path["path"] for path in ingress["spec"]["rules"][0]["http"]["paths"] if path["pathType"] == "Exact"}
    assert exact == expected
    (policy,) = of_kind(CHART / "ci" / "gateway-istio-values.yaml", "AuthorizationPolicy")
    assert expected <= set(policy["spec"]["rules"][0]["to"][0]["operation"]["notPaths"])
