"""A server process of the testbed: started, watched until it answers, ended with its starter, its log kept."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from phasewatt_testbed.errors import TestbedError

START_SECONDS = 60.0
"""A start takes about a second on an idle machine; this is for a starved one."""

STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 25


class Server:
    """One process that serves, on loopback.

    Args:
        name: how messages and the log file call it.
        argv: program and arguments.
        log: file that its output is appended to, over all its starts.
        ready: whether it answers; asked again and again while it starts.
        start_seconds: how long a start may take.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.name = name
        self.log = log
        self._start_seconds = start_seconds
        self._argv = [str(word) for word in argv]
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, for measurements; None while it does not run."""
        return self._process.pid if self._process and self.running else None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            TestbedError: it ended or did not answer in time; with the last lines of its log.
        """
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_dies_with_parent(), *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._settled, self._start_seconds, f"{self.name} does not answer")
        except TestbedError as error:
            self.stop()
            raise TestbedError(f"{error}\n{self._tail()}") from None

    def stop(self) -> None:
        """End it (SIGTERM, and SIGKILL for one that does not listen). No error where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _sweep(process.pid)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _sweep(process.pid)

    def _settled(self) -> bool:
        if not self.running:
            raise TestbedError(f"{self.name} ended while it started:")
        return self._ready()

    def _tail(self) -> str:
        with self.log.open(errors="replace") as lines:
            return "".join(deque(lines, LOG_TAIL_LINES))


def _sweep(group: int) -> None:
    # A server that is ended while it starts may leave children behind, as vLLM does with its engine process.
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _dies_with_parent() -> list[str]:
    # A starter that is killed (-9) runs no clean-up: only the kernel can then end its servers.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def answers(url: str, *, ca: Path | None = None, headers: dict[str, str] | None = None) -> bool:
    """Whether a GET of the URL gives 200; a refused connection or an unwritten certificate only means not yet."""
    try:
        context = ssl.create_default_context(cafile=ca) if ca else True
        return httpx.get(url, verify=context, headers=headers, timeout=2, trust_env=False).status_code == 200
    except (httpx.TransportError, OSError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Poll a condition until it holds.

    Raises:
        TestbedError: it did not within the given seconds; the text begins with `otherwise`.
    """
    retrying = Retrying(
        retry=retry_if_result(lambda done: not done), stop=stop_after_delay(seconds), wait=wait_fixed(POLL_SECONDS)
    )
    try:
        retrying(condition)
    except RetryError:
        raise TestbedError(f"{otherwise} after {seconds:g} s") from None


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of loopback that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
