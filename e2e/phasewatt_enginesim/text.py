"""Tokens without a tokenizer, text without a model: deterministic, so that equal prompts give equal answers."""

import re
from hashlib import blake2b

CHARACTERS_PER_TOKEN = 4
"""English text has about four characters per BPE token."""

PIECES = re.compile(rf"\s?[^\s]{{1,{CHARACTERS_PER_TOKEN}}}|\s")

SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in "aeiou"]

NATURAL_LENGTH = range(64, 256)
"""Output tokens after which a request that does not ask for `ignore_eos` ends by itself."""


def count_tokens(prompt: str | list[int]) -> int:
    """Tokens of a prompt: one per id, or one per piece of up to four characters of a word."""
    return len(prompt) if isinstance(prompt, list) else sum(1 for _ in PIECES.finditer(prompt))


def prompt_seed(model: str, prompt: str | list[int]) -> bytes:
    """The seed of a prompt's answer; every token of the prompt changes it."""
    text = " ".join(map(str, prompt)) if isinstance(prompt, list) else prompt
    return blake2b(f"{model}\0{text}".encode(), digest_size=16).digest()


def garbage_seed(seed: bytes) -> bytes:
    """The seed of an answer computed from KV blocks that no longer held this prompt."""
    return blake2b(b"overwritten KV blocks", key=seed, digest_size=16).digest()


def token_text(seed: bytes, position: int) -> str:
    """The text of output token `position` (from 0)."""
    first, second = blake2b(position.to_bytes(4, "big"), key=seed, digest_size=2).digest()
    return f" {SYLLABLES[first % len(SYLLABLES)]}{SYLLABLES[second % len(SYLLABLES)]}"


def natural_length(seed: bytes) -> int:
    """Output tokens after which the answer of this prompt ends by itself."""
    return NATURAL_LENGTH[int.from_bytes(seed[:4], "big") % len(NATURAL_LENGTH)]


class StopStrings:
    """Cuts a stream of text at the first of some stop strings, and holds back what could be the start of one."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._hold = max((len(stop) for stop in self._stops), default=1) - 1
        self._pending = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Add text; returns what may be sent now. `matched` is set once a stop string is found."""
        self._pending += text
        found = [(self._pending.index(stop), stop) for stop in self._stops if stop in self._pending]
        if found:
            position, self.matched = min(found)
            return self._take(position)
        return self._take(len(self._pending) - self._hold)

    def flush(self) -> str:
        """What was held back, when the text ends without a stop string."""
        return "" if self.matched else self._take(len(self._pending))

    def _take(self, length: int) -> str:
        length = max(0, length)
        ready, self._pending = self._pending[:length], self._pending[length:]
        return ready
