"""Which store serves a URI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError
from alignment_trainer.storage.registry import Stores, open_store


@pytest.mark.parametrize("uri", ["http://x/y", "gs://bucket/x", "ftp://x/y"])
def test_unknown_scheme_is_refused_with_the_known_ones(uri: str) -> None:
    with pytest.raises(RequestError, match=r"file://, pvc://, s3://") as caught:
        open_store(uri)
    assert uri in caught.value.message


def test_hub_is_for_models_only() -> None:
    with pytest.raises(RequestError, match="names models only"):
        open_store("hf://org/name")


def test_one_store_serves_all_uris_of_a_scheme(tmp_path: Path) -> None:
    stores = Stores()
    assert stores(tmp_path.as_uri()) is stores("file:///elsewhere")


def test_volumes_are_found_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claim").mkdir()
    monkeypatch.setenv("ALIGNMENT_PVC_ROOT", str(tmp_path))
    Stores()("pvc://claim/x").put("pvc://claim/a/b", b"data")
    assert (tmp_path / "claim" / "a" / "b").read_bytes() == b"data"


def test_files_need_no_cloud_library() -> None:
    code = (
        "import sys; from alignment_trainer.storage.registry import open_store; open_store('file:///x');"
        "assert not {'boto3', 'botocore', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
