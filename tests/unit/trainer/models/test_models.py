"""Model URIs: what is refused, what a pin pins, what is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignment_trainer.errors import RequestError, TemporaryError
from alignment_trainer.models.aliases import (
    Alias,
    AliasTarget,
    alias_uri,
    is_alias,
    read_alias,
    set_alias,
    swap_alias,
    versions,
)
from alignment_trainer.models.fetch import fetch_model, read_model_file
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import SUMS, upload_folder
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.registry import Stores
from alignment_trainer.storage.store import Condition, ConditionFailed, ObjectInfo
from support.models import adapter, full_weights

NOW = datetime(2026, 1, 2, tzinfo=UTC)
stores = Stores()
resolver = Resolver(stores)


def refused(uri: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        resolver.pin(uri)
    return caught.value


class TestRefusals:
    def test_missing_folder(self, tmp_path: Path) -> None:
        assert refused((tmp_path / "none").as_uri()).reason == "ModelMissing"

    def test_pickles_only(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
        error = refused(uri)
        assert error.reason == "PickleWeights"
        assert "pytorch_model.bin" in error.message
        assert "save_pretrained" in error.message

    def test_pickles_beside_safetensors_are_not_read(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path)
        pin = resolver.pin(uri)
        (tmp_path / "pytorch_model.bin").write_bytes(b"x")
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").write_bytes(b"x")
        assert resolver.pin(uri) == pin

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path)
        (tmp_path / "tokenizer.json").unlink()
        assert refused(uri).reason == "TokenizerMissing"

    def test_missing_shard_is_named(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path)
        index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert "lacks 1 of its 2 weight files, first model-2.safetensors" in refused(uri).message

    def test_adapter_without_base(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        uri = adapter(tmp_path / "adapter", base)
        (tmp_path / "adapter" / "base.json").unlink()
        assert refused(uri).reason == "BaseMissing"

    @pytest.mark.parametrize("on", ["itself", "another adapter"])
    def test_adapter_on_an_adapter(self, tmp_path: Path, on: str) -> None:
        base = full_weights(tmp_path / "base")
        first = adapter(tmp_path / "first", base)
        uri = first if on == "itself" else adapter(tmp_path / "second", base)
        (tmp_path / uris.name(uri) / "base.json").write_text(
            json.dumps({"uri": first, "digest": "sha256:" + "0" * 64})
        )
        error = refused(uri)
        assert error.reason == "BaseInvalid"
        assert "an adapter itself" in error.message

    def test_adapter_on_an_alias_which_may_move(self, tmp_path: Path) -> None:
        uri = adapter(tmp_path / "adapter", full_weights(tmp_path / "base"))
        moving = f"{tmp_path.as_uri()}/models/aliases/champion"
        (tmp_path / "adapter" / "base.json").write_text(
            json.dumps({"uri": moving, "digest": "sha256:" + "0" * 64})
        )
        assert "name the version folder" in refused(uri).message

    def test_base_outside_of_its_folder(self, tmp_path: Path) -> None:
        uri = adapter(tmp_path / "adapter", full_weights(tmp_path / "base"))
        (tmp_path / "adapter" / "base.json").write_text(
            json.dumps({"uri": f"{tmp_path.as_uri()}/x/../base/", "digest": "sha256:" + "0" * 64})
        )
        assert refused(uri).reason == "UriInvalid"

    def test_adapter_whose_base_has_no_digest_is_told_the_digest(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        uri = adapter(tmp_path / "adapter", base)
        (tmp_path / "adapter" / "base.json").write_text(json.dumps({"uri": base}))
        assert resolver.pin(base).digest in refused(uri).message

    def test_adapter_whose_base_changed(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        uri = adapter(tmp_path / "adapter", base)
        full_weights(tmp_path / "base", content=b"other")
        assert refused(uri).reason == "BaseChanged"

    def test_damaged_base_json_names_the_field(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        uri = adapter(tmp_path / "adapter", base)
        (tmp_path / "adapter" / "base.json").write_text('{"uri": 3}')
        assert "base.json: uri" in refused(uri).message

    def test_alias_that_does_not_exist_is_an_error_or_none(self, tmp_path: Path) -> None:
        uri = alias_uri(tmp_path.as_uri(), "champion")
        assert refused(uri).reason == "AliasMissing"
        assert resolver.pin_if_exists(uri) is None

    def test_object_that_is_no_alias(self, tmp_path: Path) -> None:
        uri = alias_uri(tmp_path.as_uri(), "champion")
        stores(uri).put(uri, b"{}")
        assert refused(uri).reason == "AliasInvalid"


class TestPins:
    def test_digest_follows_every_byte_and_name(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path)
        digests = {resolver.pin(uri).digest}
        (tmp_path / "model.safetensors").write_bytes(b"Weights")
        digests.add(resolver.pin(uri).digest)
        (tmp_path / "tokenizer.json").rename(tmp_path / "vocabulary.json")
        (tmp_path / "tokenizer.json").write_text("{ }")
        digests.add(resolver.pin(uri).digest)
        assert len(digests) == 3

    def test_digest_of_a_folder_with_sums_is_that_of_the_same_folder_without(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path / "source")
        target = (tmp_path / "target").as_uri()
        ref = upload_folder(tmp_path / "source", target, stores(target))
        assert resolver.pin(target).digest == resolver.pin(uri).digest == ref.digest

    def test_sums_that_do_not_fit_the_folder_are_refused(self, tmp_path: Path) -> None:
        full_weights(tmp_path / "source")
        target = (tmp_path / "target").as_uri()
        upload_folder(tmp_path / "source", target, stores(target))
        (tmp_path / "target" / "generation_config.json").write_text("{}")
        assert refused(target).reason == "ChecksumsInvalid"

    def test_computed_digest_is_kept_and_recomputed_on_change(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path / "model")
        cache = (tmp_path / "cache").as_uri()
        cached = Resolver(stores, cache)
        first = cached.pin(uri)
        assert len(list((tmp_path / "cache").glob("*.json"))) == 1
        assert cached.pin(uri) == first
        full_weights(tmp_path / "model", content=b"other")
        assert cached.pin(uri) == resolver.pin(uri) != first

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda text: text[: len(text) // 2], id="cut short"),
            pytest.param(lambda _: "", id="empty"),
            pytest.param(lambda text: text.replace('"model.safetensors"', '"model.bin"'), id="another file"),
            pytest.param(lambda text: json.dumps(dict.fromkeys(json.loads(text))), id="no digests"),
            pytest.param(
                lambda text: json.dumps(dict.fromkeys(json.loads(text), "0")), id="no whole digests"
            ),
            pytest.param(lambda text: json.dumps(list(json.loads(text))), id="a list"),
        ],
    )
    def test_damaged_digests_are_computed_anew_and_mended(
        self, tmp_path: Path, damage: Callable[[str], str]
    ) -> None:
        uri = full_weights(tmp_path / "model")
        cached = Resolver(stores, (tmp_path / "cache").as_uri())
        first = cached.pin(uri)
        (kept,) = (tmp_path / "cache").glob("*.json")
        whole = kept.read_text(encoding="utf-8")
        kept.write_text(damage(whole), encoding="utf-8")
        assert cached.pin(uri) == first
        assert kept.read_text(encoding="utf-8") == whole


def published(tmp_path: Path, name: str) -> AliasTarget:
    full_weights(tmp_path / "work" / name, content=name.encode())
    uri = (tmp_path / "publish" / "versions" / name).as_uri()
    ref = upload_folder(tmp_path / "work" / name, uri, stores(uri))
    return AliasTarget(uri=ref.uri, version=name, digest=ref.digest)


class TestAliases:
    def test_only_an_object_below_aliases_is_one(self) -> None:
        assert is_alias("s3://m/notes/aliases/champion")
        assert not is_alias("s3://m/notes/aliases/champion/")
        assert not is_alias("s3://m/notes/versions/a")

    def test_alias_is_followed_to_its_version(self, tmp_path: Path) -> None:
        target = published(tmp_path, "v1")
        publish = (tmp_path / "publish").as_uri()
        set_alias(publish, "champion", "v1", stores(publish), now=NOW)
        uri = alias_uri(publish, "champion")
        pin = resolver.pin(uri)
        assert (pin.uri, pin.digest, pin.version, pin.alias) == (target.uri, target.digest, "v1", uri)
        assert pin.etag == stores(uri).get(uri)[1].etag

    def test_version_changed_behind_the_alias_is_refused(self, tmp_path: Path) -> None:
        published(tmp_path, "v1")
        publish = (tmp_path / "publish").as_uri()
        set_alias(publish, "champion", "v1", stores(publish), now=NOW)
        (tmp_path / "publish" / "versions" / "v1" / SUMS).unlink()
        (tmp_path / "publish" / "versions" / "v1" / "model.safetensors").write_bytes(b"swapped")
        assert refused(alias_uri(publish, "champion")).reason == "VersionChanged"

    def test_two_who_expect_the_same_state_never_both_win(self, tmp_path: Path) -> None:
        uri = alias_uri(tmp_path.as_uri(), "champion")
        store = stores(uri)
        one, two = (Alias(target=published(tmp_path, name), moved_time=NOW) for name in ("v1", "v2"))
        swap_alias(uri, one, store, expected=None)
        with pytest.raises(ConditionFailed):
            swap_alias(uri, two, store, expected=None)
        found = read_alias(uri, store)
        assert found is not None
        swap_alias(uri, two, store, expected=found[1])
        with pytest.raises(ConditionFailed):
            swap_alias(uri, one, store, expected=found[1])

    def test_rollback_remembers_what_it_rolled_back(self, tmp_path: Path) -> None:
        targets = [published(tmp_path, name) for name in ("v1", "v2")]
        publish = (tmp_path / "publish").as_uri()
        store = stores(publish)
        set_alias(publish, "champion", "v2", store, now=NOW)
        rolled = set_alias(publish, "champion", "v1", store, now=NOW, by="ana@example.org")
        assert (rolled.target, rolled.previous, rolled.moved_by) == (
            targets[0],
            targets[1],
            "ana@example.org",
        )
        assert read_alias(alias_uri(publish, "champion"), store) is not None
        assert versions(publish, store) == ("v1", "v2")

    def test_a_store_that_ignores_conditions_moves_no_alias(self, tmp_path: Path) -> None:
        published(tmp_path, "v1")
        publish = (tmp_path / "publish").as_uri()

        class Heedless(LocalStore):
            def put(self, uri: str, data: bytes, *, condition: Condition | None = None) -> ObjectInfo:
                return super().put(uri, data)

        with pytest.raises(RequestError, match="does not honour conditional puts") as caught:
            set_alias(publish, "champion", "v1", Heedless(), now=NOW)
        assert caught.value.reason == "ConditionalPutsUnsupported"
        assert read_alias(alias_uri(publish, "champion"), stores(publish)) is None
        assert not (tmp_path / "publish" / "probes").exists(), "the probe leaves nothing"

    def test_alias_to_a_version_that_is_not_complete_is_refused_with_the_known_ones(
        self, tmp_path: Path
    ) -> None:
        published(tmp_path, "v1")
        publish = (tmp_path / "publish").as_uri()
        with pytest.raises(RequestError, match=r"\(last five\): v1") as caught:
            set_alias(publish, "champion", "v9", stores(publish), now=NOW)
        assert caught.value.reason == "VersionMissing"


class TestFetch:
    def test_local_model_is_read_in_place(self, tmp_path: Path) -> None:
        pin = resolver.pin(full_weights(tmp_path / "model"))
        local = fetch_model(pin, stores, tmp_path / "scratch")
        assert (local.folder, local.base, local.tokenizer) == (tmp_path / "model", None, tmp_path / "model")
        assert not (tmp_path / "scratch").exists()

    def test_adapter_comes_with_its_base_and_the_bases_tokenizer(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        pin = resolver.pin(adapter(tmp_path / "adapter", base))
        local = fetch_model(pin, stores, tmp_path / "scratch")
        assert (local.adapter, local.base, local.tokenizer) == (True, tmp_path / "base", tmp_path / "base")
        assert local.base_ref is not None
        assert local.base_ref.digest == resolver.pin(base).digest

    def test_model_that_changed_since_it_was_pinned_is_refused(self, tmp_path: Path) -> None:
        uri = full_weights(tmp_path / "model")
        pin = resolver.pin(uri)
        full_weights(tmp_path / "model", content=b"other")
        with pytest.raises(RequestError) as caught:
            fetch_model(pin, stores, tmp_path / "scratch")
        assert caught.value.reason == "ModelChanged"

    def test_weights_damaged_below_their_sums_are_refused(self, tmp_path: Path) -> None:
        full_weights(tmp_path / "source")
        target = (tmp_path / "target").as_uri()
        upload_folder(tmp_path / "source", target, stores(target))
        pin = resolver.pin(target)
        (tmp_path / "target" / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(TemporaryError, match=r"model\.safetensors has sha256"):
            fetch_model(pin, stores, tmp_path / "scratch")

    def test_tokenizer_of_an_adapter_is_read_from_its_base(self, tmp_path: Path) -> None:
        base = full_weights(tmp_path / "base")
        (tmp_path / "base" / "tokenizer.json").write_text('{"of": "base"}')
        pin = resolver.pin(adapter(tmp_path / "adapter", full_weights(tmp_path / "base2")))
        assert read_model_file(resolver.pin(base), "tokenizer.json", stores, tmp_path) == b'{"of": "base"}'
        assert read_model_file(pin, "tokenizer.json", stores, tmp_path) == b"{}"
        assert read_model_file(pin, "chat_template.jinja", stores, tmp_path) is None
