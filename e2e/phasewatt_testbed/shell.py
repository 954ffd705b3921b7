"""Runs host commands and turns their failures into sentences."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from phasewatt_testbed.errors import TestbedError

TAIL_LINES = 25


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        TestbedError: it could not be started, ran past `timeout` seconds, or exited non-zero; with its last lines.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, env=env, cwd=cwd, input=stdin, timeout=timeout, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise TestbedError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"`{shlex.join(words)}` did not end within {timeout:g} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        raise TestbedError(f"`{shlex.join(words)}` failed with exit code {done.returncode}:\n{tail}")
    return done.stdout


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 20) -> bool:
    """Whether the command exists and exits 0 within `timeout` seconds."""
    try:
        run(command, env=env, timeout=timeout)
    except TestbedError:
        return False
    return True
