"""Deterministic tokens and text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from phasewatt_enginesim.text import (
    NATURAL_LENGTH,
    StopStrings,
    count_tokens,
    garbage_seed,
    natural_length,
    prompt_seed,
    token_text,
)

prompts = st.one_of(st.text(), st.lists(st.integers(0, 200_000)))


@given(prompts, prompts)
def test_only_equal_prompts_have_equal_seeds(a: str | list[int], b: str | list[int]) -> None:
    if type(a) is type(b):
        assert (prompt_seed("m", a) == prompt_seed("m", b)) == (a == b)


@given(prompts)
def test_model_and_overwritten_blocks_change_the_answer(prompt: str | list[int]) -> None:
    seed = prompt_seed("m", prompt)
    assert len({seed, prompt_seed("n", prompt), garbage_seed(seed)}) == 3
    assert natural_length(seed) in NATURAL_LENGTH
    assert [token_text(seed, i) for i in range(20)] != [token_text(garbage_seed(seed), i) for i in range(20)]


@given(st.text())
def test_a_token_is_one_to_five_characters(prompt: str) -> None:
    assert len(prompt) / 5 <= count_tokens(prompt) <= len(prompt)


def test_short_words_are_one_token_each() -> None:
    assert count_tokens("one two and four" * 10) == 40
    assert count_tokens([5] * 17) == 17


@given(st.lists(st.text("abc", max_size=5)), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_strings_cut_at_the_first_match_however_the_text_arrives(pieces: list[str], stops: list[str]) -> None:
    watcher = StopStrings(stops)
    sent = ""
    for piece in pieces:
        sent += watcher.feed(piece)
        if watcher.matched is not None:
            break
    whole = "".join(pieces)
    if watcher.matched is None:
        assert sent + watcher.flush() == whole
        assert not any(stop in whole for stop in stops)
    else:
        assert whole.startswith(sent + watcher.matched)
        assert not any(stop in sent for stop in stops)
