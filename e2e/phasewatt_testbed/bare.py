"""A Kubernetes control plane without nodes: etcd and kube-apiserver as two processes, ready in about 1.5 s.

Enough for all that only the API server decides: schemas, CEL rules, defaulting, server-side apply, RBAC. With
`controllers` the controller manager runs too (garbage collection, Deployments, namespaces), with `scheduler` the
scheduler; pods stay Pending unless something like kwok plays the nodes.

    with BareControlPlane(folder) as plane:
        plane.kubectl("apply", "-f", "crds/")
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType

import httpx
import yaml

from phasewatt_testbed.binaries import ensure
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.processes import START_SECONDS, Server, answers, free_ports, wait_until
from phasewatt_testbed.shell import run

LOOPBACK = "127.0.0.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"
SERVICE_CIDR = "10.96.0.0/16"

ADMIN, ADMIN_GROUP = "admin", "system:masters"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"


class BareControlPlane:
    """etcd and kube-apiserver on free loopback ports, which stay the same over restarts.

    Args:
        folder: takes certificates, credentials, logs and, while it runs, etcd's data. One folder per control plane.
        controllers: also run kube-controller-manager.
        scheduler: also run kube-scheduler.
        extra_args: more arguments by program name, such as `{"kube-apiserver": ["--runtime-config=..."]}`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        controllers: bool = False,
        scheduler: bool = False,
        extra_args: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self._extra = dict(extra_args or {})
        self._tokens = {user: secrets.token_hex(16) for user in (ADMIN, CONTROLLER_MANAGER, SCHEDULER)}
        self._ports = free_ports(5)
        self._clients: list[httpx.Client] = []
        self.etcd = self._etcd()
        self.apiserver = self._apiserver()
        self.controller_manager = self._controller_manager() if controllers else None
        self.scheduler = self._scheduler() if scheduler else None

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"https://{LOOPBACK}:{self._ports[2]}"

    @property
    def token(self) -> str:
        """Bearer token of the administrator."""
        return self._tokens[ADMIN]

    @property
    def ca(self) -> Path:
        """Certificate that the API server signed for itself; it is its own authority."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """Administrator credentials."""
        return self._kubeconfig_of(ADMIN)

    @property
    def logs(self) -> Path:
        """Folder with one log per program."""
        return self.folder / "logs"

    @property
    def servers(self) -> list[Server]:
        """All its programs, in start order."""
        return [s for s in (self.etcd, self.apiserver, self.controller_manager, self.scheduler) if s]

    def start(self) -> None:
        """Start every program and wait until each is ready.

        Raises:
            TestbedError: one of them did not start; those already started are ended again.
        """
        self._write_credentials()
        try:
            for server in self.servers:
                server.start()
                if server is self.apiserver:
                    self._write_kubeconfigs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every program and drop etcd's data; logs and credentials stay."""
        for client in self._clients:
            client.close()
        for server in reversed(self.servers):
            server.stop()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def restart(self) -> None:
        """Restart etcd and the API server on the same ports with the same data; the others keep running."""
        self.apiserver.stop()
        self.etcd.stop()
        self.etcd.start()
        self.apiserver.start()

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator.

        Raises:
            TestbedError: it exited non-zero and `check` is set; with what it printed.
        """
        done = subprocess.run(
            [str(ensure("kubectl")), *args],
            input=stdin,
            # A cache of its own: kubectl keys what it learnt by address, and the port may have been another plane's.
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "kubectl")},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise TestbedError(f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def apply(self, *manifests: Mapping[str, object]) -> None:
        """Apply manifests, server-side.

        Raises:
            TestbedError: the API server refused one of them.
        """
        text = yaml.safe_dump_all([dict(manifest) for manifest in manifests], sort_keys=False)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def install_crds(self, folder: Path) -> None:
        """Apply the CRDs in a folder and wait until the API server serves and explains them.

        Raises:
            TestbedError: the API server refused one, or did not serve it in time.
        """
        self.kubectl("apply", "--server-side", "-f", str(folder))
        found = self.kubectl("get", "-f", str(folder), "-o", "jsonpath={.items[*].metadata.name} {.metadata.name}")
        for name in found.stdout.split():
            # Established comes first, discovery and the OpenAPI document a moment later.
            wait_until(partial(self._explains, name), START_SECONDS, f"the API server does not serve {name}")

    def _explains(self, resource: str) -> bool:
        return self.kubectl("explain", resource, check=False).returncode == 0

    @cached_property
    def http(self) -> httpx.Client:
        """A client of the API server as the administrator, for requests where starting kubectl costs too much."""
        context = ssl.create_default_context(cafile=self.ca)
        headers = {"Authorization": f"Bearer {self.token}"}
        client = httpx.Client(base_url=self.url, headers=headers, verify=context, timeout=30, trust_env=False)
        self._clients.append(client)
        return client

    def __enter__(self) -> BareControlPlane:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _etcd(self) -> Server:
        client, peer = (f"http://{LOOPBACK}:{port}" for port in self._ports[:2])
        arguments = {
            "--name": "default",
            "--data-dir": self.folder / "etcd",
            "--listen-client-urls": client,
            "--advertise-client-urls": client,
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--initial-cluster": f"default={peer}",
            "--unsafe-no-fsync": "true",
        }
        return self._server("etcd", arguments, ready=lambda: answers(f"{client}/health"))

    def _apiserver(self) -> Server:
        arguments = {
            "--etcd-servers": f"http://{LOOPBACK}:{self._ports[0]}",
            "--bind-address": LOOPBACK,
            "--advertise-address": LOOPBACK,
            "--secure-port": self._ports[2],
            "--cert-dir": self.folder / "certs",
            "--service-cluster-ip-range": SERVICE_CIDR,
            "--service-account-issuer": ISSUER,
            "--service-account-key-file": self._account_key,
            "--service-account-signing-key-file": self._account_key,
            "--authorization-mode": "Node,RBAC",
            "--token-auth-file": self.folder / "tokens.csv",
            "--allow-privileged": "true",
            # The `kubernetes` Service would get a loopback endpoint, which validation refuses.
            "--endpoint-reconciler-type": "none",
        }
        headers = {"Authorization": f"Bearer {self.token}"}
        return self._server(
            "kube-apiserver", arguments, ready=lambda: answers(f"{self.url}/readyz", ca=self.ca, headers=headers)
        )

    def _controller_manager(self) -> Server:
        arguments = {
            "--service-account-private-key-file": self._account_key,
            "--root-ca-file": self.ca,
            "--use-service-account-credentials": "true",
        }
        return self._client_server("kube-controller-manager", CONTROLLER_MANAGER, self._ports[3], arguments)

    def _scheduler(self) -> Server:
        return self._client_server("kube-scheduler", SCHEDULER, self._ports[4], {})

    def _client_server(self, name: str, user: str, port: int, arguments: Mapping[str, object]) -> Server:
        certs = self.folder / "certs"
        common = {
            "--kubeconfig": self._kubeconfig_of(user),
            "--leader-elect": "false",
            "--bind-address": LOOPBACK,
            "--secure-port": port,
            "--cert-dir": certs,
        }
        health = f"https://{LOOPBACK}:{port}/healthz"
        return self._server(name, {**common, **arguments}, ready=lambda: answers(health, ca=certs / f"{name}.crt"))

    def _server(self, name: str, arguments: Mapping[str, object], *, ready: Callable[[], bool]) -> Server:
        flags = [f"{flag}={value}" for flag, value in arguments.items()]
        argv: list[str | Path] = [ensure(name), *flags, *self._extra.get(name, ())]
        return Server(name, argv, log=self.logs / f"{name}.log", ready=ready)

    @property
    def _account_key(self) -> Path:
        return self.folder / "service-account.key"

    def _kubeconfig_of(self, user: str) -> Path:
        return self.folder / f"{user.removeprefix('system:')}.kubeconfig"

    def _write_credentials(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if not self._account_key.exists():
            run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self._account_key])
        lines = [f"{token},{user},{user}" for user, token in self._tokens.items()]
        lines[0] += f",{ADMIN_GROUP}"
        _write_private(self.folder / "tokens.csv", "\n".join(lines))

    def _write_kubeconfigs(self) -> None:
        for user, token in self._tokens.items():
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "bare",
                "clusters": [{"name": "bare", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": user, "namespace": "default"}}],
            }
            _write_private(self._kubeconfig_of(user), json.dumps(config))


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
