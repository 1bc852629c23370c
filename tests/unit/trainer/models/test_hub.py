"""Models of the hub: pinned to a commit, verified, and the network open for them alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.models.fetch import fetch_model, read_model_file
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.storage.registry import Stores
from support.fakehub import COMMIT, fake_hub
from support.models import full_weights

stores = Stores()
resolver = Resolver(stores)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    full_weights(tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"a pickle")
    return tmp_path / "model"


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from huggingface_hub import constants

    with fake_hub(model, "org/name") as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield endpoint


def test_branch_is_pinned_to_its_commit_with_the_digest_of_its_files(hub: str, model: Path) -> None:
    pin = resolver.pin("hf://org/name@main")
    assert (pin.uri, pin.version) == (f"hf://org/name@{COMMIT}", COMMIT)
    assert pin.digest == resolver.pin(model.as_uri()).digest


def test_weights_are_not_downloaded_to_pin_them(hub: str, tmp_path: Path) -> None:
    resolver.pin("hf://org/name@main")
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []


def test_pinned_model_is_fetched_without_its_pickles(hub: str, tmp_path: Path) -> None:
    local = fetch_model(resolver.pin("hf://org/name@main"), stores, tmp_path / "scratch")
    assert (local.folder / "model.safetensors").read_bytes() == b"weights"
    assert not (local.folder / "pytorch_model.bin").exists()


def test_tokenizer_is_read_alone(hub: str, tmp_path: Path) -> None:
    pin = resolver.pin("hf://org/name@main")
    assert read_model_file(pin, "tokenizer.json", stores, tmp_path / "scratch") == b"{}"
    assert read_model_file(pin, "chat_template.jinja", stores, tmp_path / "scratch") is None


def test_content_that_is_not_what_was_pinned_is_refused(hub: str, model: Path, tmp_path: Path) -> None:
    pin = resolver.pin("hf://org/name@main")
    (model / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(TemporaryError) as caught:
        fetch_model(pin, stores, tmp_path / "scratch")
    assert caught.value.reason == "ChecksumDiffers"


def test_network_is_closed_again_afterwards(hub: str) -> None:
    from huggingface_hub import constants

    resolver.pin("hf://org/name@main")
    assert constants.HF_HUB_OFFLINE is True


@pytest.mark.parametrize("uri", ["hf://org/other@main", "hf://org/name@branch"])
def test_model_or_revision_that_does_not_exist_is_named(hub: str, uri: str) -> None:
    with pytest.raises(RequestError, match=uri) as caught:
        resolver.pin(uri)
    assert caught.value.reason == "ModelMissing"


def test_hub_that_cannot_be_reached_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TemporaryError, match="hf://org/name@main") as caught:
        resolver.pin("hf://org/name@main")
    assert caught.value.reason == "HubUnavailable"


def test_a_full_disk_is_not_blamed_on_the_hub(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import file_download

    pin = resolver.pin("hf://org/name@main")

    def full(*_: object, **__: object) -> None:
        # /dev/full refuses every write with ENOSPC, as a full disk does.
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"weights")

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(TemporaryError, match=r"No space left for file://.*/scratch/hub/org--name") as caught:
        fetch_model(pin, stores, tmp_path / "scratch")
    assert caught.value.reason == "DiskFull"


@pytest.mark.parametrize("uri", ["hf://name", "hf://org/name/more@main", "hf://org/name@"])
def test_uri_that_names_no_model_is_refused(uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolver.pin(uri)
    assert caught.value.reason == "UriInvalid"


def test_unpinned_model_is_not_fetched(tmp_path: Path) -> None:
    from alignment_api.status import ModelPin

    pin = ModelPin(uri="hf://org/name@main", digest="sha256:" + "0" * 64)
    with pytest.raises(RequestError, match="not pinned"):
        fetch_model(pin, stores, tmp_path)
