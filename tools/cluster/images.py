"""Build the project's two images and the few that a registry would give, and bring them into the cluster.

Everything comes from the Dockerfile: with Docker where kind is the cluster, with buildah otherwise. From buildah's
store the layers go into containerd's without an archive between them: unpacked layers are linked, not copied, so
the six gigabytes of the trainer's dependencies cost seconds and no disk. What is there is not imported again.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster import archive, binaries, cleanup, local, node, paths, shell

__all__ = [
    "Image",
    "build",
    "build_with_docker",
    "import_program",
    "into_node",
    "pause_into_node",
    "write_program",
]

REPOSITORY = Path(__file__).parents[2]
_BASE = "localhost/alignment-base:bookworm-1"
_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}

# Programs that run in the cluster from images of their own: program -> (path inside, arguments).
PROGRAM_IMAGES = {
    "coredns": ("/coredns", ("-conf", "/etc/coredns/Corefile")),
    "versitygw": ("/versitygw", ()),
    "kueue": ("/manager", ()),
}


@dataclass(frozen=True)
class Image:
    """A built image: its name, the documents that describe it, and its layers as (digest, unpacked folder)."""

    name: str
    manifest: bytes
    config: bytes
    layers: tuple[tuple[str, Path], ...]


def build(target: str) -> Image:
    """Build one target of the Dockerfile with buildah; unchanged steps come from its cache.

    The name carries the digest of the configuration, so that changed code is a changed Deployment.
    """
    local.install_packages(_PACKAGES)
    base = _base()
    tag = f"localhost/alignment-{target}:building"
    trust = ["--volume", f"{_AUTHORITIES}:{_AUTHORITIES}:ro"] if _AUTHORITIES.exists() else []
    arguments = ["--layers", "--target", target, "--build-arg", f"BASE_IMAGE={base}", *trust, "--tag", tag]
    _buildah("bud", "--quiet", *arguments, str(REPOSITORY))
    return _read(target, tag)


def build_with_docker(target: str) -> str:
    """Build one target with Docker; returns its name."""
    tag = f"alignment-{target}:building"
    shell.run(["docker", "build", "--target", target, "--tag", tag, REPOSITORY], show=True)
    digest = (
        shell.run(["docker", "image", "inspect", "--format", "{{.Id}}", tag]).strip().removeprefix("sha256:")
    )
    name = f"localhost/alignment-{target}:{digest[:12]}"
    shell.run(["docker", "tag", tag, name])
    return name


def into_node(image: Image) -> None:
    """Bring a built image into containerd: link each missing layer into a snapshot, then import the documents."""
    if image.name in local.ctr("images", "ls", "-q").split():
        return
    parent = ""
    for digest, folder in image.layers:
        chain = archive.chain(parent, digest)
        _seed(chain, parent, folder)
        parent = chain
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "image.tar"
        archive.write_documents(target, image.name, image.manifest, image.config)
        local.ctr("images", "import", "--no-unpack", target)


def pause_into_node() -> None:
    """The image of the container that holds a pod's network; containerd needs it before any pod."""
    if node.PAUSE in local.ctr("images", "ls", "-q").split():
        return
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "pause.tar"
        busybox = Path(str(shutil.which("busybox")))
        archive.write(target, node.PAUSE, busybox, inside="/bin/busybox", arguments=("sleep", "2147483647"))
        local.ctr("images", "import", target)


def program_image(program: str) -> str:
    """Image name of a program in PROGRAM_IMAGES."""
    return f"localhost/{program}:{binaries.PROGRAMS[program].version}"


def write_program(program: str, target: Path) -> str:
    """Write the image archive of one program; returns the image's name."""
    inside, arguments = PROGRAM_IMAGES[program]
    name = program_image(program)
    archive.write(target, name, binaries.find(program), inside=inside, arguments=arguments)
    return name


def import_program(program: str) -> str:
    """Bring one program's image into containerd, unless it is there; returns its name."""
    name = program_image(program)
    if name not in local.ctr("images", "ls", "-q").split():
        with tempfile.TemporaryDirectory() as temporary:
            target = Path(temporary) / "program.tar"
            write_program(program, target)
            local.ctr("images", "import", target)
    return name


def _seed(chain: str, parent: str, folder: Path) -> None:
    """Make the snapshot of one layer out of its unpacked folder."""
    listed = {line.split()[0] for line in local.ctr("snapshots", "ls").splitlines()[1:] if line.split()}
    if chain in listed:
        return
    key = f"seed-{chain[7:19]}"
    if key in listed:
        local.ctr("snapshots", "rm", key)  # an earlier attempt was cut short
    local.ctr("snapshots", "prepare", key, *([parent] if parent else []))
    mount = local.ctr("snapshots", "mounts", "/unused", key).split()
    if "overlay" in mount:
        options = next(word for word in mount if "upperdir=" in word)
        upper = options.partition("upperdir=")[2].partition(",")[0]
    else:
        upper = next(word for word in mount if word.startswith(str(local.layout().images)))
    # -l: hard links. Nobody writes into either place: containers write into layers of their own.
    shell.run(["cp", "-al", f"{folder}/.", upper])
    local.ctr("snapshots", "commit", chain, key)


def _base() -> str:
    """The base image: the user's, else a minimal Debian with Python, made once with debootstrap."""
    chosen = os.environ.get("BASE_IMAGE")
    if chosen:
        return chosen
    if _buildah("images", "--quiet", "--filter", f"reference={_BASE}").strip():
        return _BASE
    with tempfile.TemporaryDirectory(dir=paths.cache()) as temporary:
        root = Path(temporary) / "root"
        wanted = "--include=python3,python3-venv,ca-certificates"
        shell.run(["debootstrap", "--variant=minbase", wanted, _SUITE, root, _MIRROR])
        for rubbish in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(root / rubbish, ignore_errors=True)
        with tarfile.open(Path(temporary) / "root.tar", "w") as packed:
            packed.add(root, arcname=".")
        shutil.rmtree(root)
        (Path(temporary) / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        _buildah("bud", "--quiet", "--tag", _BASE, temporary)
    return _BASE


def _read(target: str, tag: str) -> Image:
    """Find the documents and the unpacked layers of a tag in buildah's store."""
    store = _store()
    images = json.loads((store / "overlay-images" / "images.json").read_text())
    layers = {
        layer["id"]: layer for layer in json.loads((store / "overlay-layers" / "layers.json").read_text())
    }
    record: dict[str, Any] = next(item for item in images if tag in (item.get("names") or []))
    folder = store / "overlay-images" / record["id"]
    manifest = (folder / "manifest").read_bytes()
    wanted = json.loads(manifest)["config"]["digest"]
    config = next(
        content for file in folder.iterdir() if archive.digest(content := file.read_bytes()) == wanted
    )
    stack: list[tuple[str, Path]] = []
    at = record["layer"]
    while at:
        stack.insert(0, (layers[at]["diff-digest"], store / "overlay" / at / "diff"))
        at = layers[at].get("parent", "")
    return Image(f"localhost/alignment-{target}:{wanted[7:19]}", manifest, config, tuple(stack))


def _store() -> Path:
    return paths.cache() / "buildah"


def _buildah(*arguments: str) -> str:
    with _quiet_home() as environment:
        root = ["--root", _store(), "--runroot", local.layout().socket.parent / "buildah"]
        try:
            return shell.run(["buildah", *root, *arguments], environment=environment)
        finally:
            # buildah leaves its layers mounted onto themselves; links to another mount are refused.
            cleanup.unmount(_store())


@contextmanager
def _quiet_home() -> Iterator[dict[str, str]]:
    """Settings that let buildah run without user namespaces, systemd or a policy file."""
    with tempfile.TemporaryDirectory() as temporary:
        policy = Path(temporary) / ".config" / "containers"
        policy.mkdir(parents=True)
        (policy / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        yield {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot", "HOME": temporary}
