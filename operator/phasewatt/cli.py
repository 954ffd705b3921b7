"""The command line, `phasewatt` or `kubectl phasewatt`: what the operator would do, without doing it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from phasewatt.controllers.inventory import SliceMemory
from phasewatt.controllers.preview import Preview, UnusableError, preview, read_objects
from phasewatt.kube.auth import load_configuration
from phasewatt.kube.client import KubeClient
from phasewatt.kube.errors import ApiError
from phasewatt.kube.port import CLAIM, DEPLOYMENT, OBJECT, SLICE, Api, Manifest
from phasewatt.plan import names
from phasewatt.plan.types import Inventory, Observed, Ref, Settings

ENGINE_IMAGE = "vllm/vllm-openai:v0.32.0"
ROUTER_IMAGE = "ghcr.io/phasewatt/router"
ASSUMED = {"dra": Inventory(dra=True), "device-plugin": Inventory()}


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line about every object of a file."""

    settings: Settings
    assumed: Inventory
    before: dict[tuple[str, str], Manifest]
    cluster: bool
    kubeconfig: str | None
    context: str | None


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="phasewatt")
def main() -> None:
    """Disaggregated LLM inference on Kubernetes."""


@main.command()
@click.argument("file", type=click.File())
@click.option("-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", help="Form of the answer.")
@click.option("--from", "old", type=click.File(), help="The same objects as they are now: prints the steps from there.")
@click.option("--assume", type=click.Choice(sorted(ASSUMED)), default="dra", help="How a cluster allocates GPUs.")
@click.option("--cluster", is_flag=True, help="Ask the cluster for its GPUs and for what runs now. Writes nothing.")
@click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Default: $KUBECONFIG or ~/.kube/config.")
@click.option("--context", help="Context of the kubeconfig. Default: its current one.")
@click.option("-n", "--namespace", help="Namespace of objects that name none.")
@click.option("--engine-image", default=ENGINE_IMAGE, help="The operator's default image of engines.")
@click.option("--router-image", default=ROUTER_IMAGE, help="The operator's default image of routers.")
def plan(  # noqa: PLR0913 (one parameter per option)
    file: TextIO,
    output: str,
    old: TextIO | None,
    assume: str,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    engine_image: str,
    router_image: str,
) -> None:
    """Print what the operator would make of the objects in FILE (`-`: standard input), why, and in which steps."""
    try:
        objects = read_objects(file.read(), namespace)
        before = {_key(obj): obj for obj in read_objects(old.read(), namespace)} if old else {}
        settings = Settings(engine_image, router_image)
        question = Question(settings, ASSUMED[assume], before, cluster, kubeconfig, context)
        previews = asyncio.run(_answer(objects, question))
    except UnusableError as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    except ApiError as error:
        raise click.ClickException(f"the cluster did not answer: {error}") from None
    print_previews(previews, output)


def print_previews(previews: list[Preview], output: str) -> None:
    """Print to standard output; `yaml` is the children alone, as `kubectl diff -f -` takes them."""
    if output == "json":
        click.echo(json.dumps([item.as_dict() for item in previews], indent=2))
    elif output == "yaml":
        manifests = [manifest for item in previews for manifest in item.manifests]
        click.echo(yaml.dump_all(manifests, Dumper=_PlainDumper, sort_keys=False, width=120), nl=False)
    else:
        for item in previews:
            _print_text(item)


async def _answer(objects: list[Manifest], question: Question) -> list[Preview]:
    if not question.cluster:
        return [
            preview(obj, question.settings, inventory=question.assumed, before=_given(obj, question)) for obj in objects
        ]
    path = question.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    async with KubeClient(await load_configuration(path, question.context)) as api:
        inventory = await _inventory(api)
        return [
            preview(
                obj,
                question.settings,
                inventory=inventory,
                before=_given(obj, question) or await _live(api, obj, inventory),
            )
            for obj in objects
        ]


def _given(obj: Manifest, question: Question) -> Observed | None:
    old = question.before.get(_key(obj))
    return Observed(obj=old, inventory=question.assumed) if old else None


async def _inventory(api: Api) -> Inventory:
    slices = SliceMemory()
    slices.replace([piece async for piece in api.list(SLICE, None)])
    return slices.inventory


async def _live(api: Api, obj: Manifest, inventory: Inventory) -> Observed | None:
    """The object as it is on the cluster, with the children that hold earlier decisions."""
    namespace, name = _key(obj)
    live = await api.get(OBJECT, namespace, name)
    if live is None:
        return None
    selector = f"{names.MANAGED_BY}={names.MANAGER},{names.OBJECT}={name}"
    children = {
        Ref(kind.kind, child["metadata"]["name"]): child
        for kind in (DEPLOYMENT, CLAIM)
        async for child in api.list(kind, namespace, selector)
    }
    return Observed(obj=live, children=children, inventory=inventory)


def _key(obj: Manifest) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _print_text(item: Preview) -> None:
    console = Console(highlight=False)
    console.print(f"\n[bold]{escape(item.namespace)}/{escape(item.name)}[/bold]\n")
    decided = Table("decision", "choice", "why", box=None, pad_edge=False, header_style="dim")
    for key, choice in item.decisions.items():
        decided.add_row(key, f"[bold]{escape(str(choice.value))}[/bold]", escape(choice.reason))
    console.print(decided)
    console.print("\n[dim]children[/dim]")
    for manifest in item.manifests:
        console.print(f"  {manifest['kind']:<14} {escape(manifest['metadata']['name'])}")
    console.print("\n[dim]steps; each waits until what the one before it asks for is done[/dim]")
    for number, step in enumerate(item.rollout, 1):
        for line in step:
            console.print(f"  {number:>2}. {escape(line)}", soft_wrap=True)
    if not item.rollout:
        console.print("  none: everything is as it should be")


class _PlainDumper(yaml.SafeDumper):
    """Writes equal parts out instead of pointing from one to the other."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# kubectl reads all of YAML 1.1, where these letters are booleans; PyYAML takes only the longer words for such.
_PlainDumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]$"), list("yYnN"))
