"""Image archives of one static program each, written by hand: a layer, a configuration, an index.

Good for what a registry would give on another machine (DNS, S3, pause). ``ctr images import`` and
``kind load image-archive`` read them. The same program gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

__all__ = ["chain", "digest", "write", "write_documents"]

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write(
    target: Path,
    name: str,
    program: Path,
    *,
    inside: str,
    arguments: tuple[str, ...] = (),
    user: str = "65532:65532",
) -> None:
    """Write an OCI archive of image ``name`` whose only file is ``program``, at path ``inside``."""
    layer = _tar({inside.lstrip("/"): (program.read_bytes(), 0o755), "tmp/": (b"", 0o1777)})
    config = json.dumps(
        {
            "architecture": _ARCHITECTURE,
            "os": "linux",
            "config": {"User": user, "Entrypoint": [inside], "Cmd": list(arguments)},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    ).encode()
    _write_layout(target, name, manifest, (layer, config))


def write_documents(target: Path, name: str, manifest: bytes, config: bytes) -> None:
    """Write an archive that names an image's layers without holding them, for a node that has them unpacked."""
    _write_layout(target, name, manifest, (config,))


def digest(blob: bytes) -> str:
    """``sha256:…`` of a document."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def chain(parent: str, layer: str) -> str:
    """The name of the snapshot with ``layer`` on top of ``parent`` ("" for none), as OCI defines it."""
    return digest(f"{parent} {layer}".encode()) if parent else layer


def _write_layout(target: Path, name: str, manifest: bytes, blobs: tuple[bytes, ...]) -> None:
    named = {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(_MANIFEST, manifest), **named}]}
    files = {
        "oci-layout": (b'{"imageLayoutVersion": "1.0.0"}', 0o644),
        "index.json": (json.dumps(index).encode(), 0o644),
    }
    for blob in (*blobs, manifest):
        files[f"blobs/sha256/{digest(blob)[7:]}"] = (blob, 0o644)
    target.write_bytes(_tar(files))


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive without times and owners; a name that ends with / is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode = mode
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}
