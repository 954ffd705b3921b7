"""How long a deleted child stays away: the operator as a process on a real API server (no nodes, no other controllers).

    make bench-recovery

Prints percentiles of the time from the API server's news of the deletion to its news of the new child, and of the time
from sending the DELETE to the new child. Both are seen by a watcher of the benchmark's own.
"""

from __future__ import annotations

import itertools
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import httpx
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.paths import REPO
from phasewatt_testbed.processes import Server, answers, free_ports, wait_until
from rich.console import Console
from rich.table import Table

CRDS = REPO / "crds"
KINDS = {"Deployment": "/apis/apps/v1", "Service": "/api/v1", "ResourceClaim": "/apis/resource.k8s.io/v1"}
PATIENCE = 60.0
"""Seconds until a child that does not come back ends the benchmark."""

Manifest = dict[str, Any]
News = tuple[float, str, str, str]
"""Moment (seconds), event type, name, uid."""


@click.command()
@click.option("--deletions", type=click.IntRange(10), default=200, show_default=True)
@click.option("--objects", type=click.IntRange(1), default=20, show_default=True)
def main(deletions: int, objects: int) -> None:
    """Delete children one by one and time their return."""
    with tempfile.TemporaryDirectory() as folder, BareControlPlane(Path(folder)) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CRDS))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))
        operator = start_operator(plane, Path(folder))
        try:
            children = make_objects(plane, objects)
            report(measure(plane, children, deletions))
        finally:
            operator.stop()


def start_operator(plane: BareControlPlane, folder: Path) -> Server:
    (port,) = free_ports(1)
    flags = [f"--kubeconfig={plane.kubeconfig}", "--engine-image=e:1", "--router-image=r:1", f"--http-port={port}"]
    argv = [sys.executable, "-m", "phasewatt.controllers.main", *flags]
    ready = f"http://127.0.0.1:{port}/readyz"
    operator = Server("operator", argv, log=folder / "operator.log", ready=lambda: answers(ready))
    operator.start()
    return operator


def make_objects(plane: BareControlPlane, count: int) -> list[tuple[str, str]]:
    """Objects whose GPUs come from claims, and all their children once they are there: kind and name."""
    spec = {"model": {"name": "facebook/opt-125m"}, "gpus": {"allocation": "DRA"}}
    root = {"apiVersion": "phasewatt.io/v1alpha1", "kind": "DisaggregatedInference"}
    names = [f"o{i}" for i in range(count)]
    plane.apply(*({**root, "metadata": {"name": n, "namespace": "default"}, "spec": spec} for n in names))

    def found() -> list[tuple[str, str]]:
        return [(kind, item["metadata"]["name"]) for kind in KINDS for item in listed(plane, kind)["items"]]

    wait_until(lambda: len(found()) == 6 * count, PATIENCE, f"only {len(found())} children of {count} objects")
    return found()


def listed(plane: BareControlPlane, kind: str) -> Manifest:
    answer = plane.http.get(path_of(kind), params={"labelSelector": "app.kubernetes.io/managed-by=phasewatt"})
    return dict(answer.raise_for_status().json())


def path_of(kind: str) -> str:
    return f"{KINDS[kind]}/namespaces/default/{kind.lower()}s"


def measure(
    plane: BareControlPlane, children: list[tuple[str, str]], deletions: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds from the news of the deletion, and from the request, to the return, by kind."""
    inboxes = {kind: watch(plane, kind) for kind in KINDS}
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    # Round robin over the kinds, so that each has its share of the deletions.
    by_kind = [itertools.cycle([c for c in children if c[0] == kind]) for kind in KINDS]
    for source in itertools.islice(itertools.cycle(by_kind), deletions):
        kind, name = next(source)
        asked = time.monotonic()
        plane.http.delete(f"{path_of(kind)}/{name}").raise_for_status()
        gone = await_news(inboxes[kind], "DELETED", name)
        back = await_news(inboxes[kind], "ADDED", name)
        times[kind].append((back - gone, back - asked))
    return times


def watch(plane: BareControlPlane, kind: str) -> queue.Queue[News]:
    """Events of a kind from now on, each with the moment it arrived."""
    inbox: queue.Queue[News] = queue.Queue()
    version = listed(plane, kind)["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": version, "labelSelector": "app.kubernetes.io/managed-by=phasewatt"}

    def read() -> None:
        # The stream breaks when the control plane is stopped, which is the end of the benchmark.
        with (
            suppress(httpx.TransportError),
            plane.http.stream("GET", path_of(kind), params=query, timeout=None) as answer,
        ):
            for line in answer.iter_lines():
                event = json.loads(line)
                metadata = event["object"]["metadata"]
                inbox.put((time.monotonic(), event["type"], metadata["name"], metadata["uid"]))

    threading.Thread(target=read, name=f"watch {kind}", daemon=True).start()
    return inbox


def await_news(inbox: queue.Queue[News], type_: str, name: str) -> float:
    while True:
        moment, kind, subject, _ = inbox.get(timeout=PATIENCE)
        if (kind, subject) == (type_, name):
            return moment


def report(times: dict[str, list[tuple[float, float]]]) -> None:
    table = Table("kind", "deletions", "p50 ms", "p99 ms", "max ms", "p99 from request ms", title="child recovery")
    together = list(itertools.chain.from_iterable(times.values()))
    for kind, pairs in [*times.items(), ("all", together)]:
        after_news, after_request = ([1000 * value for value in column] for column in zip(*pairs, strict=True))
        cells = (statistics.median(after_news), p99(after_news), max(after_news), p99(after_request))
        table.add_row(kind, str(len(pairs)), *(f"{cell:.1f}" for cell in cells))
    Console().print(table)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


if __name__ == "__main__":
    main()
