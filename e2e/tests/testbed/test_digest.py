"""Cache keys: the same for the same inputs in any clone, different for any difference that could change a product."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from phasewatt_testbed.digest import digest_of, files_under


def write(root: Path, name: str, text: str, mode: int = 0o644) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def tree(root: Path) -> str:
    return digest_of(["fact"], files_under(root), root)


def test_same_content_in_another_clone_has_the_same_key(tmp_path: Path) -> None:
    for clone in ("a", "b"):
        write(tmp_path / clone, "x/main.go", "package main")
        write(tmp_path / clone, "go.mod", "module x")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_content_name_and_executable_bit_all_count(tmp_path: Path) -> None:
    write(tmp_path / "plain", "a", "text")
    write(tmp_path / "content", "a", "other")
    write(tmp_path / "name", "b", "text")
    write(tmp_path / "mode", "a", "text", 0o755)
    assert len({tree(tmp_path / each) for each in ("plain", "content", "name", "mode")}) == 4


def test_interpreter_leftovers_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "x = 1")
    before = tree(tmp_path)
    write(tmp_path, "__pycache__/a.pyc", "bytes")
    assert tree(tmp_path) == before


facts = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4)


@given(facts, facts)
def test_different_facts_have_different_keys(first: list[str], second: list[str]) -> None:
    assert (digest_of(first) == digest_of(second)) == (first == second)
