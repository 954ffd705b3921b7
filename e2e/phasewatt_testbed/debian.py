"""A stand-in for the `debian:bookworm-slim` image, made from Debian packages where no image registry can be reached.

It also carries how this machine reaches its mirrors (apt sources, `Acquire::` settings, local certificate authorities),
so that the project's Dockerfiles name neither mirror nor proxy.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phasewatt_testbed.digest import digest_of
from phasewatt_testbed.engine import DEBIAN_BASE, Engine
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.paths import build_lock, scratch_dir
from phasewatt_testbed.progress import step
from phasewatt_testbed.shell import run

SUITE = "bookworm"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
INPUT_LABEL = "io.phasewatt.inputs"

# Network settings only: what apt keeps or removes on the host is no concern of an image.
_NETWORK_SETTING = re.compile(r"^\s*Acquire::(Check-|http|https|Retries|ForceIPv|By-Hash|Proxy)", re.I | re.M)


@dataclass(frozen=True)
class HostApt:
    """How this machine's apt gets Debian packages."""

    sources: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    authorities: tuple[tuple[str, str], ...]

    @property
    def mirror(self) -> str:
        """Where the suite itself comes from."""
        for source in self.sources:
            _, uri, suite, *_ = source.split()
            if suite == SUITE:
                return uri
        return DEFAULT_MIRROR

    @property
    def key(self) -> str:
        """Changes when the image would."""
        pairs = [f"{name}={text}" for name, text in (*self.settings, *self.authorities)]
        return digest_of([SUITE, *self.sources, *pairs])


def read_host_apt() -> HostApt:
    """Ask apt for its sources, as `deb` lines of this suite, and read its network settings and local authorities."""
    targets = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ]
    )
    sources = {line.split("|", 1)[1] for line in targets.splitlines() if line.startswith("Debian|")}
    ours = tuple(sorted(line for line in sources if line.split()[2].startswith(SUITE)))
    settings = [(p.name, p.read_text()) for p in sorted(Path("/etc/apt/apt.conf.d").iterdir()) if p.is_file()]
    authorities = [(p.name, p.read_text()) for p in sorted(LOCAL_AUTHORITIES.glob("*.crt"))]
    return HostApt(ours, tuple(s for s in settings if _NETWORK_SETTING.search(s[1])), tuple(authorities))


def ensure_base(engine: Engine) -> str:
    """Make sure the stand-in is in the engine's store under Debian's own name; returns its cache key.

    Raises:
        TestbedError: debootstrap failed.
    """
    apt = read_host_apt()
    with build_lock():
        if _present_key(engine) != apt.key:
            with step(f"debootstrap {SUITE}: a base image from Debian packages", hint="about 30 s"):
                _make(engine, apt)
    return apt.key


def _present_key(engine: Engine) -> str:
    try:
        return engine(
            "image", "inspect", "--format", f'{{{{index .Config.Labels "{INPUT_LABEL}"}}}}', DEBIAN_BASE
        ).strip()
    except TestbedError:
        return ""


def _make(engine: Engine, apt: HostApt) -> None:
    with tempfile.TemporaryDirectory(dir=scratch_dir(), prefix="debian-") as scratch:
        root, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root, apt.mirror])
        _configure(root, apt)
        run(["tar", "-C", root, "-cf", archive, "."])
        changes = [f"LABEL {INPUT_LABEL}={apt.key}", 'CMD ["bash"]']
        if apt.authorities:
            # uv brings its own authorities; this makes it use the system's, which the local ones were added to.
            changes.append("ENV UV_NATIVE_TLS=1")
        engine("import", *[word for change in changes for word in ("--change", change)], archive, DEBIAN_BASE)


def _configure(root: Path, apt: HostApt) -> None:
    if apt.sources:
        (root / "etc/apt/sources.list").write_text("\n".join(apt.sources) + "\n")
    for name, text in apt.settings:
        (root / "etc/apt/apt.conf.d" / name).write_text(text)
    for name, text in apt.authorities:
        (root / "usr/local/share/ca-certificates" / name).write_text(text)
    run(["chroot", root, "update-ca-certificates"])
    for leftovers in (
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ):
        folder = root / leftovers
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (root / "var/cache/apt/archives/partial").mkdir()
    (root / "var/lib/apt/lists/partial").mkdir()
