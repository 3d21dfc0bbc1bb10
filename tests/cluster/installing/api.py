"""A strict client of the API server: every write is validated strictly, every warning is recorded."""

import http.client
import json
import ssl
import time
import urllib.parse

from demonstration.processes import RunError

# The time-out of a request, on a busy machine.
TIMEOUT = 60
JSON, MERGE, APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"


class Answer:
    """A response: the status, the object or its Status, and the warnings."""

    def __init__(self, status, body, warnings):
        self.status, self.body, self.warnings = status, body, warnings

    @property
    def good(self):
        return 200 <= self.status < 300

    @property
    def message(self):
        return "" if self.good else f"{self.status} {self.body.get('message', self.body)}"


class Api:
    """A client of a server, with a token."""

    def __init__(self, port, ca, token):
        self.port, self.token = port, token
        self.tls = ssl.create_default_context(cafile=ca)
        self.kinds = {}

    def ask(self, method, path, body=None, content=JSON, **query):
        """Sends a request. `query` becomes the query string."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        deadline = time.monotonic() + TIMEOUT
        while True:
            answer, later = self._once(method, path, body, content)
            # The server does not serve a new kind at once, and sends Retry-After.
            if answer.status != 429 or later is None or time.monotonic() + later > deadline:
                return answer
            time.sleep(later)

    def _once(self, method, path, body, content):
        """The response, and the seconds of Retry-After."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=self.tls)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Accept": JSON}
            if body is not None:
                headers["Content-Type"] = content
                body = json.dumps(body)
            connection.request(method, path, body, headers)
            got = connection.getresponse()
            text = got.read().decode()
            warnings = got.headers.get_all("Warning") or []
            said = json.loads(text) if got.headers.get_content_type() == JSON else {"message": text}
            later = got.headers.get("Retry-After")
            return Answer(got.status, said, warnings), float(later) if later and later.isdigit() else None
        except (OSError, http.client.HTTPException) as error:
            raise RunError(f"{method} {path}: {error}") from None
        finally:
            connection.close()

    def lists(self):
        """Every kind that can be listed: (apiVersion, kind) → (path, whether it is namespaced)."""
        versions = [("/api/v1", "v1")]
        for group in self._must("/apis")["groups"]:
            versions += [(f"/apis/{version['groupVersion']}", version["groupVersion"]) for version in group["versions"]]
        found = {}
        for path, version in versions:
            for one in self._must(path)["resources"]:
                if "list" in one["verbs"] and "/" not in one["name"]:
                    found[version, one["kind"]] = (path, one["name"], one["namespaced"])
        self.kinds = found
        return found

    def _must(self, path):
        answer = self.ask("GET", path)
        if not answer.good:
            raise RunError(f"GET {path}: {answer.message}")
        return answer.body

    def path(self, version, kind, namespace="", name="", part=""):
        if (version, kind) not in self.kinds:
            self.lists()
        if (version, kind) not in self.kinds:
            raise RunError(f"the server has no {version} {kind}")
        place, plural, namespaced = self.kinds[version, kind]
        path = f"{place}/namespaces/{namespace}/{plural}" if namespaced and namespace else f"{place}/{plural}"
        return path + (f"/{name}" if name else "") + (f"/{part}" if part else "")

    def _of(self, one, named=True):
        data = one["metadata"]
        return self.path(one["apiVersion"], one["kind"], data.get("namespace", ""), data["name"] if named else "")

    def create(self, one, dry=False):
        return self.ask(
            "POST", self._of(one, named=False), one, fieldValidation="Strict", **({"dryRun": "All"} if dry else {})
        )

    def replace(self, one, dry=False):
        return self.ask("PUT", self._of(one), one, fieldValidation="Strict", **({"dryRun": "All"} if dry else {}))

    def apply(self, one, dry=False):
        query = {"dryRun": "All"} if dry else {}
        return self.ask(
            "PATCH", self._of(one), one, APPLY, fieldManager="tests", fieldValidation="Strict", force="true", **query
        )

    def merge(self, one, change, part=""):
        data = one["metadata"]
        path = self.path(one["apiVersion"], one["kind"], data.get("namespace", ""), data["name"], part)
        return self.ask("PATCH", path, change, MERGE, fieldValidation="Strict")

    def delete(self, one):
        """Deletes at once, because no kubelet terminates pods here."""
        return self.ask("DELETE", self._of(one), {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    def get(self, version, kind, namespace, name):
        return self.ask("GET", self.path(version, kind, namespace, name))

    def all(self, version, kind, namespace="", **query):
        """Every object of a kind, with its kind, which lists omit."""
        found = self._must(self.path(version, kind, namespace) + ("?" + urllib.parse.urlencode(query) if query else ""))
        return [{"apiVersion": version, "kind": kind, **one} for one in found["items"]]

    def make(self, version, kind, name, namespace=None, **rest):
        """Creates an object that the test needs; returns it as the server stores it."""
        data = {"name": name, **({"namespace": namespace} if namespace else {})}
        return self.must(self.create({"apiVersion": version, "kind": kind, "metadata": data, **rest}))

    def must(self, answer):
        """The object of a response that must succeed."""
        if not answer.good:
            raise RunError(f"the server refuses an object that the test needs: {answer.message}")
        return answer.body


def until(what, is_so, seconds=30):
    """Waits for a condition. Returns the duration, or fails with the last result."""
    begun, last = time.monotonic(), None
    while time.monotonic() - begun < seconds:
        last = is_so()
        if last is True:
            return time.monotonic() - begun
        time.sleep(0.1)
    raise RunError(f"{what}: not within {seconds} s; at the end: {last}")
