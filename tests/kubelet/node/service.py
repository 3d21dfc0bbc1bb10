"""A Service and its clients, which balance requests themselves, as an Ingress controller does."""
import http.client
import json
import random
import threading
import time

from endpoints import leads_to

# The time until all clients know that a pod terminates.
NOTICED = 1.0


class Service:
    """A Service: it selects pods and one of their ports."""

    def __init__(self, node, manifest):
        self.node, self.name = node, manifest["metadata"]["name"]
        self.selector = manifest["spec"]["selector"]
        self.target = manifest["spec"]["ports"][0]["targetPort"]

    def endpoints(self):
        """The addresses of ready pods, and of pods whose termination is not yet known."""
        found = []
        for pod in self.node.pods:
            if not self.selector.items() <= pod.metadata["labels"].items():
                continue
            ending = pod.terminating_since
            if (ending is None and pod.is_ready()) or (ending is not None and time.monotonic() < ending + NOTICED):
                port = leads_to(pod.spec, self.target)
                if port is not None:
                    found.append((pod.sandbox.address, port))
        return found

    def choose(self):
        """One of the addresses."""
        return random.choice(self.endpoints())


class Load:
    """Clients with keep-alive connections that repeat requests as one user."""

    PAUSE = 0.01

    def __init__(self, service, host, cookie, subject, clients=8):
        self.service, self.host, self.cookie, self.subject = service, host, cookie, subject
        self.answered, self.closed, self.failures = 0, 0, []
        self.counting, self.stopping = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.keep_asking, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, connection, path):
        """Sends one request. Returns the error, if any, and whether the connection stays open."""
        headers = {"host": self.host, "accept": "application/json", "cookie": self.cookie}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        wrong = f"{response.status} {text[:200]}" if response.status != 200 else None
        if not wrong:
            seen = [value for name, value in json.loads(text)["headers"] if name == "x-wechat-subject"]
            wrong = None if seen == [self.subject] else f"the application saw {seen} instead of {self.subject}"
        return wrong, response.getheader("connection", "").lower() != "close"

    def open(self):
        connection = http.client.HTTPConnection(*self.service.choose(), timeout=15)
        connection.connect()
        # Otherwise http.client opens another connection silently.
        connection.auto_open = 0
        return connection

    def keep_asking(self):
        connection = None
        while not self.stopping.is_set():
            if not self.service.endpoints() and connection is None:
                # A Service without pods receives no requests.
                return
            goes_on = False
            try:
                connection = connection or self.open()
                wrong, goes_on = self.ask(connection, "/api/orders")
            except IndexError:
                return
            except (OSError, http.client.HTTPException, ValueError) as error:
                wrong = f"{type(error).__name__}: {error}"
            with self.counting:
                self.answered += wrong is None
                self.closed += wrong is None and not goes_on
                if wrong:
                    self.failures.append(wrong)
            if not goes_on:
                if connection:
                    connection.close()
                connection = None
            self.stopping.wait(self.PAUSE)
        if connection:
            connection.close()

    def one(self, path):
        """Sends a single counted request on its own connection."""
        connection = None
        try:
            connection = self.open()
            wrong, _ = self.ask(connection, path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
        finally:
            if connection:
                connection.close()
        with self.counting:
            self.answered += wrong is None
            if wrong:
                self.failures.append(f"{path}: {wrong}")

    def beside(self, path):
        thread = threading.Thread(target=self.one, args=(path,), daemon=True)
        thread.start()
        self.threads.append(thread)

    def end(self):
        self.stopping.set()
        self.wait()

    def wait(self):
        """Waits for all clients."""
        for thread in self.threads:
            thread.join(30)
