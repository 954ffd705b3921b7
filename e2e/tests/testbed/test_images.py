"""Images are rebuilt when, and only when, something that their build reads has changed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from phasewatt_testbed import images
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.images import IMAGES, Image
from phasewatt_testbed.paths import REPO

PRESENT = [image for image in IMAGES.values() if image.exists]


def copied_sources(dockerfile: Path) -> list[str]:
    """What COPY instructions take out of the build context."""
    text = dockerfile.read_text().replace("\\\n", " ")
    copies = [shlex.split(line)[1:] for line in re.findall(r"^\s*COPY .*$", text, re.M | re.I)]
    from_context = [words for words in copies if not any(word.startswith("--from=") for word in words)]
    return [word for words in from_context for word in words[:-1] if not word.startswith("--")]


@pytest.mark.parametrize("image", PRESENT, ids=lambda image: image.name)
def test_every_file_that_a_build_copies_counts_as_its_input(image: Image) -> None:
    inputs = [REPO / image.folder, *(REPO / each for each in (*image.sources, *image.programs))]
    for source in copied_sources(image.dockerfile):
        assert any((REPO / source).is_relative_to(each) for each in inputs), (
            f"COPY {source} is no input of {image.name}"
        )


@pytest.mark.parametrize("image", PRESENT, ids=lambda image: image.name)
def test_dockerfiles_stand_on_debian_and_run_as_a_numeric_user(image: Image) -> None:
    text = image.dockerfile.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.M | re.I))
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) - stages <= {"debian:bookworm-slim", "scratch"}
    users = re.findall(r"^USER (\S+)", text, re.M)
    assert users[-1] == ("0:0" if image.name == "mock-gpu" else "65532:65532")


@pytest.mark.parametrize("folder", ["images", "e2e/images", "e2e/nodeimage"])
def test_no_build_file_names_a_mirror_or_a_proxy(folder: str) -> None:
    for dockerfile in (REPO / folder).rglob("*Dockerfile*"):
        assert not re.search(r"index-url|https?_proxy|PIP_INDEX|GOPROXY|mirror", dockerfile.read_text(), re.I), (
            dockerfile
        )


def test_key_changes_with_a_source_the_base_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "REPO", tmp_path)
    monkeypatch.setattr(images, "project_version", lambda: "1.2.3")
    for name in ("images/x/Dockerfile", "src/a.py", "elsewhere/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    image = Image("x", "images/x", ("src", "not-there"))
    before = images.key(image, "base")
    (tmp_path / "elsewhere/b.py").write_text("changed")
    assert images.key(image, "base") == before
    assert images.key(image, "another base") != before
    (tmp_path / "src/a.py").write_text("changed")
    assert images.key(image, "base") != before


def test_tag_is_the_version_of_the_project() -> None:
    assert IMAGES["operator"].reference == f"ghcr.io/phasewatt/operator:{images.project_version()}"


def test_unknown_image_names_the_known_ones() -> None:
    with pytest.raises(TestbedError, match=r"no image named 'oprator'; there are .*operator"):
        images.select(["oprator"])
