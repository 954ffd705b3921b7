"""What a simulated engine is configured to be: plain values, complete and checked, made by `cli`."""

import json
import logging
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from phasewatt.model.catalogue import LLAMA_3_2_3B, MODELS, Model, find_model
from phasewatt.model.transfer import Transport
from pydantic import BaseModel, ConfigDict, Field, model_validator

from phasewatt_enginesim.gpu import SimulatedGpu

log = logging.getLogger(__name__)

DEFAULT_SHAPE = LLAMA_3_2_3B

NIXL_PULL_CONNECTORS = frozenset({"NixlConnector", "NixlPullConnector"})


class ConfigError(ValueError):
    """A setting that real vLLM refuses at start, or one that the simulator cannot honour."""


class KVTransferConfig(BaseModel):
    """vLLM's `--kv-transfer-config` (vllm/config/kv_transfer.py, 0.32), for the connector that is simulated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kv_connector: str
    kv_role: Literal["kv_producer", "kv_consumer", "kv_both"]
    engine_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    kv_buffer_device: Literal["cuda", "cpu"] = "cuda"
    kv_port: int = 14579
    kv_connector_extra_config: dict[str, Any] = Field(default_factory=dict)
    kv_connector_module_path: str | None = None
    enable_permute_local_kv: bool = False
    kv_load_failure_policy: Literal["fail", "recompute"] = "fail"

    @model_validator(mode="after")
    def _only_what_is_simulated(self) -> "KVTransferConfig":
        if self.kv_connector not in NIXL_PULL_CONNECTORS:
            raise ValueError(f"kv_connector {self.kv_connector!r} is not simulated; use NixlConnector")
        if self.kv_connector_extra_config.get("bidirectional_kv_xfer"):
            raise ValueError("bidirectional_kv_xfer is not simulated")
        return self

    @property
    def is_consumer(self) -> bool:
        """Whether the engine takes KV from others."""
        return self.kv_role != "kv_producer"

    @property
    def lease_s(self) -> float:
        """Wall seconds a prefill engine keeps a finished prompt's blocks for its reader."""
        return float(self.kv_connector_extra_config.get("kv_lease_duration", 30))

    @property
    def enforce_compatibility(self) -> bool:
        """Whether a handshake with another configuration is refused."""
        return bool(self.kv_connector_extra_config.get("enforce_handshake_compat", True))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One simulated engine."""

    model_reference: str
    model: Model
    served_names: tuple[str, ...]
    gpu: SimulatedGpu
    max_model_len: int
    kv_pool_blocks: int
    tensor_parallel: int = 1
    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    prefix_caching: bool = True
    """Only decides whether lookups are counted, as in vLLM: the simulator's own prefix cache never hits."""
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    kv_transfer: KVTransferConfig | None = None
    transport: Transport = Transport.CUDA_IPC
    side_channel_host: str = "localhost"
    side_channel_port: int = 5600
    host: str = "0.0.0.0"  # noqa: S104 - vLLM's own default: every interface
    port: int = 8000
    shutdown_timeout_s: float = 0
    access_log: bool = True
    quiet_endpoints: tuple[str, ...] = ()
    time_scale: float = 1.0
    ignored_flags: tuple[str, ...] = field(default=())


def resolve_model(reference: str, shape: str | None) -> Model:
    """The shape of the model to simulate: `shape` when given, else the `config.json` in a local folder, else by name.

    A name the catalogue does not know is given the shape of `DEFAULT_SHAPE`, with a warning. A path must lead to a
    `config.json` or end in a name the catalogue knows: no weights are needed to simulate it.

    Raises:
        ConfigError: a path leads nowhere, or `shape` is unknown.
    """
    try:
        if shape is not None:
            return find_model(shape)
        config_file = Path(reference) / "config.json"
        if config_file.is_file():
            return model_from_config(reference, json.loads(config_file.read_text()))
        return find_model(reference)
    except (LookupError, json.JSONDecodeError) as error:
        if shape is None and not reference.startswith((".", "/")):
            log.warning("The shape of %s is unknown: simulating that of %s", reference, DEFAULT_SHAPE.name)
            return DEFAULT_SHAPE
        raise ConfigError(
            f"{reference} is not a local folder with a usable config.json and does not end in a model name that the"
            f" simulator knows ({', '.join(MODELS)}): {error}"
        ) from error


def model_from_config(reference: str, config: dict[str, Any]) -> Model:
    """A model's shape from a Hugging Face `config.json`.

    Raises:
        LookupError: a needed key is missing.
    """
    heads = config["num_attention_heads"]
    return Model(
        name=Path(reference).name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        feed_forward=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        context=config["max_position_embeddings"],
        bytes_per_value=4 if "float32" in (config.get("dtype"), config.get("torch_dtype")) else 2,
    )
