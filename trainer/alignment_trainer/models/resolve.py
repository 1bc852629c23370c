"""From a model URI to a pin: which folder, with which content. Called by prepare, once per run.

Aliases and hub branches move; a pin does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alignment_api.spec import AlignmentRunSpec, JudgeType
from alignment_api.status import ModelPin
from alignment_trainer.errors import RequestError
from alignment_trainer.models import hub
from alignment_trainer.models.aliases import alias_uri, is_alias, read_alias
from alignment_trainer.models.digests import model_sums
from alignment_trainer.models.folder import BASE, ModelFolder, inspect_folder, parse_base
from alignment_trainer.storage import uris
from alignment_trainer.storage.store import ObjectStore

__all__ = ["ModelPins", "Resolver", "digest_cache", "pin_models"]

StoreOf = Callable[[str], ObjectStore]


@dataclass(frozen=True)
class ModelPins:
    """The parts of ``Pins`` that are about models."""

    model: ModelPin
    champion: ModelPin
    champion_is_model: bool
    alias_etag: str | None
    judge: ModelPin | None


def digest_cache(spec: AlignmentRunSpec) -> str:
    """Folder URI where computed digests are kept between runs."""
    return uris.join(spec.artifacts.uri, "cache", "digests") + "/"


def pin_models(spec: AlignmentRunSpec, stores: StoreOf, *, remember: bool = True) -> ModelPins:
    """Pin model, champion, judge and publish alias of a spec. remember: keep computed digests among the artifacts.

    The champion is what the spec names, otherwise what the publish alias holds: nothing replaces a released model that
    was not compared with it. While that does not exist, it is the model itself. The publish alias is read first: if it is also the champion and moves in between, publishing will find
    that it moved, and never the other way round.
    """
    resolver = Resolver(stores, digest_cache(spec), remember=remember)
    published = alias_uri(spec.publish.uri, spec.publish.alias)
    present = read_alias(published, stores(published))
    model = resolver.pin(spec.model.uri)
    judge = spec.evaluation.judge
    named = spec.evaluation.champion
    champion = resolver.pin_if_exists(named.uri if named is not None else published)
    return ModelPins(
        model=model,
        champion=champion or model,
        champion_is_model=champion is None,
        alias_etag=present[1] if present else None,
        judge=resolver.pin(judge.uri) if judge.type is JudgeType.REWARD_MODEL and judge.uri else None,
    )


class Resolver:
    """Pins model URIs.

    cache: folder URI for digests that had to be computed; None computes them each time. remember: False reads the
    cache and leaves it as it is.
    """

    def __init__(self, stores: StoreOf, cache: str | None = None, *, remember: bool = True) -> None:
        self._stores = stores
        self._cache = cache
        self._remember = remember

    def pin(self, uri: str) -> ModelPin:
        """Pin a model. Raises RequestError, with the remedy, for what is missing or cannot be used."""
        found = self.pin_if_exists(uri)
        if found is None:
            raise RequestError(
                f"Alias {uri} does not exist; name a model folder, or publish a first version under it.",
                reason="AliasMissing",
            )
        return found

    def pin_if_exists(self, uri: str) -> ModelPin | None:
        """Like :meth:`pin`, but None for an alias that does not exist yet."""
        if uri.startswith(hub.SCHEME):
            return hub.pin(uri)
        if not is_alias(uri):
            return self._pin_folder(uri)
        found = read_alias(uri, self._stores(uri))
        if found is None:
            return None
        alias, etag = found
        pin = self._pin_folder(alias.target.uri)
        if pin.digest != alias.target.digest:
            raise RequestError(
                f"{alias.target.uri} has digest {pin.digest}, alias {uri} says {alias.target.digest}: the version was "
                "changed after it was published. Restore it, or set the alias to another version (align alias set).",
                reason="VersionChanged",
            )
        return pin.model_copy(update={"alias": uri, "etag": etag, "version": alias.target.version})

    def _pin_folder(self, uri: str) -> ModelPin:
        store = self._stores(uri)
        folder = inspect_folder(uri, store)
        if folder.adapter:
            self._require_base(folder.uri, store)
        return self._pin_files(folder, store)

    def _pin_files(self, folder: ModelFolder, store: ObjectStore) -> ModelPin:
        cache_store = self._stores(self._cache) if self._cache else None
        found = model_sums(folder, store, cache=self._cache, cache_store=cache_store, remember=self._remember)
        version = uris.name(folder.uri) if uris.name(uris.parent(folder.uri)) == "versions" else None
        return ModelPin(uri=folder.uri, digest=found.digest, version=version)

    def _require_base(self, folder: str, store: ObjectStore) -> None:
        place = uris.join(folder, BASE)
        base = parse_base(store.get(place)[0], place)
        pin = self._pin_base(base.uri, place)
        if base.digest is None:
            raise RequestError(
                f'{place} has no digest; the base has {pin.digest} now. If that is the one, add "digest": "{pin.digest}".',
                reason="BaseInvalid",
            )
        if pin.digest != base.digest:
            raise RequestError(
                f"{place} asks for base {base.uri} with digest {base.digest}, there is {pin.digest}: "
                "the base was changed. Restore it, or train the adapter anew.",
                reason="BaseChanged",
            )

    def _pin_base(self, uri: str, place: str) -> ModelPin:
        """Pin what an adapter lies on: full weights, by a URI that does not move."""
        if uri.startswith(hub.SCHEME):
            pin = hub.pin(uri)
            if pin.uri != uri.rstrip("/"):
                raise RequestError(
                    f"{place} names {uri}, which may move; write the commit: {pin.uri}.", reason="BaseInvalid"
                )
            return pin
        store = self._stores(uri)
        if is_alias(uri):
            raise RequestError(
                f"{place} names the alias {uri}, which moves; name the version folder that it points to.",
                reason="BaseInvalid",
            )
        folder = inspect_folder(uri, store)
        if folder.adapter:
            raise RequestError(
                f"{place} names {uri}, which is an adapter itself; merge that one into its base and name the result, or "
                "train the adapter on the full weights.",
                reason="BaseInvalid",
            )
        return self._pin_files(folder, store)
