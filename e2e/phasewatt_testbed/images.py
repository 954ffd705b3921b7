"""The project's images, built from their Dockerfiles only when an input changes and kept as archives for the nodes."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phasewatt_testbed import binaries, debian
from phasewatt_testbed.digest import digest_of, files_under
from phasewatt_testbed.engine import Engine, registry_answers
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.paths import REPO, build_lock, cache_dir, scratch_dir
from phasewatt_testbed.progress import step

REGISTRY = "ghcr.io/phasewatt"


@dataclass(frozen=True)
class Image:
    """One image: the folder of its Dockerfile, and what else of the repository its build reads.

    One that carries `programs` of our own build is built in a context that holds only these.
    """

    name: str
    folder: str
    sources: tuple[str, ...]
    programs: tuple[str, ...] = ()

    @property
    def dockerfile(self) -> Path:
        """The build file; the build context is the root of the repository."""
        return REPO / self.folder / "Dockerfile"

    @property
    def reference(self) -> str:
        """The name that manifests use: the tag is the project's version."""
        return f"{REGISTRY}/{self.name}:{project_version()}"

    @property
    def exists(self) -> bool:
        """Whether this checkout has the image's Dockerfile."""
        return self.dockerfile.exists()


_LOCK = ("pyproject.toml", "uv.lock", "e2e/pyproject.toml")

IMAGES = {
    image.name: image
    for image in (
        Image("operator", "images/operator", (*_LOCK, "README.md", "operator/phasewatt", "crds")),
        Image(
            "engine-sim", "images/engine-sim", (*_LOCK, "README.md", "operator/phasewatt", "e2e/phasewatt_enginesim")
        ),
        Image("mock-gpu", "images/mock-gpu", (*_LOCK, "e2e/phasewatt_mockgpu")),
        Image("engine-cpu", "images/engine-cpu", ()),
        Image("router", "images/router", ()),
        Image("prometheus", "e2e/images/prometheus", (), programs=("prometheus",)),
    )
}


def project_version() -> str:
    """The version in the root pyproject.toml, which is every image's tag."""
    return str(tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"])


def select(names: Iterable[str]) -> list[Image]:
    """The named images, or every image of this checkout when no name is given.

    Raises:
        TestbedError: an unknown name, or one without a Dockerfile.
    """
    wanted = list(names)
    if not wanted:
        return [image for image in IMAGES.values() if image.exists]
    for name in wanted:
        if name not in IMAGES:
            raise TestbedError(f"no image named {name!r}; there are {', '.join(IMAGES)}")
        if not IMAGES[name].exists:
            raise TestbedError(f"{IMAGES[name].dockerfile.relative_to(REPO)} does not exist")
    return [IMAGES[name] for name in wanted]


def key(image: Image, base: str) -> str:
    """The cache key of an image: its Dockerfile's folder, its sources, its name and tag, and the base it stands on."""
    files = files_under(REPO / image.folder)
    for source in image.sources:
        path = REPO / source
        files += files_under(path) if path.is_dir() else [path] if path.exists() else []
    programs = [binaries.key(program) for program in image.programs]
    return digest_of([image.reference, base, *programs], files, REPO)


@dataclass(frozen=True)
class Archive:
    """A built image as a file, and the key of the inputs it was built from."""

    image: Image
    key: str
    path: Path


def ensure_archives(engine: Engine, images: Iterable[Image]) -> list[Archive]:
    """Build what has changed and return an archive per image.

    Raises:
        TestbedError: a build failed; with the end of its output.
    """
    base = "" if registry_answers() else debian.ensure_base(engine)
    with build_lock():
        return [_ensure_archive(engine, image, base) for image in images]


def _ensure_archive(engine: Engine, image: Image, base: str) -> Archive:
    wanted = key(image, f"{engine.name} {base}")
    home = cache_dir() / "images" / image.name
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{wanted}.tar"
    if not path.exists():
        with step(f"build image {image.name}", hint=f"{image.folder}/Dockerfile"):
            _build(engine, image)
            unfinished = path.with_suffix(".partial")
            unfinished.unlink(missing_ok=True)
            engine.save(image.reference, unfinished)
            unfinished.rename(path)
        _prune(engine, home, keep=path)
    return Archive(image, wanted, path)


def _build(engine: Engine, image: Image) -> None:
    if not image.programs:
        engine.build(image.reference, image.dockerfile, REPO)
        return
    with tempfile.TemporaryDirectory(dir=scratch_dir(), prefix=f"{image.name}-") as scratch:
        for program in image.programs:
            (Path(scratch) / program).hardlink_to(binaries.ensure(program))
        engine.build(image.reference, image.dockerfile, Path(scratch))


def _prune(engine: Engine, home: Path, keep: Path) -> None:
    for old in home.glob("*.tar"):
        if re.fullmatch(r"[0-9a-f]+\.tar", old.name) and old != keep:
            old.unlink(missing_ok=True)
    # Long enough to keep the layers that the next edit's build starts from, short enough to keep the disk.
    if engine.name == "podman":
        engine("image", "prune", "-f", "--filter", "until=6h")
