"""The lists of owned names are consistent with one another."""

from __future__ import annotations

from collections import Counter

import pytest
from phasewatt.api.ownership import AGREED_ARGS, ENGINE_ARGS, ENGINE_ENV, ROUTER_ARGS, Owned


@pytest.mark.parametrize("owned", [(*ENGINE_ARGS, AGREED_ARGS), ROUTER_ARGS, ENGINE_ENV])
def test_no_name_is_owned_twice(owned: tuple[Owned, ...]) -> None:
    counts = Counter(name for entry in owned for name in entry.names)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("entry", [*ENGINE_ARGS, AGREED_ARGS, *ROUTER_ARGS])
def test_arguments_are_spelt_as_argparse_normalises_them(entry: Owned) -> None:
    assert all(name.startswith("-") and "_" not in name and "=" not in name for name in entry.names)


LEGITIMATE = (
    *("--model-impl", "--config-format", "--tokenizer", "--load-format", "--download-dir", "--trust-remote-code"),
    *("--max-num-queued-reqs", "--max-num-queued-tokens", "--max-num-scheduled-tokens", "--max-loras", "--seed"),
    *("--kv-cache-metrics", "--enable-lora", "--enable-prefix-caching", "--enforce-eager", "--middleware"),
    *("--chat-template", "--tool-call-parser", "--enable-auto-tool-choice", "--reasoning-parser", "-O3"),
)


@pytest.mark.parametrize("flag", LEGITIMATE)
def test_no_argument_of_vllm_is_taken_for_an_abbreviation_of_an_owned_one(flag: str) -> None:
    assert [name for entry in ENGINE_ARGS for name in entry.names if name.startswith(flag)] == []
