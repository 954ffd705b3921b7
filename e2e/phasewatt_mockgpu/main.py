"""Entry point `phasewatt-mockgpu`: run the node plugin, or change a GPU's health."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

import click
from pythonjsonlogger.json import JsonFormatter

from phasewatt_mockgpu.clusterapi import KubernetesApi
from phasewatt_mockgpu.health import mark
from phasewatt_mockgpu.inventory import InventoryError, load_inventory
from phasewatt_mockgpu.plugin import NodePlugin, Settings

_PATH = click.Path(path_type=Path)


@click.group(context_settings={"auto_envvar_prefix": "MOCKGPU", "show_default": True})
@click.option("--node", required=True, help="Name of the Kubernetes node that this process serves.")
@click.option("--inventory", type=_PATH, default="/etc/phasewatt-mockgpu/inventory.yaml", help="The inventory file.")
@click.option("--kubelet-folder", type=_PATH, default="/var/lib/kubelet", help="Kubelet's root folder.")
@click.option("--cdi-folder", type=_PATH, default="/var/run/cdi", help="Where the container runtime reads CDI files.")
@click.option(
    "--engine-environment",
    type=_PATH,
    default="/opt/phasewatt/engine-env",
    help="Folder of the node that containers with a GPU get read-only at the same path, unless absent or empty.",
)
@click.option("--probe-port", type=int, default=8081, help="Port of /healthz and /readyz.")
@click.pass_context
def main(context: click.Context, /, **options: object) -> None:
    """Mock GPUs of one node. They are simulated: no GPU is present."""
    context.obj = Settings(**options)  # type: ignore[arg-type]


@main.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Serve the DRA driver and the device plugin until SIGTERM."""
    _log_as_json()
    try:
        plugin = NodePlugin(settings, KubernetesApi.in_cluster())
    except InventoryError as error:
        raise click.ClickException(str(error)) from error
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    plugin.run(stop)


@main.command()
@click.argument("gpu")
@click.argument("message")
@click.option("--evict", is_flag=True, help="Running pods must leave the GPU too (taint NoExecute), not only new ones.")
@click.pass_obj
def fail(settings: Settings, gpu: str, message: str, evict: bool) -> None:
    """Make GPU (such as gpu-0) unhealthy because of MESSAGE."""
    _check_name(settings, gpu)
    mark(settings.health_file, gpu, message, evict=evict)


@main.command()
@click.argument("gpu")
@click.pass_obj
def heal(settings: Settings, gpu: str) -> None:
    """Make GPU healthy again."""
    _check_name(settings, gpu)
    mark(settings.health_file, gpu, None)


def _check_name(settings: Settings, gpu: str) -> None:
    try:
        names = load_inventory(settings.inventory).for_node(settings.node).names
    except InventoryError as error:
        raise click.ClickException(str(error)) from error
    if gpu not in names:
        raise click.BadParameter(f"node {settings.node} has {', '.join(sorted(names)) or 'no GPU'}", param_hint="GPU")


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


if __name__ == "__main__":
    main()
