"""Pages hold what they promise: links lead somewhere, objects in them are good ones, the workflow is pinned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helm_chart import REPO
from kubeconform import findings

PAGES = [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("examples/*.md"), *REPO.glob("charts/*/*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        yield from ((page, text) for found, text in BLOCK.findall(page.read_text()) if found == language)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_objects_in_pages_are_good() -> None:
    objects = [text for _, text in blocks("yaml") if "kind: DisaggregatedInference" in text]
    assert objects
    assert not findings("---\n".join(objects))


def test_files_named_in_commands_exist() -> None:
    commands = "\n".join(text for _, text in blocks("sh"))
    files = re.findall(r"\b(?:examples|charts|crds|docs)/[\w./-]+", commands)
    assert files
    assert [file for file in files if not (REPO / file).exists()] == []


def test_actions_are_pinned_by_commit() -> None:
    for workflow in (REPO / ".github" / "workflows").glob("*.yaml"):
        jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
        used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
        assert used
        assert [action for action in used if not re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", action)] == []


def test_the_picture_is_readable_without_style_sheets_of_the_page() -> None:
    picture = (REPO / "docs" / "phases.svg").read_text()
    assert "prefers-color-scheme: dark" in picture
    assert "<title" in picture
    assert "<desc" in picture
    assert "href=" not in picture
