"""Probes as the kubelet makes them: from the node to the pod's address, or as another process in the container."""
import http.client
import socket
import threading

AGENT = "kube-probe/1.36"


class Probe:
    """A startupProbe, readinessProbe or livenessProbe of a container."""

    def __init__(self, container, spec):
        self.container, self.spec = container, spec
        self.timeout = spec.get("timeoutSeconds", 1)
        self.period = spec.get("periodSeconds", 10)

    def attempt(self):
        """Whether it succeeds, and its output."""
        if "exec" in self.spec:
            code, said = self.container.execute(self.spec["exec"]["command"], self.timeout)
            return code == 0, said
        if "httpGet" in self.spec:
            return self.get(self.spec["httpGet"])
        if "tcpSocket" in self.spec:
            return self.connect(self.spec["tcpSocket"])
        return False, f"this kubelet has no such probe: {self.spec}"

    def address(self, asked):
        return asked.get("host") or self.container.pod.sandbox.address, self.container.port(asked["port"])

    def get(self, asked):
        if asked.get("scheme", "HTTP") != "HTTP":
            return False, f"this kubelet has no scheme {asked['scheme']}"
        host, port = self.address(asked)
        headers = {"user-agent": AGENT, "accept": "*/*", "connection": "close"}
        headers |= {one["name"].lower(): one["value"] for one in asked.get("httpHeaders", [])}
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        try:
            connection.request("GET", asked.get("path", "/"), headers=headers)
            status = connection.getresponse().status
            return 200 <= status < 400, f"status {status} at {asked.get('path', '/')} of port {port}"
        except (OSError, http.client.HTTPException) as error:
            return False, f"port {port}: {error}"
        finally:
            connection.close()

    def connect(self, asked):
        try:
            socket.create_connection(self.address(asked), timeout=self.timeout).close()
            return True, ""
        except OSError as error:
            return False, f"port {asked['port']}: {error}"

    def watch(self, stopping, changed):
        """Probes until `stopping`, and calls `changed(good, output)` after enough equal results in a row."""
        run, last = 0, None
        stopping.wait(self.spec.get("initialDelaySeconds", 0))
        while not stopping.is_set():
            good, said = self.attempt()
            self.container.last_said = said
            run = run + 1 if good == last else 1
            last = good
            needed = self.spec.get("successThreshold", 1) if good else self.spec.get("failureThreshold", 3)
            if run == needed:
                changed(good, said)
            stopping.wait(self.period)


def start(probe, stopping, changed):
    threading.Thread(target=probe.watch, args=(stopping, changed), daemon=True).start()
