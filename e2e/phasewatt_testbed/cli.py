"""`phasewatt-testbed`: a real Kubernetes cluster on one machine, whose only fake is the GPU."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from phasewatt_testbed import binaries, images
from phasewatt_testbed.cluster import Testbed
from phasewatt_testbed.engine import detect
from phasewatt_testbed.enginefolder import ensure_engine_environment
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.existing import verify
from phasewatt_testbed.nodes import Node
from phasewatt_testbed.prepare import prepare
from phasewatt_testbed.progress import say

PLAIN_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


class _Group(click.Group):
    """Prints our own errors as one message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TestbedError as error:
            # Plain, because the text may hold brackets that rich would take for markup.
            click.echo(f"error: {error}", err=True)
            sys.exit(1)


def _name(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--name", default="phasewatt", show_default=True, help="Which cluster; several can run at once."
    )(command)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real Kubernetes cluster on one machine, whose only fake is the GPU."""


@main.command(name="prepare")
def prepare_all() -> None:
    """Make all that takes long (programs, node image, engine environment, images), without a cluster."""
    start = time.monotonic()
    prepare()
    say(f"[green]all is made[/] after {time.monotonic() - start:.1f} s")


@main.command()
@_name
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="GPU nodes.")
@click.option(
    "--gpus/--no-gpus", default=True, show_default=True, help="Install the mock GPU plugin and the engine environment."
)
@click.option(
    "--kubeconfig",
    envvar="PHASEWATT_KUBECONFIG",
    type=click.Path(path_type=Path),
    help="Use this existing cluster instead: it is only checked.  [env: PHASEWATT_KUBECONFIG]",
)
def up(name: str, workers: int, gpus: bool, kubeconfig: Path | None) -> None:
    """Bring the cluster up; a cluster that works is left as it is."""
    start = time.monotonic()
    if kubeconfig:
        _print_nodes(verify(kubeconfig))
        return
    testbed = Testbed(name, workers, gpus)
    path = testbed.up()
    say(f"[green]cluster {name} is up[/] after {time.monotonic() - start:.1f} s")
    say(f"  export KUBECONFIG={path}")
    suffix = "" if name == "phasewatt" else f" --name {name}"
    say(f"  next: phasewatt-testbed load{suffix}; stop it: phasewatt-testbed down{suffix}")


@main.command()
@_name
def down(name: str) -> None:
    """Remove the cluster; nothing of it is left."""
    start = time.monotonic()
    removed = Testbed(name).down()
    for each in removed:
        say(f"  removed {each}")
    took = f"in {time.monotonic() - start:.1f} s"
    say(f"[green]cluster {name} is gone[/] {took}" if removed else f"there was no cluster {name}")


@main.command()
@_name
def status(name: str) -> None:
    """Show nodes, GPUs and where the kubeconfig is; exit code 1 when the cluster does not answer."""
    testbed = Testbed(name)
    if not testbed.paths.kubeconfig.exists():
        raise TestbedError(f"there is no cluster {name!r}")
    _print_nodes(testbed.nodes())
    click.echo(f"kubeconfig  {testbed.paths.kubeconfig}")
    click.echo(f"kubectl     {binaries.ensure('kubectl')}")


@main.command()
@_name
@click.argument("names", nargs=-1)
def load(name: str, names: tuple[str, ...]) -> None:
    """Build the images that changed (all, or NAMES) and import them into the nodes that lack them."""
    done = Testbed(name).load(names)
    say(f"[green]imported {len(done)} image copies[/]" if done else "every node already has these images")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Only list the images of this checkout.")
def build(names: tuple[str, ...], listing: bool) -> None:
    """Build the images that changed (all, or NAMES) into archives, without a cluster."""
    chosen = images.select(names)
    if listing:
        for image in chosen:
            click.echo(f"{image.reference}  {image.folder}")
        return
    for archive in images.ensure_archives(detect(), chosen):
        click.echo(f"{archive.image.reference}  {archive.path}")


@main.command()
@_name
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("testbed-logs"))
def logs(name: str, folder: Path) -> None:
    """Write the logs of nodes and containers below FOLDER."""
    Testbed(name).export_logs(folder)
    click.echo(folder.resolve())


@main.command()
@_name
@click.option("--export", is_flag=True, help="Print a line for the shell to eval.")
def kubeconfig(name: str, export: bool) -> None:
    """Print the path of the cluster's kubeconfig."""
    path = Testbed(name).paths.kubeconfig
    if not path.exists():
        raise TestbedError(f"there is no cluster {name!r}; run `phasewatt-testbed up --name {name}`")
    click.echo(f"export KUBECONFIG={path}" if export else path)


@main.command(name="engine-env")
def engine_environment() -> None:
    """Make or renew the real engine's environment that the nodes mount."""
    click.echo(ensure_engine_environment())


@main.command(name="binary")
@click.argument("name")
def binary(name: str) -> None:
    """Print the path of a pinned program (kubectl, helm, kwok, ...), building it when needed."""
    click.echo(binaries.ensure(name))


def _print_nodes(nodes: list[Node]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("NODE", "READY", "ROLE", "KUBELET", "RUNTIME", "GPUS"):
        table.add_column(column)
    for node in nodes:
        role = "control-plane" if node.control_plane else "worker"
        table.add_row(node.name, "yes" if node.ready else "no", role, node.kubelet, node.runtime, str(node.gpus))
    # Without a terminal rich would assume 80 columns and cut names short.
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)
