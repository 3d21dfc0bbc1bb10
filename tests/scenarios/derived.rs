//! The Envoy configurations that Istio and Envoy Gateway generate from the chart's objects, as far as they affect the
//! check (docs/en/ext-authz.md, Istio, and docs/en/ext-authz.md, Envoy Gateway).
//!
//! Header lists, time-outs, statuses, routes and removed headers come from the objects that the chart renders for a
//! scenario of its `ci/`. The output follows each control plane: it has that control plane's defaults and omits what
//! the control plane does not expose (several `Cookie` lines are joined by commas, no retry, no rules about the headers
//! that a response may change). An unknown field is an error because its effect is unknown.

use harness::root;
use harness::stack::{Addresses, Plan};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;

pub const ISTIO: &str = "gateway-istio";
pub const ISTIO_IN_BAND: &str = "gateway-istio-in-band";
pub const ENVOY_GATEWAY: &str = "gateway-envoy-gateway";
pub const ENVOY_GATEWAY_IN_BAND: &str = "gateway-envoy-gateway-in-band";

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const EXT_AUTHZ: &str = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const EARLY_MUTATION: &str =
    "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";

/// A stack with the Envoy configuration of this scenario's control plane. The program has the chart's settings for that
/// gateway.
pub fn behind(scenario: &'static str, plan: Plan) -> Plan {
    let gateway = &rendered(scenario)["configuration"]["gateway"];
    assert!(gateway.is_object(), "the chart does not configure the gateway: {}", rendered(scenario)["configuration"]);
    let derived = move |addresses: &Addresses| envoy(scenario, addresses).to_string();
    Plan { more: format!("gateway: {gateway}\n{}", plan.more), derived: Some(Box::new(derived)), ..plan }
}

/// Like [`behind`] with Istio, but in front of the application's own pods, which other pods of the mesh reach. No route
/// leads to the pages.
pub fn inside_the_mesh(plan: Plan) -> Plan {
    let derived = move |addresses: &Addresses| {
        let mut envoy = envoy(ISTIO, addresses);
        let manager =
            envoy.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config").unwrap();
        let routes = manager.pointer_mut("/route_config/virtual_hosts/0/routes").unwrap().as_array_mut().unwrap();
        routes.retain(|route| route["route"]["cluster"] != "pages");
        assert_eq!(routes.len(), 1, "one route, to the application");
        envoy.to_string()
    };
    Plan { derived: Some(Box::new(derived)), ..behind(ISTIO, plan) }
}

/// The output of the chart for a scenario: `objects`, the `provider` that its notes print, our own `configuration`.
pub fn rendered(scenario: &str) -> &'static Value {
    static RENDERED: OnceLock<Value> = OnceLock::new();
    let all = RENDERED.get_or_init(|| {
        let mut show = Command::new(root().join("tests/helm/run"));
        for scenario in [ISTIO, ISTIO_IN_BAND, ENVOY_GATEWAY, ENVOY_GATEWAY_IN_BAND] {
            show.args(["--show", scenario]);
        }
        let output = show.output().unwrap();
        assert!(output.status.success(), "the chart does not render: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    });
    &all[scenario]
}

/// The only object of this kind.
pub fn object<'a>(scenario: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut found = scenario["objects"].as_array().unwrap().iter().filter(|one| one["kind"] == kind);
    let one = found.next();
    assert!(found.next().is_none(), "more than one {kind}");
    one
}

/// Returns the complete configuration of an Envoy.
fn envoy(scenario: &str, addresses: &Addresses) -> Value {
    let scenario = rendered(scenario);
    let manager = if scenario["provider"].is_null() { envoy_gateway(scenario) } else { istio(scenario) };
    let cluster = |name: &str, address, protocol: Value| {
        let endpoint = json!({ "endpoint": { "address": socket(address) } });
        let protocol = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": protocol,
        } });
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "10s", "typed_extension_protocol_options": protocol,
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
        })
    };
    let http_1 = || json!({ "http_protocol_options": {} });
    json!({
        "admin": { "address": socket(addresses.admin) },
        "static_resources": {
            "listeners": [{
                "name": "edge", "address": socket(addresses.edge),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                }] }],
            }],
            "clusters": [
                cluster("app", addresses.app, http_1()),
                cluster("check", addresses.check, check_protocol(scenario)),
                cluster("pages", addresses.pages, http_1()),
            ],
        },
    })
}

fn socket(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// The protocol of the check port according to the Service.
fn check_protocol(scenario: &Value) -> Value {
    let services = scenario["objects"].as_array().unwrap().iter().filter(|one| one["kind"] == "Service");
    let mut ports = services.flat_map(|service| service["spec"]["ports"].as_array().unwrap());
    let port = ports.find(|port| port["name"] == "check").unwrap();
    assert_eq!(port["port"], 9100, "both policies must name this port");
    match text(&port["appProtocol"]) {
        "http" => json!({ "http_protocol_options": {} }),
        "kubernetes.io/h2c" => json!({ "http2_protocol_options": {} }),
        other => panic!("unknown protocol {other}"),
    }
}

/// Istio: `envoyExtAuthzHttp`, an AuthorizationPolicy with action CUSTOM, and the patch of an EnvoyFilter.
fn istio(scenario: &Value) -> Value {
    let provider = Known::of(&scenario["provider"]);
    let name = provider.take("name");
    let http = Known::of(provider.take("envoyExtAuthzHttp"));
    let mut filters = Vec::new();
    let policy = object(scenario, "AuthorizationPolicy").unwrap();
    let spec = Known::of(&policy["spec"]);
    assert!(spec.take("selector").is_object() && spec.take("action") == "CUSTOM");
    assert_eq!(spec.take("provider"), &json!({ "name": name }), "the provider must equal the one in the notes");
    // Istio turns CUSTOM into shadow rules of the RBAC filter. It sends a check if one of them matches.
    let policies: Map<String, Value> = spec
        .take("rules")
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            let permissions = permissions(&Known::of(rule));
            let name = format!("istio-ext-authz-ns[shop]-policy[wechat-authz]-rule[{index}]");
            (name, json!({ "permissions": permissions, "principals": [{ "any": true }] }))
        })
        .collect();
    spec.end();
    filters.push(json!({ "name": "envoy.filters.http.rbac", "typed_config": {
        "@type": RBAC, "shadow_rules": { "action": "DENY", "policies": policies },
        "shadow_rules_stat_prefix": "istio_ext_authz_",
    } }));
    assert_eq!(http.take("port"), 9100);
    let service = text(http.take("service")).to_owned();
    let mut check = json!({
        "@type": EXT_AUTHZ, "transport_api_version": "V3",
        "failure_mode_allow": http.take("failOpen").as_bool().unwrap_or(false),
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{ "key": "istio_ext_authz_shadow_effective_policy_id" }],
            "value": { "string_match": { "prefix": "istio-ext-authz" } },
        },
        "http_service": { "server_uri": {
            "uri": format!("http://{service}"), "cluster": "check",
            "timeout": http.take("timeout").as_str().unwrap_or("600s"),
        } },
    });
    if let Some(status) = http.take("statusOnError").as_str() {
        check["status_on_error"] = json!({ "code": status.parse::<u16>().unwrap() });
    }
    for (field, place) in [
        ("includeRequestHeadersInCheck", "/allowed_headers"),
        ("headersToUpstreamOnAllow", "/http_service/authorization_response/allowed_upstream_headers"),
        ("headersToDownstreamOnDeny", "/http_service/authorization_response/allowed_client_headers"),
        ("headersToDownstreamOnAllow", "/http_service/authorization_response/allowed_client_headers_on_success"),
    ] {
        let names = http.take(field);
        if !names.is_null() {
            let names = texts(names);
            put(&mut check, place, json!({ "patterns": names.iter().map(|name| pattern(name)).collect::<Vec<_>>() }));
        }
    }
    http.end();
    provider.end();
    filters.push(json!({ "name": "envoy.filters.http.ext_authz", "typed_config": check }));
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }));
    // An Istio gateway is an edge. A sidecar in front of the application's pods trusts the headers that it receives.
    let edge = policy["spec"]["selector"]["matchLabels"]["istio"] == "ingressgateway";
    let routes = [pages(scenario), vec![app("/", None)]].concat();
    let mut manager = json!({
        "@type": MANAGER, "stat_prefix": "istio", "server_name": "istio-envoy", "use_remote_address": edge,
        // BASE, the default of Istio: slashes are neither merged nor decoded.
        "normalize_path": true, "merge_slashes": false, "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": routes,
        }] },
    });
    if let Some(filter) = object(scenario, "EnvoyFilter") {
        let spec = Known::of(&filter["spec"]);
        assert_eq!(spec.take("workloadSelector")["labels"], policy["spec"]["selector"]["matchLabels"]);
        let patches = spec.take("configPatches").as_array().unwrap();
        let contexts: Vec<_> = patches.iter().map(|patch| patch["match"]["context"].as_str()).collect();
        // Only inbound traffic: the application's own requests to other services keep their headers.
        assert_eq!(contexts, [Some("GATEWAY"), Some("SIDECAR_INBOUND")]);
        assert_eq!(patches[0]["patch"], patches[1]["patch"]);
        for patch in &patches[..1] {
            assert_eq!(patch["applyTo"], "NETWORK_FILTER");
            assert_eq!(
                patch["match"]["listener"]["filterChain"]["filter"]["name"],
                "envoy.filters.network.http_connection_manager"
            );
            assert_eq!(patch["patch"]["operation"], "MERGE");
            merge(&mut manager, &patch["patch"]["value"]["typed_config"]);
        }
        spec.end();
    }
    manager
}

/// The permissions of a rule in an AuthorizationPolicy: all paths, or all except some.
fn permissions(rule: &Known) -> Vec<Value> {
    let to = rule.take("to");
    rule.end();
    let Some(to) = to.as_array() else { return vec![json!({ "any": true })] };
    to.iter()
        .map(|to| {
            let operation = Known::of(&to["operation"]);
            let paths = texts(operation.take("notPaths"));
            operation.end();
            let paths: Vec<Value> = paths.iter().map(|path| json!({ "url_path": { "path": pattern(path) } })).collect();
            json!({ "and_rules": { "rules": [{ "not_rule": { "or_rules": { "rules": paths } } }] } })
        })
        .collect()
}

/// Envoy Gateway: a SecurityPolicy's `extAuth` for the routes that it names, and a ClientTrafficPolicy.
fn envoy_gateway(scenario: &Value) -> Value {
    let policy = object(scenario, "SecurityPolicy").unwrap();
    let auth = Known::of(&policy["spec"]["extAuth"]);
    let http = Known::of(auth.take("http"));
    let backends = http.take("backendRefs").as_array().unwrap();
    assert_eq!((backends.len(), &backends[0]["port"]), (1, &json!(9100)));
    let exact = |names: &Value| {
        let patterns = texts(names).into_iter().map(|name| json!({ "exact": name, "ignore_case": true }));
        json!({ "patterns": patterns.collect::<Vec<_>>() })
    };
    let filter = "envoy.filters.http.ext_authz/securitypolicy/shop/wechat-authz";
    let check = json!({ "name": filter, "disabled": true, "typed_config": {
        "@type": EXT_AUTHZ, "transport_api_version": "V3",
        "failure_mode_allow": auth.take("failOpen").as_bool().unwrap_or(false),
        "allowed_headers": exact(auth.take("headersToExtAuth")),
        "http_service": {
            "server_uri": {
                "uri": "http://wechat-authz.shop:9100", "cluster": "check",
                "timeout": seconds(auth.take("timeout").as_str().unwrap_or("10s")),
            },
            "authorization_response": { "allowed_upstream_headers": exact(http.take("headersToBackend")) },
        },
    } });
    http.end();
    auth.end();
    let enabled =
        json!({ filter: { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {} } });
    let routes = policy["spec"]["targetRefs"].as_array().unwrap();
    assert!(routes.iter().all(|target| target["kind"] == "HTTPRoute" && target["name"] == "blog"), "{routes:?}");
    // One additional route that the policy does not name: its requests are not checked.
    let routes = [pages(scenario), vec![app("/unchecked", None), app("/", Some(enabled))]].concat();
    let mut manager = json!({
        "@type": MANAGER, "stat_prefix": "http-8080", "use_remote_address": true,
        "normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": { "headers_with_underscores_action": "REJECT_REQUEST" },
        "http_filters": [
            check,
            { "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER, "suppress_envoy_headers": true } },
        ],
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": routes,
        }] },
    });
    if let Some(traffic) = object(scenario, "ClientTrafficPolicy") {
        let spec = Known::of(&traffic["spec"]);
        spec.take("targetRefs");
        let path = Known::of(spec.take("path"));
        manager["merge_slashes"] = json!(!path.take("disableMergeSlashes").as_bool().unwrap());
        manager["path_with_escaped_slashes_action"] = match text(path.take("escapedSlashesAction")) {
            "KeepUnchanged" => "KEEP_UNCHANGED".into(),
            other => panic!("unknown value {other}"),
        };
        path.end();
        let headers = Known::of(spec.take("headers"));
        let underscores = match text(headers.take("withUnderscoresAction")) {
            "Allow" => "ALLOW",
            "RejectRequest" => "REJECT_REQUEST",
            other => panic!("unknown value {other}"),
        };
        manager["common_http_protocol_options"]["headers_with_underscores_action"] = underscores.into();
        let early = Known::of(headers.take("earlyRequestHeaders"));
        let matches = early.take("removeOnMatch").as_array().unwrap().iter().map(|one| {
            assert_eq!(one["type"], "RegularExpression", "{one}");
            json!({ "remove_on_match": { "key_matcher": { "safe_regex": { "regex": one["value"] } } } })
        });
        let removed: Vec<Value> = matches.collect();
        early.end();
        headers.end();
        spec.end();
        manager["early_header_mutation_extensions"] = json!([{
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": { "@type": EARLY_MUTATION, "mutations": removed },
        }]);
    }
    manager
}

/// The route to the application. `enabled` switches on a check filter that is off by default.
fn app(prefix: &str, enabled: Option<Value>) -> Value {
    let mut route = json!({ "match": { "prefix": prefix }, "route": { "cluster": "app" } });
    if let Some(enabled) = enabled {
        route["typed_per_filter_config"] = enabled;
    }
    route
}

/// The chart's own HTTPRoute to the pages; empty if the pages are in-band.
fn pages(scenario: &Value) -> Vec<Value> {
    let Some(route) = object(scenario, "HTTPRoute") else { return Vec::new() };
    let rules = route["spec"]["rules"].as_array().unwrap();
    let of_rule = |rule: &Value| -> Vec<Value> {
        assert_eq!(rule["backendRefs"][0]["port"], 9101, "{rule}");
        let timeout = text(&rule["timeouts"]["request"]).to_owned();
        let of_match = |one: &Value| {
            let value = &one["path"]["value"];
            let matched = match text(&one["path"]["type"]) {
                "PathPrefix" => json!({ "path_separated_prefix": value }),
                "Exact" => json!({ "path": value }),
                other => panic!("unknown path type {other}"),
            };
            json!({ "match": matched, "route": { "cluster": "pages", "timeout": timeout } })
        };
        rule["matches"].as_array().unwrap().iter().map(of_match).collect()
    };
    rules.iter().flat_map(of_rule).collect()
}

/// Converts Istio's `exact`, `prefix*` and `*suffix`.
fn pattern(text: &str) -> Value {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(suffix), None) => json!({ "suffix": suffix }),
        (None, Some(prefix)) => json!({ "prefix": prefix }),
        (None, None) => json!({ "exact": text }),
        (Some(_), Some(_)) => panic!("unknown duration {text}"),
    }
}

/// Converts a duration of the Gateway API to Envoy's format.
fn seconds(text: &str) -> String {
    match text.strip_suffix("ms") {
        Some(milliseconds) => format!("{}s", milliseconds.parse::<f64>().unwrap() / 1_000.0),
        None => text.to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list")).iter().map(|one| text(one).to_owned()).collect()
}

/// Sets the value at a path such as `/a/b`.
fn put(into: &mut Value, place: &str, value: Value) {
    let at = place.split('/').skip(1).fold(into, |at, part| &mut at[part]);
    *at = value;
}

/// Merges like an EnvoyFilter: messages field by field; lists are concatenated.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) => into.extend(patch.iter().cloned()),
        (into, patch) => *into = patch.clone(),
    }
}

/// An object of which every field must be read.
struct Known<'a> {
    fields: HashMap<&'a str, &'a Value>,
    taken: std::cell::RefCell<Vec<&'a str>>,
}

impl<'a> Known<'a> {
    fn of(value: &'a Value) -> Self {
        let fields = value.as_object().unwrap_or_else(|| panic!("{value} is not an object"));
        Self { fields: fields.iter().map(|(name, value)| (name.as_str(), value)).collect(), taken: Vec::new().into() }
    }

    /// Reads the field; null if absent.
    fn take(&self, name: &'a str) -> &'a Value {
        const NOTHING: &Value = &Value::Null;
        self.taken.borrow_mut().push(name);
        self.fields.get(name).copied().unwrap_or(NOTHING)
    }

    fn end(&self) {
        let taken = self.taken.borrow();
        let unknown: Vec<&&str> = self.fields.keys().filter(|name| !taken.contains(name)).collect();
        assert!(unknown.is_empty(), "unknown fields {unknown:?}");
    }
}
