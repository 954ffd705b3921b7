"""How much the operator asks of a cluster: N objects to Ready on a real API server, pods played by kwok.

Real: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the operator, each its own process. Played:
nodes and kubelets (kwok), so no engine runs, and the KV proof has nothing to scrape and is off.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil
import yaml
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.binaries import ensure
from phasewatt_testbed.paths import REPO
from phasewatt_testbed.processes import Server, answers, free_ports
from rich.console import Console
from rich.table import Table

from phasewatt_suite.bench import audit
from phasewatt_suite.cluster import until
from phasewatt_suite.objects import inference

CRDS = REPO / "crds"
NAMESPACE = "bench"
PODS_PER_NODE = 500
COLLECTION = f"/apis/phasewatt.io/v1alpha1/namespaces/{NAMESPACE}/disaggregatedinferences"
REST_SECONDS = 60
PEER = (
    "lws DisaggregatedSet (060ab4d), two roles, 1,000 objects: "
    "32.9 writes per object by its manager, 67 in all, 130 CPU s, 257 MiB, 430 s"
)

console = Console(highlight=False)


@contextmanager
def control_plane(folder: Path) -> Iterator[BareControlPlane]:
    """A control plane that audits writes; client limits are lifted, or Kubernetes' own controllers set the pace."""
    policy = folder / "audit.yaml"
    policy.write_text(yaml.safe_dump(audit.POLICY))
    rates = ["--kube-api-qps=500", "--kube-api-burst=1000"]
    extra = {
        "kube-apiserver": [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={folder / 'audit.log'}",
            "--max-requests-inflight=1000",
            "--max-mutating-requests-inflight=500",
        ],
        "kube-controller-manager": [*rates, "--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20"],
        "kube-scheduler": rates,
    }
    with BareControlPlane(folder, controllers=True, scheduler=True, extra_args=extra) as plane:
        yield plane


@contextmanager
def running(name: str, argv: list[Any], folder: Path, ready_url: str) -> Iterator[Server]:
    server = Server(name, argv, log=folder / f"{name}.log", ready=lambda: answers(ready_url))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def fake_nodes(plane: BareControlPlane, count: int) -> None:
    room = {"cpu": "1000", "memory": "4Ti", "pods": str(PODS_PER_NODE), "ephemeral-storage": "4Ti"}
    plane.apply(
        *(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"kwok-{i}", "annotations": {"kwok.x-k8s.io/node": "fake"}},
                "status": {"capacity": room, "allocatable": room},
            }
            for i in range(count)
        )
    )


def create(plane: BareControlPlane, count: int) -> None:
    def post(number: int) -> None:
        manifest = inference(f"bench-{number:04d}", gpus={"allocation": "None"})
        plane.http.post(COLLECTION, json=manifest).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(post, range(count)))


def ready(plane: BareControlPlane) -> int:
    """Objects whose Ready condition is True."""
    items = plane.http.get(COLLECTION, params={"resourceVersion": "0"}).raise_for_status().json()["items"]
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))
        for item in items
    )


def measure(plane: BareControlPlane, operator: Server, folder: Path, count: int) -> dict[str, float]:
    process = psutil.Process(operator.pid)
    idle = process.cpu_times()
    before = audit.read(folder / "audit.log")
    started = time.monotonic()
    create(plane, count)
    created = time.monotonic() - started
    console.print(f"{count} objects created in {created:.1f} s")
    until(f"{count} objects Ready", lambda: ready(plane) == count, timeout=1800, every=1)
    converged = time.monotonic() - started
    busy = process.cpu_times()
    console.print(f"all Ready after {converged:.1f} s; now {REST_SECONDS} s at rest")
    settled = _quiet(folder)
    writes = settled - before
    time.sleep(REST_SECONDS)  # the measurement itself: what happens while nothing happens
    rest = audit.read(folder / "audit.log") - settled
    report(writes, rest)
    return {
        "objects": count,
        "seconds to all Ready": converged,
        "operator writes per object": writes.by_who["operator"] / count,
        "operator events per object": writes.by_who["operator events"] / count,
        "all writes per object (no events)": sum(n for who, n in writes.by_who.items() if "events" not in who) / count,
        "operator writes at rest": rest.by_who["operator"],
        "operator CPU seconds": (busy.user + busy.system) - (idle.user + idle.system),
        "operator RSS MiB": process.memory_info().rss / 2**20,
    }


def _quiet(folder: Path) -> audit.Writes:
    """The counts once ten seconds brought no write of the operator's: late progress belongs to the start."""
    counts = audit.read(folder / "audit.log")
    while True:
        time.sleep(10)
        later = audit.read(folder / "audit.log")
        if later.by_who["operator"] == counts.by_who["operator"]:
            return later
        counts = later


def report(writes: audit.Writes, rest: audit.Writes) -> None:
    table = Table("writes by", "to Ready", f"in {REST_SECONDS} s at rest")
    for who, number in writes.by_who.most_common():
        table.add_row(who, str(number), str(rest.by_who[who]))
    console.print(table)
    table = Table("operator wrote", "times")
    for what, number in writes.by_operator.most_common():
        table.add_row(what, str(number))
    console.print(table)


@click.command()
@click.option("--objects", default=1000, show_default=True, help="Objects of 1 prefill and 1 decode engine each.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for logs; default: temporary, removed at the end."
)
def main(objects: int, keep: Path | None) -> None:
    """Print time, writes, CPU and memory that N objects cost."""
    folder = keep or Path(tempfile.mkdtemp(prefix="phasewatt-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        figures = bench(folder, objects)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    console.print(table)
    console.print(f"to beat: {PEER}")


def bench(folder: Path, objects: int) -> dict[str, float]:
    kwok_port, operator_port = free_ports(2)
    with control_plane(folder) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CRDS))
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
        kwok = [ensure("kwok"), f"--kubeconfig={plane.kubeconfig}", "--manage-all-nodes=true"]
        kwok += [f"--server-address=127.0.0.1:{kwok_port}", "--node-lease-duration-seconds=200"]
        operator = [sys.executable, "-m", "phasewatt.controllers.main", f"--kubeconfig={plane.kubeconfig}"]
        operator += ["--engine-image=engine:1", "--router-image=router:1", "--scrape-interval=0"]
        operator += [f"--http-port={operator_port}", "--log-level=warning"]
        with running("kwok", kwok, folder, f"http://127.0.0.1:{kwok_port}/healthz"):
            fake_nodes(plane, count=objects * 3 // PODS_PER_NODE + 2)
            with running("operator", operator, folder, f"http://127.0.0.1:{operator_port}/healthz") as server:
                return measure(plane, server, folder, objects)


if __name__ == "__main__":
    main()
