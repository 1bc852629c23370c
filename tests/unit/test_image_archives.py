"""Image archives written by hand are complete, reproducible, and name their snapshots as OCI does."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from tools.cluster import archive


def program(folder: Path) -> Path:
    file = folder / "program"
    file.write_bytes(b"\x7fELF not really")
    return file


def test_every_blob_is_there_under_the_digest_that_names_it(tmp_path: Path) -> None:
    archive.write(
        tmp_path / "image.tar", "localhost/p:1", program(tmp_path), inside="/bin/p", arguments=("-v",)
    )
    with tarfile.open(tmp_path / "image.tar") as packed:
        files = {name: packed.extractfile(name).read() for name in packed.getnames()}  # type: ignore[union-attr]
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/p:1"
    manifest = json.loads(files[f"blobs/sha256/{entry['digest'][7:]}"])
    config = json.loads(files[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert config["config"] == {"User": "65532:65532", "Entrypoint": ["/bin/p"], "Cmd": ["-v"]}
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        archive.write(tmp_path / name, "localhost/p:1", program(tmp_path), inside="/p")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_chain_is_named_by_its_parent_and_its_layer() -> None:
    bottom, top = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    assert archive.chain("", bottom) == bottom
    assert archive.chain(bottom, top) == archive.digest(f"{bottom} {top}".encode())
