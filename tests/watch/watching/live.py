"""A real Prometheus that scrapes a real run as the chart's PodMonitor says, and checks of its rules and dashboards."""
import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from demonstration.processes import RunError
from demonstration.stage import environment, listens

from .alerts import alerts, promtool
from .chart import NAMESPACE

SCRAPES = 1
# Grafana's $__rate_interval. The window is short, because the run is.
WINDOW = "30s"
# Metrics of kube-state-metrics and the kubelet, which do not run here, by the names in their documentation.
OF_THE_CLUSTER = {
    "kube_pod_labels",
    "kube_pod_status_phase",
    "kube_pod_init_container_info",
    "kube_pod_init_container_status_restarts_total",
    "kube_pod_init_container_resource_limits",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_resource_limits",
    "container_memory_working_set_bytes",
}

# Metrics without series until a consumer group reads the stream, which does not happen here. The scenarios `registry` read
# both from /metrics; tests/watch/rules has cases of their alerts.
OF_CONSUMER_GROUPS = {"wechat_authz_events_lag", "wechat_authz_events_lost_total"}

OURS_AND_OTHERS = ("wechat_authz_", "envoy_", "process_", "kube_", "container_")


def snake(words):
    """Relabelings with keys in snake_case, as Prometheus has them. The operator uses camelCase."""
    return {re.sub(r"[A-Z]", lambda one: "_" + one[0].lower(), name): value for name, value in words.items()}


class Prometheus:
    """A Prometheus that scrapes the stage."""

    def __init__(self, stage, rendered, work):
        self.stage, self.port = stage, stage.prometheus
        self.directory = work / "prometheus"
        self.directory.mkdir()
        jobs = []
        for endpoint in rendered.endpoints():
            # In a pod, Envoy's ops listener serves both; here each process has its own port.
            port = stage.admin if endpoint["path"].startswith("/stats") else stage.ops
            target = {"namespace": NAMESPACE, "pod": "blog-1", "container": "wechat-envoy", "endpoint": endpoint["port"]}
            jobs.append({
                "job_name": f"podMonitor/{len(jobs)}",
                "metrics_path": endpoint["path"],
                "scrape_interval": f"{SCRAPES}s",
                "scrape_timeout": f"{SCRAPES}s",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": target}],
                "relabel_configs": [snake(one) for one in endpoint.get("relabelings", [])],
                "metric_relabel_configs": [snake(one) for one in endpoint.get("metricRelabelings", [])],
            })
        (self.directory / "rules.yaml").write_text(yaml.safe_dump({"groups": rendered.rules()}), "utf-8")
        configuration = {
            "global": {"evaluation_interval": f"{SCRAPES}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": jobs,
        }
        self.file = self.directory / "prometheus.yaml"
        self.file.write_text(yaml.safe_dump(configuration), "utf-8")

    def start(self, processes):
        fine, said = promtool("check", "config", self.file)
        if not fine:
            raise RunError(f"Prometheus refuses the monitor's relabelings:\n{said}")
        command = ["prometheus", f"--config.file={self.file}", f"--storage.tsdb.path={self.directory / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        log = self.directory / "prometheus.log"
        process = processes.start("prometheus", command, log=log, environment=environment())
        process.wait_until(lambda: listens(self.port) and self.is_ready(), 30)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def api(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise RunError(f"Prometheus refuses {query}: {refused.read().decode(errors='replace')}") from None

    def series(self, expression):
        """The number of series of a query whose value is a number now."""
        result = self.api("query", query=expression)["result"]
        return sum(1 for one in result if not math.isnan(float(one["value"][1])))

    def names(self):
        return set(self.api("label/__name__/values"))


def metric_names(expression):
    """The metrics in a query: words that are neither labels, functions nor durations."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    text = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    text = re.sub(r"\{[^}]*\}", "", text)
    words = re.findall(r"[a-z_:][a-z0-9_:]*", text)
    return {word for word in words if word == "up" or word.startswith(OURS_AND_OTHERS)}


def lint(stage):
    """promtool's lint of the metrics. It reads the older text format, which has no EOF and no info metrics, and in which a
    counter's family has the name of its series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.ops}/metrics", timeout=10) as answer:
        kind, text = answer.headers["content-type"], answer.read().decode("utf-8")
    if not kind.startswith("application/openmetrics-text; version=1.0.0") or not text.endswith("# EOF\n"):
        raise RunError(f"/metrics is not OpenMetrics: {kind}")
    counters = set(re.findall(r"^# TYPE (\w+) counter$", text, re.M))
    lines = []
    for line in text.removesuffix("# EOF\n").splitlines():
        said = re.match(r"(# (?:HELP|TYPE) )(\w+)( .*)", line)
        if said and said[2] in counters:
            line = f"{said[1]}{said[2]}_total{said[3]}"
        elif line.endswith(" info"):
            line = f"{said[1]}{said[2]}_info gauge"
        elif said and said[2].endswith("_build"):
            line = f"{said[1]}{said[2]}_info{said[3]}"
        lines.append(line)
    fine, said = promtool("check", "metrics", given="\n".join(lines) + "\n")
    if not fine or said.strip():
        raise RunError(f"promtool reports:\n{said}")
    return len(re.findall(r"^# TYPE ", text, re.M))


def check_rules(prometheus, groups, firing):
    """Every rule evaluates, every metric in it exists, and exactly these alerts fire."""
    known = prometheus.names() | OF_THE_CLUSTER | OF_CONSUMER_GROUPS | {"up"}
    for rule in alerts(groups):
        unknown = metric_names(rule["expr"]) - known
        if unknown:
            raise RunError(f"{rule['alert']} queries metrics that do not exist: {', '.join(sorted(unknown))}")
    loaded = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    if {rule["name"] for rule in loaded} != {rule["alert"] for rule in alerts(groups)}:
        raise RunError("Prometheus has not loaded every alert")
    for rule in loaded:
        if rule["health"] != "ok":
            raise RunError(f"{rule['name']} cannot be evaluated: {rule['health']} {rule.get('lastError', '')}")
        if (rule["state"] == "firing") != (rule["name"] in firing):
            raise RunError(f"{rule['name']} is {rule['state']} in a run where {', '.join(firing)} should fire")


def check_gateway_rules(prometheus, groups):
    """Mode gateway has no Envoy sidecar, so no alert may query its metrics."""
    ours = {name for name in prometheus.names() if not name.startswith("envoy_")}
    known = ours | OF_THE_CLUSTER | OF_CONSUMER_GROUPS | {"up"}
    for rule in alerts(groups):
        unknown = metric_names(rule["expr"]) - known
        if unknown:
            raise RunError(f"{rule['alert']} of mode gateway queries metrics that do not exist: {', '.join(sorted(unknown))}")


def filled(expression, values):
    """A query with values for Grafana's variables."""
    for name, value in {"__rate_interval": WINDOW, **values}.items():
        expression = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", lambda _, value=value: value, expression)
    if "$" in expression:
        raise RunError(f"a variable has no value: {expression}")
    return expression


def check_source(file, what, source):
    """The data source must be the one that the user selects."""
    if source != {"type": "prometheus", "uid": "${datasource}"}:
        raise RunError(f"{file}: {what} has a data source of its own: {source}")


def check_dashboard(prometheus, file, dashboard):
    """Every variable has values, and every query of every panel has data."""
    if dashboard.get("uid") != file.removesuffix(".json") or dashboard.get("id") is not None:
        raise RunError(f"{file}: its uid must be its file name, and it must have no id")
    values = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        check_source(file, variable["name"], variable["datasource"])
        asked = re.fullmatch(r"label_values\((.+), *(\w+)\)", filled(variable["query"]["query"], values))
        found = prometheus.api(f"label/{asked[2]}/values", **{"match[]": asked[1]}) if asked else []
        if not found:
            raise RunError(f"{file}: the variable {variable['name']} has no values")
        values[variable["name"]] = variable.get("allValue") or found[0]
    empty = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        if not panel.get("targets"):
            raise RunError(f"{file}: the panel {panel['title']!r} has no query")
        for target in panel["targets"]:
            for source in (panel["datasource"], target["datasource"]):
                check_source(file, panel["title"], source)
            found = prometheus.series(filled(target["expr"], values))
            if not found:
                empty.append(f"{panel['title']}: {target['expr']}")
    if empty:
        raise RunError(f"{file}: these have no data:\n  " + "\n  ".join(empty))


def refused(prometheus, fault, check, *arguments):
    """Fails unless the check does."""
    try:
        check(prometheus, *arguments)
    except RunError:
        return
    raise RunError(f"{fault} is not noticed")


def spoilt(value, old, new):
    """The value with `new` instead of the first `old`."""
    text = json.dumps(value)
    if old not in text:
        raise RunError(f"there is no {old} to replace")
    return json.loads(text.replace(old, new, 1))


def check_faults_in_dashboards_are_noticed(prometheus, boards):
    """check_dashboard fails for each fault."""
    for file, board in boards.items():
        for number, panel in enumerate(board["panels"]):
            for target in range(len(panel.get("targets", []))):
                empty = json.loads(json.dumps(board))
                empty["panels"] = [empty["panels"][number]]
                empty["panels"][0]["targets"][target]["expr"] = "nobody_tells_this{job=~\"$job\"}"
                refused(prometheus, f"the empty panel {panel['title']} of {file}", check_dashboard, file, empty)
        for fault, old, new in (
            ("another data source", "${datasource}", "abc"),
            ("another uid", f'"uid": "{board["uid"]}"', '"uid": "abc"'),
            ("an unknown variable", "$__rate_interval", "$interval"),
            ("a variable without values", "wechat_authz_build_info", "nothing"),
        ):
            refused(prometheus, fault, check_dashboard, file, spoilt(board, old, new))


def check_faults_in_rules_are_noticed(prometheus, groups, firing):
    """check_rules and check_gateway_rules fail for each fault."""
    unknown = spoilt(groups, "wechat_authz_redis_up", "wechat_authz_redis_there")
    refused(prometheus, "an unknown metric", check_rules, unknown, firing)
    refused(prometheus, "an alert that does not fire", check_rules, groups, firing | {"WechatAuthzDown"})
    refused(prometheus, "an alert that fires", check_rules, groups, set())
    refused(prometheus, "an alert that is not loaded", check_rules, spoilt(groups, "WechatAuthzDown", "WechatAuthzGone"), firing)
    refused(prometheus, "a metric of Envoy in mode gateway", check_gateway_rules, groups)


def settle():
    """Waits for the last scrapes, and for Envoy, which merges its histograms every five seconds."""
    time.sleep(2 * SCRAPES + 5)
