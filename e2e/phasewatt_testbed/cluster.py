"""Brings a cluster up, tells how it is, takes it down."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from phasewatt_testbed import images, nodes, orphan, teardown
from phasewatt_testbed.binaries import ensure
from phasewatt_testbed.engine import Engine, detect
from phasewatt_testbed.enginefolder import engine_folder, ensure_engine_environment
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.host import this_host
from phasewatt_testbed.kindconfig import kind_config
from phasewatt_testbed.nodeimage import ensure_node_image
from phasewatt_testbed.nodes import Node, kubectl
from phasewatt_testbed.paths import E2E, ClusterPaths, build_lock
from phasewatt_testbed.progress import say, step

MOCK_GPU_MANIFESTS = E2E / "phasewatt_mockgpu" / "manifests"
_MOCK_GPU_PLUGIN = ("-n", "phasewatt-mockgpu")
NODES_READY_TIMEOUT = 120
"""Seconds; three nodes take about 15 s after kubeadm has finished, on two idle cores."""
GPUS_TIMEOUT = 90
"""Seconds until the mock GPU plugins have published their devices."""


@dataclass(frozen=True)
class Testbed:
    """One named kind cluster on this machine."""

    __test__ = False

    name: str
    workers: int = 2
    gpus: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise TestbedError(f"{self.name!r} cannot name a cluster: up to 32 lower-case letters, digits and dashes")

    @property
    def paths(self) -> ClusterPaths:
        """Where this cluster's files are."""
        return ClusterPaths(self.name)

    def up(self) -> Path:
        """Make the cluster exist and work; returns the path of its kubeconfig. Does nothing to a cluster that works.

        Raises:
            TestbedError: a step failed. What the step left behind is removed.
        """
        engine = detect()
        with self._locked():
            if not self._works(engine):
                self._create(engine)
            if self.gpus:
                self._install_gpus(engine)
        return self.paths.kubeconfig

    def down(self) -> list[str]:
        """Remove the cluster and all that belongs to it; returns what was removed, by name."""
        engine = detect()
        # Ended before the lock is asked for: an orphaned child would otherwise still be adding what is removed here.
        orphan.end_recorded(self.paths.kind_record)
        with self._locked():
            return teardown.remove_cluster(engine, self.name)

    def load(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Build what changed and import into each node what it lacks; returns the imported (node, image) pairs."""
        engine = detect()
        with self._locked(), build_lock():
            containers = teardown.containers(engine, self.name)
            if not containers:
                raise TestbedError(f"there is no cluster {self.name!r}; run `phasewatt-testbed up --name {self.name}`")
            archives = images.ensure_archives(engine, images.select(names))
            names = ", ".join(archive.image.name for archive in archives)
            with step(f"load {names} into {len(containers)} nodes"):
                return nodes.load(engine, containers, archives)

    def nodes(self) -> list[Node]:
        """The nodes as the API server sees them; raises TestbedError when it does not answer."""
        return nodes.list_nodes(self.paths.kubeconfig)

    def export_logs(self, folder: Path) -> None:
        """Write kubelet, containerd and container logs of every node below `folder`."""
        orphan.run_recorded(
            [ensure("kind"), "export", "logs", folder, "--name", self.name],
            record=self.paths.kind_record.with_suffix(".logs"),
            log=self.paths.kind_log,
            env=self._kind_environment(detect()),
        )

    def _locked(self) -> FileLock:
        self.paths.lock.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.paths.lock)

    def _works(self, engine: Engine) -> bool:
        containers = teardown.containers(engine, self.name)
        trouble = self._trouble(engine, containers)
        if not containers or not trouble:
            return bool(containers)
        say(f"[yellow]cluster {self.name}: {trouble}; it is made anew[/]")
        teardown.remove_cluster(engine, self.name)
        return False

    def _trouble(self, engine: Engine, containers: list[str]) -> str:
        """Why an existing cluster cannot be used, or nothing. Asks the nodes themselves, not the engine's listing."""
        if broken := nodes.broken_node(engine, containers):
            return f"containerd or kubelet does not run in {broken}"
        try:
            listed = self.nodes()
        except TestbedError:
            return "its API server does not answer"
        missing = set(containers) - {node.name for node in listed if node.ready}
        return f"not Ready: {', '.join(sorted(missing))}" if missing else ""

    def _create(self, engine: Engine) -> None:
        with ThreadPoolExecutor(max_workers=1) as background:
            # Mostly downloads or hard links, so it runs beside the compilers; nodes see it as soon as it is there.
            environment = background.submit(ensure_engine_environment) if self.gpus else None
            image = ensure_node_image(engine)
            teardown.remove_cluster(engine, self.name)
            try:
                self._kind_create(engine, image)
                if environment:
                    environment.result()
            except BaseException:
                teardown.remove_cluster(engine, self.name)
                raise

    def _kind_create(self, engine: Engine, image: str) -> None:
        self.paths.root.mkdir(parents=True, exist_ok=True)
        config = kind_config(this_host(), self.workers, engine_folder())
        self.paths.kind_config.write_text(yaml.safe_dump(config, sort_keys=False))
        command = [ensure("kind"), "create", "cluster", "--name", self.name, "--image", image]
        command += ["--config", self.paths.kind_config, "--kubeconfig", self.paths.kubeconfig]
        with step(f"kind create cluster {self.name}: 1 control plane, {self.workers} workers", hint="about 30 s"):
            orphan.run_recorded(command, self.paths.kind_record, self.paths.kind_log, self._kind_environment(engine))
            ready = ["wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={NODES_READY_TIMEOUT}s"]
            kubectl(self.paths.kubeconfig, *ready)

    def _kind_environment(self, engine: Engine) -> dict[str, str]:
        network = teardown.network_name(self.name)
        return {**engine.full_environment(), f"KIND_EXPERIMENTAL_{engine.name.upper()}_NETWORK": network}

    def _install_gpus(self, engine: Engine) -> None:
        image = images.IMAGES["mock-gpu"]
        if not image.exists:
            say("[yellow]no images/mock-gpu in this checkout: the nodes get no GPUs[/]")
            return
        with build_lock():
            loaded = nodes.load(engine, teardown.containers(engine, self.name), images.ensure_archives(engine, [image]))
        with step("mock GPUs: node plugin and device class"):
            present = kubectl(self.paths.kubeconfig, *_MOCK_GPU_PLUGIN, "get", "daemonsets", "-o", "name").split()
            kubectl(self.paths.kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", MOCK_GPU_MANIFESTS)
            if loaded and present:
                # The image's tag is the same as before, so nothing else would make the pods take the new one.
                kubectl(self.paths.kubeconfig, *_MOCK_GPU_PLUGIN, "rollout", "restart", *present)
                kubectl(self.paths.kubeconfig, *_MOCK_GPU_PLUGIN, "rollout", "status", *present, "--timeout=120s")
            if waiting := self._wait_for_gpus():
                raise TestbedError(f"no GPU devices on {', '.join(waiting)}; look at the mock-gpu pods on those nodes")

    @retry(
        retry=retry_if_result(bool),
        stop=stop_after_delay(GPUS_TIMEOUT),
        wait=wait_fixed(1),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    def _wait_for_gpus(self) -> list[str]:
        """Names of workers without devices, after waiting for none to be left."""
        return [node.name for node in self.nodes() if not node.control_plane and node.gpus == 0]
