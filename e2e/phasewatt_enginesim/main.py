"""Entry point of the simulated engine; installed as `phasewatt-engine-sim`, and as `vllm` in the engine-sim image."""

import asyncio
import logging
import sys

from phasewatt_enginesim import VERSION, VLLM_VERSION
from phasewatt_enginesim.cli import parse
from phasewatt_enginesim.config import ConfigError, EngineConfig
from phasewatt_enginesim.server import serve

log = logging.getLogger(__name__)


class QuietEndpoints(logging.Filter):
    """Drops access log lines of the endpoints named by `--disable-access-log-for-endpoints`."""

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        super().__init__()
        self._endpoints = endpoints

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep a record; uvicorn's third argument is the path with its query."""
        args = record.args
        return not (isinstance(args, tuple) and len(args) > 2 and str(args[2]).partition("?")[0] in self._endpoints)


def main() -> None:
    """Run `vllm serve`, simulated."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s",
        datefmt="%m-%d %H:%M:%S",
    )
    try:
        config, faults = parse(sys.argv[1:])
    except ConfigError as error:
        log.error("%s", error)
        sys.exit(1)
    logging.getLogger("uvicorn.access").addFilter(QuietEndpoints(config.quiet_endpoints))
    banner(config)
    asyncio.run(serve(config, faults))


def banner(config: EngineConfig) -> None:
    """Say what this is, and what it pretends to be."""
    log.info("SIMULATED ENGINE: engine-sim %s copies vLLM %s; no model runs and no GPU is used", VERSION, VLLM_VERSION)
    log.info(
        "Simulating %s on %d x %s at %.3f GHz: %d KV blocks of %d tokens, max_model_len %d, time scale %g",
        config.model.name,
        config.tensor_parallel,
        config.gpu.product.product,
        config.gpu.present_clock_ghz(),
        config.kv_pool_blocks,
        config.block_tokens,
        config.max_model_len,
        config.time_scale,
    )
    if config.ignored_flags:
        log.info("Accepted without effect on the simulation: %s", " ".join(config.ignored_flags))
