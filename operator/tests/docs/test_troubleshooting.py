"""Every reason that a condition can have is explained, and nothing that no condition can have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from helm_chart import REPO
from phasewatt.kube.errors import TerminalError

SOURCES = [
    *(REPO / "operator" / "phasewatt" / "plan").glob("*.py"),
    *(REPO / "operator" / "phasewatt" / "controllers").glob("*.py"),
]
MAKERS = {"Check", "Verdict", "Problem", "Refusal", "stalled", "struggling", "waiting"}
WORD = re.compile(r"[A-Z][A-Za-z]+")
CONDITIONS = {
    "Ready",
    "Reconciling",
    "Stalled",
    "PrefillAvailable",
    "DecodeAvailable",
    "EnginesAvailable",
    "RouterAvailable",
    "PlacementSatisfied",
    "KVTransferVerified",
}
STATUSES = {"True", "False", "Unknown"}


def words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
        yield node.value


def reasons_in(source: Path) -> Iterator[str]:
    """CamelCase literals given to whatever makes a condition, and those that lead a returned (reason, message)."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in MAKERS:
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                yield from words(argument)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            yield from words(node.value.elts[0])


def terminal_errors(kind: type[TerminalError] = TerminalError) -> Iterator[str]:
    for child in kind.__subclasses__():
        yield child.__name__.removesuffix("Error")
        yield from terminal_errors(child)


def reasons() -> set[str]:
    import phasewatt.controllers.reconciler  # noqa: F401 (it defines errors of its own)

    literal = {reason for source in SOURCES for reason in reasons_in(source)}
    return (literal | set(terminal_errors())) - CONDITIONS - STATUSES


def test_every_reason_has_a_heading_and_every_heading_a_reason() -> None:
    headings = set(re.findall(r"^### (\w+)$", (REPO / "docs" / "troubleshooting.md").read_text(), re.MULTILINE))
    found = reasons()
    assert len(found) > 20, "the search for reasons no longer finds them"
    assert found - headings == set(), "explain these in docs/troubleshooting.md"
    assert headings - found == set(), "no condition can have these reasons any more"


def test_conditions_are_named() -> None:
    text = (REPO / "docs" / "troubleshooting.md").read_text()
    assert [c for c in CONDITIONS if c not in text] == []
