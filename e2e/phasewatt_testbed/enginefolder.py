"""The real engine's environment, made once on the host and mounted into nodes, not copied into an image.

On GPU nodes the NVIDIA runtime injects its libraries into containers; here the mock GPU driver injects this environment
the same way.
"""

from __future__ import annotations

from pathlib import Path

from phasewatt_testbed.paths import REPO, cache_dir
from phasewatt_testbed.progress import step
from phasewatt_testbed.shell import run

MAKE_ENVIRONMENT = REPO / "images" / "engine-cpu" / "make-env.sh"


def engine_folder() -> Path:
    """The folder that nodes mount: the environment's parent, so that a node also sees a renewed environment."""
    path = cache_dir() / "opt"
    path.mkdir(exist_ok=True)
    return path


def ensure_engine_environment() -> Path:
    """Make or renew the environment; returns at once when its inputs have not changed.

    Raises:
        TestbedError: making it failed.
    """
    target = engine_folder() / "engine-env"
    if MAKE_ENVIRONMENT.exists():
        with step(
            "engine environment (vLLM on CPU)", hint="seconds with a warm uv cache, else 6 GB of packages to fetch"
        ):
            run([MAKE_ENVIRONMENT, target])
    return target
