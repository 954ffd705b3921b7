"""`make demo`: from a bare machine to tokens out of a prefill and a decode engine, told step by step."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import click
import yaml
from phasewatt_testbed import binaries
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.paths import REPO, ClusterPaths
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from phasewatt_suite.cluster import Cluster, KubectlError
from phasewatt_suite.install import HelmError, install_operator
from phasewatt_suite.objects import CPU_IMAGE, SIM_IMAGE
from phasewatt_suite.serving import Served, api_client, pod_metrics, total

EXAMPLES = {"cpu": "quickstart.yaml", "sim": "quickstart-sim.yaml"}
IMAGES = {"cpu": CPU_IMAGE, "sim": SIM_IMAGE}
NAMESPACE = "demo"
PROMPTS = (
    "Prefill reads a whole prompt at once and is bound by compute. " * 12,
    "Decode writes one token after the other and is bound by memory. " * 12,
    "Between them the keys and values of every layer have to move. " * 12,
)
BUDGET = """First run on two cores: about 18 minutes, most of it building Kubernetes and the engine environment.
Again with the caches warm: about 3 minutes. With the cluster still up: under 2."""

console = Console(highlight=False)


@dataclass(frozen=True)
class Demo:
    """One demonstration on one cluster."""

    cluster: Cluster
    served: Served

    def wait_ready(self, timeout: float) -> None:
        """Wait for Ready and print each new thing that the object says of itself.

        Raises:
            click.ClickException: not Ready in time; the text is what a user would look at.
        """
        said = ""
        started = time.monotonic()
        while time.monotonic() - started < timeout:
            ready = self.cluster.condition("dinf", self.served.name, NAMESPACE, "Ready") or {}
            if ready.get("status") == "True":
                console.print(f"  [green]Ready[/] after {time.monotonic() - started:.0f} s")
                return
            if (message := ready.get("message", "")) != said:
                said = message
                console.print(f"  [dim]{time.monotonic() - started:4.0f} s[/] {said}")
            time.sleep(1)
        raise click.ClickException(f"not Ready in {timeout:.0f} s\n{self.cluster.story(self.served.name, NAMESPACE)}")

    def ask(self, prompt: str) -> tuple[float, float, int]:
        """Stream one answer to the screen; seconds to the first piece, seconds in all, pieces."""
        console.print(f"\n[bold]>[/] {prompt[:60].strip()}... [dim]({len(prompt.split())} words)[/]")
        started = time.monotonic()
        first = 0.0
        pieces = 0
        for piece in self.served.stream(prompt, 24):
            first = first or time.monotonic() - started
            pieces += 1
            console.print(piece, end="", style="cyan", markup=False)
        console.print()
        return first, time.monotonic() - started, pieces

    def engines(self) -> dict[str, dict[str, Any]]:
        found = self.cluster.get("dinf", self.served.name, NAMESPACE) or {}
        return {e["role"]: {**e, "node": g["node"]} for g in found["status"]["groups"] for e in g["engines"]}

    def evidence(self) -> Table:
        """Which pod prefilled, which decoded, and what their own counters say of the KV cache."""
        table = Table(
            "role", "pod", "node", "GPU (mock)", "prompt tokens computed here", "KV tokens received", "KV MB received"
        )
        for role, engine in self.engines().items():
            text = pod_metrics(self.served.http, NAMESPACE, engine["pod"], 8000)
            source = "vllm:prompt_tokens_by_source_total"
            computed = total(text, source, source="local_compute")
            received = total(text, source, source="external_kv_transfer")
            megabytes = total(text, "vllm:nixl_bytes_transferred_sum") / 1e6
            gpus = ", ".join(gpu[:20] for gpu in engine["gpus"])
            table.add_row(
                role, engine["pod"], engine["node"], gpus, f"{computed:.0f}", f"{received:.0f}", f"{megabytes:.1f}"
            )
        return table


def bring_up(name: str, engine: str) -> Cluster:
    """A cluster with our images and our operator on it."""
    testbed = [sys.executable, "-m", "phasewatt_testbed"]
    subprocess.run([*testbed, "up", "--name", name], check=True)
    subprocess.run([*testbed, "load", "--name", name], check=True)
    cluster = Cluster(ClusterPaths(name).kubeconfig, binaries.ensure("kubectl"))
    console.rule("install the operator: helm upgrade --install phasewatt charts/phasewatt")
    install_operator(cluster, engine_image=IMAGES[engine])
    return cluster


def look_around(cluster: Cluster, name: str, served: Served) -> str:
    return (
        f"export KUBECONFIG={cluster.kubeconfig}\n"
        f"kubectl get dinf -n {NAMESPACE} -o wide        ({cluster.kubectl_path})\n"
        f"kubectl describe dinf {served.name} -n {NAMESPACE}\n"
        f"kubectl get pods,resourceclaims -n {NAMESPACE} -o wide\n"
        f"kubectl scale dinf {served.name} -n {NAMESPACE} --replicas=2\n"
        f"\nstop it:  make testbed-down NAME={name}"
    )


@click.command()
@click.option(
    "--engine",
    type=click.Choice(list(EXAMPLES)),
    default="cpu",
    help="cpu: real vLLM on the CPU. sim: the simulated engine.",
)
@click.option("--name", default="phasewatt", help="Name of the testbed cluster.")
def main(engine: str, name: str) -> None:
    """Show a prefill and a decode engine serving tokens on a real cluster whose only fake is the GPU."""
    started = time.monotonic()
    console.print(Panel(BUDGET, title="Phasewatt demo"))
    try:
        demonstrate(bring_up(name, engine), engine, name)
    except (HelmError, KubectlError, TestbedError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise click.ClickException("the testbed did not come up; what it printed above says why") from error
    console.print(f"\ndone in {time.monotonic() - started:.0f} s")


def demonstrate(cluster: Cluster, engine: str, name: str) -> None:
    example = REPO / "examples" / EXAMPLES[engine]
    manifest = yaml.safe_load(example.read_text())
    console.rule(f"kubectl apply -f examples/{example.name}")
    console.print(example.read_text(), style="dim", markup=False)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(manifest, namespace=NAMESPACE)
    with api_client(cluster) as http:
        served = Served(http, NAMESPACE, manifest["metadata"]["name"], manifest["spec"]["model"]["name"])
        demo = Demo(cluster, served)
        demo.wait_ready(timeout=300)
        console.rule(f"prompts through the Service http://{served.name}.{NAMESPACE}.svc:8000")
        latencies = [demo.ask(prompt) for prompt in PROMPTS]
        cluster.wait_condition(served.name, NAMESPACE, "KVTransferVerified", timeout=60)
        console.rule("what happened")
        console.print(cluster.run("get", "dinf", "-n", NAMESPACE, "-o", "wide"), markup=False)
        console.print(demo.evidence())
        verdict = cluster.condition("dinf", served.name, NAMESPACE, "KVTransferVerified") or {}
        console.print(f"KVTransferVerified: {verdict.get('message')}")
        for first, whole, pieces in latencies:
            console.print(f"first token after {first:.2f} s, {pieces} pieces in {whole:.2f} s")
        if engine == "sim":
            console.print("[yellow]simulated engines: text and timing come from a model, not from a GPU[/]")
        console.print(Panel(look_around(cluster, name, served), title="look around"))


if __name__ == "__main__":
    main()
