"""The command line: `vllm serve`'s own flags, and a few of the simulator's.

argparse, because vLLM's parser is one: the same abbreviations, error texts and exit code 2 for a flag that is unknown.
"""

import argparse
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from phasewatt.model.catalogue import GIB, Model
from phasewatt.model.kv import kv_blocks, kv_bytes, kv_pool_bytes
from phasewatt.model.transfer import Transport

from phasewatt_enginesim.config import ConfigError, EngineConfig, KVTransferConfig, resolve_model
from phasewatt_enginesim.faults import Faults
from phasewatt_enginesim.gpu import SimulatedGpu
from phasewatt_enginesim.vllm_flags import IGNORED_SWITCHES, IGNORED_VALUES

MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""vLLM's human-readable sizes: lower case counts in thousands, upper case in powers of 1,024."""


ENVIRONMENT_PREFIX = "PHASEWATT_SIM_"
SETTINGS = ("TIME_SCALE", "MODEL_SHAPE", "KV_TRANSPORT", "GPU", "CLOCK_GHZ")
"""What the environment may say besides faults."""


def human_int(text: str) -> int:
    """An integer such as 2048, 8k or 28G.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}: write 2048, 8k or 28G")
    return math.floor(float(match[1]) * MULTIPLIERS.get(match[2], 1))


def build_parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of `vllm serve` as the simulator knows it."""
    parser = argparse.ArgumentParser(
        prog="vllm", description="engine-sim: a SIMULATED vLLM server. No model runs.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a simulated model", allow_abbrev=False)
    serve.add_argument("model_tag", nargs="?")
    _server_flags(serve)
    _engine_flags(serve)
    _simulator_flags(serve, environ)
    for flag in IGNORED_VALUES:
        serve.add_argument(flag, nargs="+", action=_Ignored)
    for flag in IGNORED_SWITCHES:
        serve.add_argument(flag, nargs=0, action=_Ignored)
        serve.add_argument(flag.replace("--", "--no-", 1), nargs=0, action=_Ignored)
    serve.set_defaults(ignored=())
    return parser


class _Ignored(argparse.Action):
    """Remembers that a flag was given, nothing more."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:  # type: ignore[no-untyped-def]
        namespace.ignored = (*namespace.ignored, option_string)


def _server_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--model")
    serve.add_argument("--host", default="0.0.0.0")  # noqa: S104 - vLLM's default
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--shutdown-timeout", type=int, default=0)
    serve.add_argument("--disable-access-log-for-endpoints", default="")
    serve.add_argument("--disable-uvicorn-access-log", action="store_true")


def _engine_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--max-model-len", type=human_int)
    serve.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    serve.add_argument("--max-num-seqs", type=human_int, default=256)
    serve.add_argument("--max-num-batched-tokens", type=human_int, default=2048)
    serve.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    serve.add_argument("--kv-cache-memory-bytes", type=human_int)
    serve.add_argument("--num-gpu-blocks-override", type=int)
    serve.add_argument("--block-size", type=int, default=16)
    serve.add_argument("--dtype", default="auto")
    serve.add_argument("--kv-cache-dtype", default="auto")
    serve.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    serve.add_argument("--kv-transfer-config")


def _simulator_flags(serve: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    def from_environment(name: str, default: str | None = None) -> str | None:
        return environ.get(ENVIRONMENT_PREFIX + name, default)

    serve.add_argument("--sim-time-scale", type=float, default=from_environment("TIME_SCALE", "1"))
    serve.add_argument("--sim-model-shape", default=from_environment("MODEL_SHAPE"))
    serve.add_argument("--sim-kv-transport", choices=list(Transport), default=from_environment("KV_TRANSPORT"))
    serve.add_argument("--sim-faults", default="{}", metavar="JSON")


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[EngineConfig, Faults]:
    """What to simulate. Exits with code 2 and vLLM's kind of message when the command line is wrong.

    Raises:
        ConfigError: the flags are well-formed but no engine can start with them.
    """
    parser = build_parser(environ)
    args = parser.parse_args([_dashes(argument) for argument in argv])
    reference = args.model_tag or args.model
    if reference is None:
        _refuse(parser, "serve needs a model: vllm serve MODEL")
    try:
        transfer = KVTransferConfig.model_validate_json(args.kv_transfer_config) if args.kv_transfer_config else None
        faults = initial_faults(args.sim_faults, environ)
        gpu = SimulatedGpu.from_environment(environ)
    except (LookupError, ValueError) as error:
        _refuse(parser, str(error))
    model = resolve_model(reference, args.sim_model_shape)
    max_model_len = args.max_model_len or model.context
    config = EngineConfig(
        model_reference=reference,
        model=model,
        served_names=tuple(args.served_model_name or [reference]),
        gpu=gpu,
        max_model_len=max_model_len,
        kv_pool_blocks=pool_blocks(args, gpu, model, max_model_len),
        tensor_parallel=args.tensor_parallel_size,
        block_tokens=args.block_size,
        max_num_seqs=args.max_num_seqs,
        max_num_batched_tokens=args.max_num_batched_tokens,
        prefix_caching=args.enable_prefix_caching,
        dtype=args.dtype,
        kv_cache_dtype=args.kv_cache_dtype,
        kv_transfer=transfer,
        transport=Transport(args.sim_kv_transport) if args.sim_kv_transport else usual_transport(transfer, environ),
        side_channel_host=environ.get("VLLM_NIXL_SIDE_CHANNEL_HOST", "localhost"),
        side_channel_port=int(environ.get("VLLM_NIXL_SIDE_CHANNEL_PORT", "5600")),
        host=args.host,
        port=args.port,
        shutdown_timeout_s=args.shutdown_timeout,
        access_log=not args.disable_uvicorn_access_log,
        quiet_endpoints=tuple(filter(None, args.disable_access_log_for_endpoints.split(","))),
        time_scale=args.sim_time_scale,
        ignored_flags=args.ignored,
    )
    return config, faults


def initial_faults(flag: str, environ: Mapping[str, str]) -> Faults:
    """The faults in force from the start: `--sim-faults` over `PHASEWATT_SIM_<FAULT>`.

    Raises:
        ValueError: an unknown variable or fault, or a value that does not fit.
    """
    given = {
        name.removeprefix(ENVIRONMENT_PREFIX): value
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name.removeprefix(ENVIRONMENT_PREFIX) not in SETTINGS
    }
    unknown = [name for name in given if name.lower() not in Faults.model_fields]
    if unknown:
        known = ", ".join([*SETTINGS, *(name.upper() for name in Faults.model_fields)])
        raise ValueError(f"unknown {ENVIRONMENT_PREFIX}{unknown[0]}; known after {ENVIRONMENT_PREFIX}: {known}")
    return Faults.model_validate({**{name.lower(): value for name, value in given.items()}, **json.loads(flag)})


def pool_blocks(args: argparse.Namespace, gpu: SimulatedGpu, model: Model, max_model_len: int) -> int:
    """KV blocks of the engine, from the same flags and with the same precedence as vLLM.

    Raises:
        ConfigError: the pool could not hold one request of `max_model_len` tokens.
    """
    if args.kv_cache_memory_bytes is not None:
        available = args.kv_cache_memory_bytes * args.tensor_parallel_size
    else:
        available = kv_pool_bytes(gpu.product, model, args.gpu_memory_utilization, args.tensor_parallel_size)
    blocks: int = args.num_gpu_blocks_override or available // kv_bytes(model, args.block_size)
    if blocks < kv_blocks(max_model_len, args.block_size):
        raise ConfigError(
            f"To serve at least one request with the model's max seq len ({max_model_len}),"
            f" ({kv_bytes(model, max_model_len) / GIB:.2f} GiB KV cache is needed, which is larger than the available"
            f" KV cache memory ({kv_bytes(model, blocks * args.block_size) / GIB:.2f} GiB). Based on the available"
            f" memory, the estimated maximum model length is {blocks * args.block_size}. Try increasing"
            " `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
        )
    return blocks


def usual_transport(transfer: KVTransferConfig | None, environ: Mapping[str, str]) -> Transport:
    """What would carry the KV: shared memory for host buffers, CUDA IPC for device buffers unless UCX_TLS forbids it.

    UCX falls back to TCP in silence when `cuda_ipc` is not among its transports.
    """
    if transfer is not None and transfer.kv_buffer_device == "cpu":
        return Transport.SHM
    tls = environ.get("UCX_TLS", "cuda_ipc")
    excluded = tls.startswith("^")
    listed = "cuda_ipc" in tls.removeprefix("^").split(",")
    return Transport.CUDA_IPC if listed != excluded or tls == "all" else Transport.TCP


def _dashes(argument: str) -> str:
    """vLLM takes underscores for dashes in the names of long flags."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.error(message)
    raise AssertionError
