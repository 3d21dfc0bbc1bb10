"""Checks of a pod, while it runs and when it ends."""
import http.client
import pathlib
import time

from demonstration.processes import RunError

from .probes import Probe

OPS = 15090
# The sidecars' ports at the pod's address. Everything else of the sidecars is on loopback or a socket.
HIDDEN = (9100, 9101, 9102, 9103, 9901)
OURS = ("wechat-authz", "wechat-envoy")


def expect(condition, text):
    if not condition:
        raise RunError(text)


def asked(address, port, method, path, host="pod", timeout=5):
    """The status and the body of a response."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request(method, path, headers={"host": host, "connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def start(pod):
    """Both sidecars started in order, at the first attempt, without errors."""
    expect(tuple(one.name for one in pod.sidecars) == OURS, f"{pod.name}: other sidecars")
    expect(not pod.events, f"{pod.name}: {pod.events}")
    expect(all(one.restarts == 0 for one in pod.everyone), f"{pod.name}: a container was started again")
    for line in pod.container("wechat-authz").said().splitlines():
        expect('"level":"WARN"' not in line, f"{pod.name}: a new pod has something to complain of: {line}")


def probes(pod):
    """Runs each probe of the manifest once more."""
    for container in pod.everyone:
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in container.spec:
                good, said = Probe(container, container.spec[name]).attempt()
                expect(good, f"{pod.name}: the {name} of {container.name}: {said}")


def admin_listener(pod, subject):
    """The admin listener works with `kubectl exec`, as the values describe."""
    command = ["wechat-authz", "sessions", "list", "--subject", subject]
    command += ["--config", "/etc/wechat-authz/wechat-authz.yaml"]
    code, said = pod.container("wechat-authz").execute(command, 5)
    expect(code == 0 and "official_account" in said, f"{pod.name}: the admin listener by exec: {code} {said}")


def ops_listener(pod):
    """The ops listener serves exactly three paths at the pod's address, and no other listener is reachable there."""
    address = pod.sandbox.address
    ours, envoys = "wechat_authz_checks_total", "envoy_server_live"
    for path, holds in (("/ready", "LIVE"), ("/metrics", ours), ("/stats/prometheus", envoys)):
        status, text = asked(address, OPS, "GET", path)
        expect(status == 200 and holds in text, f"{pod.name}: {path} of the ops listener: {status} {text[:200]}")
    for word in ("POST /ready", "GET /", "GET /healthz", "POST /drain_listeners?graceful", "GET /config_dump"):
        method, path = word.split()
        status, _ = asked(address, OPS, method, path)
        expect(status == 404, f"{pod.name}: {method} {path} of the ops listener: {status}")
    for port in HIDDEN:
        try:
            asked(address, port, "GET", "/", timeout=1)
        except OSError:
            continue
        raise RunError(f"{pod.name}: the port {port} can be reached at the pod's address")


def rights(pod):
    """The sidecars run with their restrictions, cannot read the application's API token, and no other container can use the
    check's socket."""
    for name in OURS:
        container = pod.container(name)
        with open(f"/proc/{container.pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        expect(status["Uid"].split() == ["65532"] * 4, f"{pod.name}: {name} runs as {status['Uid']}")
        for what in ("CapEff", "CapPrm", "CapBnd"):
            expect(int(status[what], 16) == 0, f"{pod.name}: {name} has {what} {status[what]}")
        expect(status["NoNewPrivs"] == "1", f"{pod.name}: {name} may get new privileges")
        inside = pathlib.Path(f"/proc/{container.pid}/root")
        token = inside / "var/run/secrets/kubernetes.io/serviceaccount"
        expect(token.is_dir() and not list(token.iterdir()), f"{pod.name}: {name} sees a token")
    socket = pathlib.Path(f"/proc/{pod.container('wechat-envoy').pid}/root/run/wechat-authz/check.sock")
    expect(socket.is_socket() and socket.stat().st_mode & 0o777 == 0o600, f"{pod.name}: the check's socket")
    web = pathlib.Path(f"/proc/{pod.container('web').pid}/root/run/wechat-authz")
    expect(not web.exists(), f"{pod.name}: the application sees the check's socket")


def load(name, load, before):
    """No request failed, before and while the pod ended, and there were enough requests."""
    expect(not load.failures, f"{name}: {len(load.failures)} requests failed, such as {load.failures[:3]}")
    expect(before > 100, f"{name}: only {before} requests before the end: that is no load")
    expect(load.answered - before > 20, f"{name}: only {load.answered - before} requests while it ended")
    expect(load.closed >= 8, f"{name}: only {load.closed} connections were closed politely")


def order(pod, happened):
    """Hooks ran first, then the application, Envoy and wechat-authz ended, in this order and without being killed."""
    at = {(name, what.partition(":")[0]): when for when, name, what in happened}
    text = "; ".join(f"{when} s {name} {what}" for when, name, what in happened)
    for name in (*OURS, "web"):
        expect(at.get((name, "preStop begins"), 9) < 0.5, f"{pod.name}: the hook of {name} did not begin at once: {text}")
        expect((name, "SIGKILL") not in at, f"{pod.name}: {name} had to be killed: {text}")
        expect((name, "ended with 0") in at, f"{pod.name}: {name} did not end well: {text}")
    expect(("wechat-authz", "preStop ends with 0") in at, f"{pod.name}: the drain failed: {text}")
    envoy = pod.container("wechat-envoy").spec["args"]
    drain = int(envoy[envoy.index("--drain-time-s") + 1])
    # An idle connection may be used again until then.
    early = at["wechat-envoy", "SIGTERM"] < drain - 0.1
    expect(not early, f"{pod.name}: Envoy was ended before its drain of {drain} s: {text}")
    times = [at[name, what] for name in ("web", *reversed(OURS)) for what in ("SIGTERM", "ended with 0")]
    expect(times == sorted(times), f"{pod.name}: not in Kubernetes' order: {text}")


def lacking(pod, code, words):
    """The pod waits with one line that names the reason: the kubelet's if `code` is None, otherwise the container's last line.
    Returns the line."""
    ours, deadline = pod.container("wechat-authz"), time.monotonic() + 30
    # Repeats it, to check that the event is not duplicated.
    while not (pod.events and (code is None or ours.restarts >= 2)) and time.monotonic() < deadline:
        time.sleep(0.05)
    expect(len(pod.events) == 1, f"{pod.name}: not one event but {pod.events}")
    expect(not pod.is_ready() and not pod.faults, f"{pod.name}: ready, or worse: {pod.faults}")
    expect(pod.container("wechat-envoy").shim is None, f"{pod.name}: Envoy was started without us")
    expect(pod.container("web").shim is None, f"{pod.name}: the application was started without us")
    (told,) = pod.events
    for word in words:
        expect(word in told, f"{pod.name}: {told!r} does not say {word!r}")
    if code is None:
        expect(ours.shim is None, f"{pod.name}: our container was started")
    else:
        how, _, line = told.partition(": ")
        expect(how == f"wechat-authz ended with {code}", f"{pod.name}: {told}")
        expect(line and len(line.splitlines()) == 1, f"{pod.name}: not one line: {line!r}")
    return told


def logs(node, people):
    """No container's log contains an AppSecret, the admin token or a session."""
    files = [files for (kind, name), files in node.objects.items() if kind == "secret" and name != "wechat-keys"]
    known = [content.strip() for one in files for content in one.values()]
    known += [person.cookie.partition("=")[2].encode() for person in people]
    found = list(node.directory.glob("*/*.log"))
    expect(len(found) >= 3 and len(known) > 3, "there is nothing to search")
    for log in found:
        text = log.read_bytes()
        for secret in known:
            expect(secret not in text, f"a secret or a token stands in {log}")
