"""The command line: what vLLM accepts is accepted, what it refuses is refused with the same exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt.model.catalogue import GIB, LLAMA_3_2_3B, QWEN2_7B
from phasewatt.model.transfer import Transport
from phasewatt_enginesim.cli import human_int, parse
from phasewatt_enginesim.config import ConfigError, EngineConfig
from phasewatt_enginesim.vllm_flags import IGNORED_SWITCHES, IGNORED_VALUES

NIXL = '{"kv_connector": "NixlConnector", "kv_role": "kv_producer"}'


def config(*flags: str, **environ: str) -> EngineConfig:
    return parse(["serve", "Llama-3.2-3B", *flags], environ)[0]


def test_the_operators_command_line() -> None:
    parsed, faults = parse(
        [
            *(
                "serve",
                "/models/llama-3.2-3b",
                "--host",
                "0.0.0.0",
                "--port",
                "8001",
                "--served-model-name",
                "sim/llama",
            ),
            *("--tensor-parallel-size", "2", "--max-model-len", "16640", "--max-num-seqs", "14"),
            *("--max-num-batched-tokens", "2048", "--kv-cache-memory-bytes", str(28 * GIB), "--shutdown-timeout", "30"),
            *("--disable-access-log-for-endpoints", "/health,/metrics,/v1/models", "--kv-transfer-config", NIXL),
            *("--gpu-memory-utilization", "0.90", "--seed=7"),
        ],
        {"VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.7", "VLLM_NIXL_SIDE_CHANNEL_PORT": "5601"},
    )
    assert parsed.model == LLAMA_3_2_3B
    assert (parsed.host, parsed.port, parsed.served_names) == ("0.0.0.0", 8001, ("sim/llama",))
    assert (parsed.max_model_len, parsed.max_num_seqs, parsed.max_num_batched_tokens) == (16640, 14, 2048)
    assert parsed.kv_pool_blocks == 2 * 16_384
    assert (parsed.side_channel_host, parsed.side_channel_port) == ("10.0.0.7", 5601)
    assert (parsed.shutdown_timeout_s, parsed.quiet_endpoints[0]) == (30, "/health")
    assert parsed.ignored_flags == ("--seed",)
    assert faults.model_dump(exclude_defaults=True) == {}


def test_defaults_are_vllms() -> None:
    parsed = config()
    assert (parsed.port, parsed.max_num_batched_tokens, parsed.block_tokens) == (8000, 2048, 16)
    assert (parsed.side_channel_host, parsed.side_channel_port, parsed.shutdown_timeout_s) == ("localhost", 5600, 0)
    assert parsed.max_model_len == 131_072
    assert parsed.kv_transfer is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["--max-model"], "unrecognized arguments: --max-model"),
        (["--port", "http"], "invalid int value"),
        (["--max-model-len", "2x"], "write 2048, 8k or 28G"),
        (["--kv-transfer-config", "{"], "Invalid JSON"),
        (["--kv-transfer-config", '{"kv_connector": "NixlConnector"}'], "kv_role"),
        (["--kv-transfer-config", NIXL.replace("Nixl", "LMCacheMP")], "is not simulated; use NixlConnector"),
        (["--kv-transfer-config", NIXL.replace("kv_role", "kv_rank")], "kv_rank"),
        (["--sim-faults", '{"explode": true}'], "explode"),
        (["--sim-kv-transport", "pigeon"], "invalid choice"),
    ],
)
def test_what_is_refused(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        config(*flags)
    assert refusal.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PHASEWATT_SIM_HANGS": "1"}, "unknown PHASEWATT_SIM_HANGS"),
        ({"PHASEWATT_SIM_SLOW_FACTOR": "fast"}, "slow_factor"),
        ({"PHASEWATT_SIM_GPU": "H100"}, "A100-40-PCIe"),
        ({"PHASEWATT_SIM_CLOCK_GHZ": "3"}, "0.21-1.41 GHz"),
        ({"PHASEWATT_SIM_TIME_SCALE": "x"}, "invalid float value"),
    ],
)
def test_what_is_refused_in_the_environment(
    environ: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        config(**environ)
    assert words in capsys.readouterr().err


def test_a_missing_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["serve"], {})
    assert "vllm serve MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("flag", IGNORED_SWITCHES)
def test_ignored_switches(flag: str) -> None:
    assert config(flag).ignored_flags == (flag,)
    assert config(flag.replace("--", "--no-")).ignored_flags


@pytest.mark.parametrize("flag", IGNORED_VALUES)
def test_ignored_values(flag: str) -> None:
    assert config(flag, "x").ignored_flags == config(f"{flag}=x").ignored_flags == (flag,)


def test_underscores_serve_for_dashes_in_flags_but_not_in_values() -> None:
    parsed = config("--max_model_len=4k", "--served_model_name", "my_model")
    assert (parsed.max_model_len, parsed.served_names) == (4000, ("my_model",))


@given(st.integers(0, 10**9))
def test_sizes(number: int) -> None:
    assert human_int(str(number)) == number
    assert human_int(f"{number}k") == number * 1000
    assert human_int(f"{number}K") == number * 1024
    assert human_int("1.5G") == 3 * 2**29


def test_a_pool_that_cannot_hold_one_request_is_refused_with_what_would_fit() -> None:
    with pytest.raises(ConfigError, match="estimated maximum model length is 9360"):
        config("--kv-cache-memory-bytes", "1G")
    assert config("--kv-cache-memory-bytes", "1G", "--max-model-len", "9360").kv_pool_blocks == 585
    assert config("--num-gpu-blocks-override", "8192").kv_pool_blocks == 8192


@pytest.mark.parametrize(
    ("device", "tls", "transport"),
    [
        ("cuda", None, Transport.CUDA_IPC),
        ("cuda", "cuda_ipc,cuda_copy,tcp", Transport.CUDA_IPC),
        ("cuda", "cuda_copy,tcp", Transport.TCP),
        ("cuda", "^cuda_ipc", Transport.TCP),
        ("cuda", "^rc", Transport.CUDA_IPC),
        ("cuda", "all", Transport.CUDA_IPC),
        ("cpu", "cuda_ipc", Transport.SHM),
    ],
)
def test_the_transport_follows_buffer_device_and_ucx_tls(device: str, tls: str | None, transport: Transport) -> None:
    text = json.dumps({**json.loads(NIXL), "kv_buffer_device": device})
    environ = {"UCX_TLS": tls} if tls else {}
    assert config("--kv-transfer-config", text, **environ).transport is transport
    forced = config("--kv-transfer-config", text, PHASEWATT_SIM_KV_TRANSPORT="rdma", **environ)
    assert forced.transport is Transport.RDMA


def test_flags_win_over_the_environment() -> None:
    arguments = ["serve", "Llama-3.2-3B", "--sim-time-scale", "3", "--sim-faults", '{"slow_factor": 4}']
    environ = {"PHASEWATT_SIM_TIME_SCALE": "2", "PHASEWATT_SIM_SLOW_FACTOR": "5", "PHASEWATT_SIM_KV_MISS_RATIO": "0.5"}
    parsed, faults = parse(arguments, environ)
    assert parsed.time_scale == 3
    assert (faults.slow_factor, faults.kv_miss_ratio) == (4, 0.5)


def test_a_path_without_a_model_fails_and_says_which() -> None:
    with pytest.raises(ConfigError, match="/nowhere is not a local folder"):
        parse(["serve", "/nowhere"], {})


def test_the_shape_comes_from_a_local_config_json(tmp_path: Path) -> None:
    shape = {
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 512,
        "vocab_size": 2048,
        "max_position_embeddings": 2048,
        "dtype": "float32",
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    model = parse(["serve", str(tmp_path)], {})[0].model
    assert (model.layers, model.head_dim, model.bytes_per_value, model.context) == (4, 64, 4, 2048)
    assert not model.tied_embeddings


def test_an_unknown_name_gets_a_default_shape_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert parse(["serve", "acme/llm-9000"], {})[0].model == LLAMA_3_2_3B
    assert "shape of acme/llm-9000 is unknown" in caplog.text
    assert parse(["serve", "acme/llm-9000"], {"PHASEWATT_SIM_MODEL_SHAPE": "Qwen2-7B"})[0].model == QWEN2_7B
