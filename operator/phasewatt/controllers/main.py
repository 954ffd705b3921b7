"""Entry point of the operator: options from the command line or the environment, then one event loop."""

from __future__ import annotations

import asyncio

import click

from phasewatt.controllers import logs
from phasewatt.controllers.decide import decide
from phasewatt.controllers.metrics import Metrics
from phasewatt.controllers.options import Options
from phasewatt.controllers.runtime import Operator
from phasewatt.kube.auth import current_credentials, load_configuration
from phasewatt.kube.client import KubeClient
from phasewatt.plan.types import Settings


@click.command(context_settings={"auto_envvar_prefix": "PHASEWATT", "show_default": True})
@click.option("--namespaces", default="", help="Namespaces to serve, separated by commas. Default: all.")
@click.option("--engine-image", required=True, help="Image of the engines, where an object names none.")
@click.option("--router-image", required=True, help="Image of the router, where an object names none.")
@click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), default="IfNotPresent")
@click.option("--cluster-domain", default="cluster.local", help="DNS domain of the cluster's Services.")
@click.option("--http-port", type=click.IntRange(1, 65535), default=8080, help="Port of /metrics, /healthz, /readyz.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, help="Objects that are worked on at once.")
@click.option("--resync", type=click.FloatRange(1.0), default=600.0, help="Seconds between two LISTs of everything.")
@click.option(
    "--scrape-interval",
    type=click.FloatRange(0),
    default=15.0,
    help="Seconds between scrapes of an engine. 0: never, and KVTransferVerified stays Unknown.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="json")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option(
    "--kubeconfig",
    envvar=["PHASEWATT_KUBECONFIG", "KUBECONFIG"],
    help="Kubeconfig to reach the API server. Default: the service account of the pod.",
)
@click.version_option(package_name="phasewatt")
def main(  # noqa: PLR0913 (one parameter per option)
    namespaces: str,
    engine_image: str,
    router_image: str,
    image_pull_policy: str,
    cluster_domain: str,
    http_port: int,
    workers: int,
    resync: float,
    scrape_interval: float,
    log_format: logs.Format,
    log_level: str,
    kubeconfig: str | None,
) -> None:
    """Run the Phasewatt operator. Every option can be set by an environment variable PHASEWATT_<OPTION>."""
    logs.configure(log_format, log_level)
    options = Options(
        settings=Settings(engine_image, router_image, image_pull_policy, cluster_domain),
        namespaces=tuple(name.strip() for name in namespaces.split(",") if name.strip()),
        http_port=http_port,
        workers=workers,
        resync=resync,
        scrape_interval=scrape_interval,
        kubeconfig=kubeconfig,
    )
    asyncio.run(operate(options))


async def operate(options: Options) -> None:
    """Serve one API server until SIGTERM."""
    metrics = Metrics()
    configuration = await load_configuration(options.kubeconfig)
    async with KubeClient(configuration, metrics.observe_request) as api:
        await Operator(api, options, decide, metrics, lambda: current_credentials(configuration)).run()


if __name__ == "__main__":
    main()
