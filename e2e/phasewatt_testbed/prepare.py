"""Everything that takes long and can be made before there is a cluster, told step by step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from phasewatt_testbed import images
from phasewatt_testbed.binaries import ensure
from phasewatt_testbed.engine import detect
from phasewatt_testbed.enginefolder import ensure_engine_environment
from phasewatt_testbed.nodeimage import ensure_node_image
from phasewatt_testbed.paths import build_lock

PROGRAMS = ("kubectl", "etcd", "kind", "helm", "kubeconform")
"""What clusters, the integration tier and the chart's tests run; kwok is made by the benchmark that needs it."""


def prepare() -> None:
    """Make programs, node image, engine environment and images where their inputs changed.

    Raises:
        TestbedError: a step failed; what was made before it stays.
    """
    engine = detect()
    with ThreadPoolExecutor(max_workers=1) as background:
        # Mostly downloads and hard links, so it runs beside the compilers.
        environment = background.submit(ensure_engine_environment)
        for program in PROGRAMS:
            ensure(program)
        ensure_node_image(engine)
        with build_lock():
            images.ensure_archives(engine, images.select(()))
        environment.result()
