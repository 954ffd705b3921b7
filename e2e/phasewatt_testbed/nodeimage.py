"""The image that kind's nodes run: the published one where it can be pulled and used, else built from `e2e/nodeimage`.

The build follows `kind build node-image`: a base with kind's own files, the programs on top, then a containerd inside a
container of the result imports the control-plane images, and the container is committed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from phasewatt_testbed import debian
from phasewatt_testbed.binaries import KUBERNETES_VERSION, TOOLS, ensure, key
from phasewatt_testbed.digest import digest_of, files_under
from phasewatt_testbed.engine import Engine, registry_answers
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.gotools import go_command
from phasewatt_testbed.host import this_host
from phasewatt_testbed.paths import E2E, build_lock, scratch_dir
from phasewatt_testbed.progress import say, step
from phasewatt_testbed.shell import run

PUBLISHED = "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
"""From the release notes of kind v0.33.0, the version that `e2e/tools/kind/go.mod` pins."""

SOURCES = E2E / "nodeimage"
REPOSITORY = "localhost/phasewatt-node"
BUILD_CONTAINER = "phasewatt-node-build"
REGISTRY = "registry.k8s.io"
PROGRAMS = ("kube", "kubeadm", "etcd", "coredns", "containerd", "containerd-shim-runc-v2", "ctr")
ENTRYPOINT = json.dumps(["/usr/local/bin/entrypoint", "/sbin/init"])


@dataclass(frozen=True)
class Component:
    """An image that must be inside the node: its Dockerfile's stem and every name kubeadm or kind looks it up by."""

    dockerfile: str
    names: tuple[str, ...]


# Tags are those of `kubeadm config images list`; pause's is the sandbox image of kind's containerd configuration.
COMPONENTS = (
    Component(
        "kubernetes",
        (
            *(
                f"{REGISTRY}/kube-{each}:{KUBERNETES_VERSION}"
                for each in ("apiserver", "controller-manager", "scheduler", "proxy")
            ),
            "localhost/phasewatt-nodecni:1",
        ),
    ),
    Component("etcd", (f"{REGISTRY}/etcd:3.6.8-0",)),
    Component("pause", (f"{REGISTRY}/pause:3.10",)),
    Component("coredns", (f"{REGISTRY}/coredns/coredns:v1.14.2",)),
)


def ensure_node_image(engine: Engine) -> str:
    """Return the reference of a usable node image, building or choosing it as the machine allows.

    Raises:
        TestbedError: the image had to be built and a step of that failed.
    """
    # The published image's systemd refuses cgroup v1; ours is built on one that still accepts it.
    if this_host().cgroup_v2 and registry_answers():
        return f"docker.io/{PUBLISHED}" if engine.name == "podman" else PUBLISHED
    debian_key = "" if registry_answers() else debian.ensure_base(engine)
    facts = [debian_key, *(f"{name}={key(name)}" for name in PROGRAMS), KUBERNETES_VERSION]
    facts += [(TOOLS / "kind" / "go.mod").read_text(), *(name for each in COMPONENTS for name in each.names)]
    reference = f"{REPOSITORY}:{digest_of(facts, files_under(SOURCES), SOURCES)}"
    programs = {name: ensure(name) for name in PROGRAMS}
    with build_lock():
        if not engine.has_image(reference):
            with tempfile.TemporaryDirectory(dir=scratch_dir(), prefix="nodeimage-") as scratch:
                context = Path(scratch)
                _stage(context, programs)
                _build(engine, context, reference)
            _prune(engine, keep=reference)
    return reference


def _stage(context: Path, programs: dict[str, Path]) -> None:
    shutil.copytree(SOURCES, context, dirs_exist_ok=True)
    kind = Path(_module_folder(TOOLS / "kind", "sigs.k8s.io/kind"))
    shutil.copytree(kind / "images" / "base" / "files", context / "kind-files")
    # Module caches are read-only, and a copy keeps that; the folder has to be removable afterwards.
    run(["chmod", "-R", "u+w", context])
    binaries = context / "bin"
    binaries.mkdir()
    for name, path in programs.items():
        (binaries / name).hardlink_to(path)
    kubernetes = Path(_module_folder(TOOLS / "kubernetes", "k8s.io/kubernetes"))
    pause = kubernetes / "build" / "pause" / "linux" / "pause.c"
    run(["gcc", "-Os", "-static", "-s", "-DVERSION=v3.10", "-o", binaries / "pause", pause])
    (context / "version").write_text(KUBERNETES_VERSION)


def _module_folder(module: Path, path: str) -> str:
    run([go_command(), "mod", "download", path], cwd=module)
    return run([go_command(), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path], cwd=module).strip()


def _build(engine: Engine, context: Path, reference: str) -> None:
    base, bare = f"{REPOSITORY}-base:build", f"{REPOSITORY}-bare:build"
    with step("node image: base with kind's files", hint="about 30 s"):
        engine.build(base, context / "base.Dockerfile", context)
    with step("node image: control-plane images"):
        for component in COMPONENTS:
            first, *others = component.names
            engine.build(first, context / f"{component.dockerfile}.Dockerfile", context)
            for name in others:
                engine("tag", first, name)
    with step("node image: Kubernetes and containerd"):
        engine.build(bare, context / "node.Dockerfile", context, [f"BASE={base}"])
    with step("node image: preload the control-plane images"):
        _preload(engine, bare, reference)


def _preload(engine: Engine, bare: str, reference: str) -> None:
    container = BUILD_CONTAINER
    if container in engine("ps", "-a", "--format", "{{.Names}}").split():
        engine("rm", "-f", "-v", container)
    engine("run", "-d", "--name", container, "--privileged", "--entrypoint", "sleep", bare, "infinity")
    try:
        engine("exec", "-d", container, "sh", "-c", "exec containerd > /tmp/containerd.log 2>&1")
        _wait_for_containerd(engine, container)
        names = [name for component in COMPONENTS for name in component.names]
        with tempfile.TemporaryDirectory(dir=scratch_dir(), prefix="preload-") as scratch:
            archive = Path(scratch) / "images.tar"
            many = ["--multi-image-archive"] if engine.name == "podman" else []
            engine("save", *many, "-o", archive, *names)
            engine("cp", archive, f"{container}:/images.tar")
        # Not unpacked: each node unpacks what it runs on its own file system, as with kind's published images.
        engine("exec", container, "ctr", "-n", "k8s.io", "images", "import", "--no-unpack", "--digests", "/images.tar")
        engine("exec", container, "sh", "-c", _SETTLE)
        engine("commit", "--change", f"ENTRYPOINT {ENTRYPOINT}", container, reference)
    finally:
        engine("rm", "-f", "-v", container)


_SETTLE = """
pid=$(pidof containerd) && kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf /images.tar /tmp/containerd.log /run/nri /run/containerd
"""


@retry(retry=retry_if_exception_type(TestbedError), stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True)
def _wait_for_containerd(engine: Engine, container: str) -> None:
    engine("exec", container, "ctr", "version")


def _prune(engine: Engine, keep: str) -> None:
    listed = engine("images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split()
    for old in listed:
        if old != keep and old.rsplit(":", 1)[0] == REPOSITORY:
            try:
                engine("rmi", old)
            except TestbedError:
                say(f"  [dim]{old} stays: a cluster still runs on it[/]")
    engine("image", "prune", "-f")
