"""A real cluster without nodes: etcd, kube-apiserver and the controllers, on loopback."""

import json
import os
import socket
import subprocess

from demonstration.processes import RunError
from demonstration.stage import free_ports, taking_turns

from .api import Api, until
from .programs import PLACE

# The controllers of workloads, ServiceAccounts, EndpointSlices, garbage collection, aggregated roles and the type checks of
# validating policies. Not those of nodes, because there are no nodes.
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "endpointslice-controller",
    "serviceaccount-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
)
# The first start reads the programs from a cold disk, perhaps on a busy machine.
START = 180


def flags(**given):
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


class Etcd:
    def __init__(self, processes, work):
        with taking_turns():
            self._start(processes, work)

    def _start(self, processes, work):
        self.port, peers = free_ports(2)
        here, there = (f"http://127.0.0.1:{port}" for port in (self.port, peers))
        command = flags(
            data_dir=work / "etcd",
            listen_client_urls=here,
            advertise_client_urls=here,
            listen_peer_urls=there,
            initial_advertise_peer_urls=there,
            initial_cluster=f"default={there}",
            unsafe_no_fsync="true",
            log_level="warn",
        )
        process = processes.start("etcd", [PLACE / "etcd", *command], log=work / "etcd.log")
        process.wait_until(lambda: _listens(self.port), START)


class Server:
    """An API server with users that have tokens."""

    USERS = {"admin": "system:masters", "controllers": "system:masters", "team": "teams"}

    def __init__(self, processes, work, etcd, name, **more):
        self.name, self.work = name, work / name
        self.work.mkdir()
        key, tokens = self.work / "accounts.key", self.work / "tokens.csv"
        command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        self.tokens = {user: os.urandom(24).hex() for user in self.USERS}
        lines = [f"{self.tokens[user]},{user},{user},{group}\n" for user, group in self.USERS.items()]
        tokens.write_text("".join(lines), encoding="utf-8")
        tokens.chmod(0o600)
        with taking_turns():
            self._start(processes, work, etcd, key, tokens, more)
        self.api = self.client("admin")

    def _start(self, processes, work, etcd, key, tokens, more):
        (self.port,) = free_ports(1)
        command = flags(
            etcd_servers=f"http://127.0.0.1:{etcd.port}",
            etcd_prefix=f"/{self.name}",
            bind_address="127.0.0.1",
            secure_port=self.port,
            cert_dir=self.work,
            # An unused address, for the server's own Service.
            advertise_address="192.0.2.1",
            endpoint_reconciler_type="none",
            token_auth_file=tokens,
            authorization_mode="RBAC",
            # As installers set it; otherwise the server refuses pods that the guard must judge.
            allow_privileged="true",
            service_account_issuer="https://cluster.test",
            service_account_key_file=key,
            service_account_signing_key_file=key,
            service_cluster_ip_range="10.96.0.0/16",
            **more,
        )
        process = processes.start(self.name, [PLACE / "kube-apiserver", *command], log=work / f"{self.name}.log")
        self.ca = self.work / "apiserver.crt"
        process.wait_until(self._is_ready, START)

    def _is_ready(self):
        if not self.ca.is_file() or not _listens(self.port):
            return False
        try:
            return self.client("admin").ask("GET", "/readyz").good
        except RunError:
            # It listens before it can answer.
            return False

    def client(self, user):
        return Api(self.port, self.ca, self.tokens[user])

    def version(self):
        return self.api.ask("GET", "/version").body["gitVersion"]

    def kubeconfig(self, user):
        """Writes a kubeconfig; returns its path. JSON is valid YAML."""
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.ca)}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "current-context": "here",
        }
        path = self.work / f"{user}.kubeconfig"
        path.write_text(json.dumps(text), encoding="utf-8")
        path.chmod(0o600)
        return path

    def controllers(self, processes, work):
        """Starts the controllers and waits for the first ServiceAccount."""
        command = flags(
            kubeconfig=self.kubeconfig("controllers"),
            leader_elect="false",
            controllers=",".join(CONTROLLERS),
            bind_address="127.0.0.1",
            secure_port=0,
            cert_dir=self.work,
        )
        program = PLACE / "kube-controller-manager"
        process = processes.start("controllers", [program, *command], log=work / "controllers.log")
        process.wait_until(lambda: self.api.get("v1", "ServiceAccount", "default", "default").good, START)

    def namespace(self, name, labels=None):
        """Creates a namespace, unless it exists, and waits for its ServiceAccount, which pods need."""
        if self.api.get("v1", "Namespace", "", name).good:
            return
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}
        self.api.must(self.api.create(made))
        self.api.make("v1", "ServiceAccount", "web", name)
        until(f"the namespace {name}", lambda: self.api.get("v1", "ServiceAccount", name, "default").good)


def _listens(port):
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0
