"""Takes a subject out of everything that runs have stored, and keeps it out of all later runs.

In this order, so that a stop in between leaves nothing undone unsaid and the same call again finishes it:

1. the exclusion, ``<artifacts>/exclusions.jsonl``, which every later prepare below these artifacts reads
2. evaluations: generations, scores and the examples of reports
3. snapshots: the subject's pairs leave both sides, which ``erased.jsonl`` remembers without their names; what stays is
   not changed
4. caches derived from texts (reference log-probabilities, judge answers): emptied, they are made anew

Models are not changed: what they learned cannot be taken out. The answer names those that learned from the subject.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from alignment_api.base import StatusModel
from alignment_api.names import StageName
from alignment_trainer.data.exclusions import EXCLUSIONS, add_exclusions
from alignment_trainer.data.rows import plain
from alignment_trainer.data.snapshot import described_files, read_split, write_split
from alignment_trainer.data.split import Side
from alignment_trainer.publishing.retention import run_folders
from alignment_trainer.storage import uris
from alignment_trainer.storage.folders import SUMS, delete_folder, list_folder, upload_folder
from alignment_trainer.storage.store import ObjectStore
from alignment_trainer.subjects.erased import ERASED, ErasedPair, erased_text, read_erased
from alignment_trainer.subjects.subject import Kind, Subject, marks_of
from alignment_trainer.subjects.trace import Trace, snapshot_rows, trace

__all__ = ["Erasure", "erase"]

StoreOf = Callable[[str], ObjectStore]
_CACHES: Final = ("reference", "judge")


class Erasure(StatusModel):
    """What was done. trace: what there was before; pairs: taken out of snapshots; models: what learned from the subject."""

    trace: Trace
    exclusions: str
    pairs: int
    snapshots: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()
    cached: int = 0
    candidates: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


def erase(
    artifacts_uri: str,
    subject: Subject,
    stores: StoreOf,
    scratch: Path,
    *,
    publish_uris: tuple[str, ...] = (),
) -> Erasure:
    """Erase a subject. scratch: an empty local folder. Raises RequestError, TemporaryError as stores do."""
    exclusions = uris.join(artifacts_uri, EXCLUSIONS)
    before = trace(artifacts_uri, subject, stores, publish_uris=publish_uris)
    names = [{str(kind): name for kind in sorted(subject.kinds)} for name in sorted(subject.names)]
    add_exclusions(exclusions, [*names, *_rows_of_pairs(before, subject)], stores(exclusions))
    holding = {run.run: {pair.pair_id for pair in run.pairs} for run in before.runs if run.pairs}
    snapshots, evaluations = [], []
    for run in sorted(holding.keys() | set(_interrupted(artifacts_uri, stores))):
        # The evaluation first: it is the snapshot that tells whose texts are in it.
        snapshot, evaluation = (uris.join(run, name) + "/" for name in ("data", "evaluation"))
        if _erase_evaluation(snapshot, evaluation, holding.get(run, set()), stores, scratch):
            evaluations.append(evaluation)
        _erase_snapshot(snapshot, holding.get(run, set()), stores, scratch / "snapshot")
        snapshots.append(snapshot)
    cached = 0
    for name in _CACHES:
        folder = uris.join(artifacts_uri, "cache", name) + "/"
        cached += delete_folder(stores(folder), folder)
    return Erasure(
        trace=before,
        exclusions=exclusions,
        pairs=sum(len(run.pairs) for run in before.runs),
        snapshots=tuple(snapshots),
        evaluations=tuple(evaluations),
        cached=cached,
        candidates=tuple(run.candidate for run in before.runs if run.affected and run.candidate is not None),
        versions=before.affected_versions,
    )


def _rows_of_pairs(found: Trace, subject: Subject) -> list[dict[str, str]]:
    """Exclusions of the rows behind pairs that are named by their own id: with them goes what else they would make."""
    pairs = (pair for run in found.runs for pair in run.pairs if pair.pair_id in subject.names)
    return [{str(Kind.ID): name} for name in sorted({name for pair in pairs for name in pair.event_ids})]


def _interrupted(artifacts_uri: str, stores: StoreOf) -> Iterator[str]:
    """Runs whose prepare ended well and whose snapshot is not whole: an erasure was stopped while it rewrote it."""
    for run in run_folders(artifacts_uri, stores):
        store = stores(run.uri)
        names = list_folder(store, uris.join(run.uri, "data"))
        done = store.stat(uris.join(run.uri, "results", f"{StageName.PREPARE}.json")) is not None
        if done and "manifest.json" in names and SUMS not in names:
            yield run.uri


def _erase_snapshot(uri: str, pair_ids: set[str], stores: StoreOf, folder: Path) -> None:
    """Rewrite a snapshot without these pairs."""
    store = stores(uri)
    _download(uri, store, folder)
    if pair_ids:
        gone = [
            ErasedPair(side, marks_of(row))
            for side in Side
            for row in snapshot_rows(f"{uri}{side}.parquet", stores)
            if row["pair_id"] in pair_ids
        ]
        (folder / ERASED).write_bytes(erased_text([*read_erased(uri, stores), *gone]))
        # Before a pair leaves: a stop in between must not make a model look as if it had never learned from it.
        store.upload(folder / ERASED, uris.join(uri, ERASED))
    rewritten = folder / "rewritten"
    rewritten.mkdir()
    for side in Side:
        kept = (pair for pair in read_split(folder, side) if pair.pair_id not in pair_ids)
        write_split(kept, rewritten, side).replace(folder / f"{side}.parquet")
    rewritten.rmdir()
    path = folder / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"] = described_files(folder)
    manifest["erasedPairs"] = manifest["funnel"]["pairs"] - sum(
        1 for side in Side for _ in read_split(folder, side)
    )
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    upload_folder(folder, uri, store)
    shutil.rmtree(folder)


def _erase_evaluation(snapshot: str, uri: str, pair_ids: set[str], stores: StoreOf, scratch: Path) -> bool:
    """Rewrite an evaluation without the texts and scores of these pairs; False when it holds none of them."""
    store = stores(uri)
    stored = list_folder(store, uri)
    if not stored:
        return False
    folder = scratch / "evaluation"
    _download(uri, store, folder)
    scrub = _Scrub(pair_ids, _prompts(snapshot, pair_ids, stores, scratch / "holdout"))
    changed = [
        _SCRUBBERS[path.suffix](scrub, path) for path in sorted(folder.iterdir()) if path.suffix in _SCRUBBERS
    ]
    wanted = any(changed) or SUMS not in stored  # without its sums it is one that was being rewritten
    if wanted:
        report = folder / "report.json"
        if report.exists():
            from alignment_trainer.evaluation.rerender import rerendered

            page = folder / "report.html"
            try:
                page.write_text(rerendered(json.loads(report.read_text(encoding="utf-8"))), encoding="utf-8")
            except ValidationError:  # of an earlier version of the product; the page is only a view of it
                page.unlink(missing_ok=True)
        upload_folder(folder, uri, store)
    shutil.rmtree(folder)
    return wanted


def _prompts(snapshot: str, pair_ids: set[str], stores: StoreOf, folder: Path) -> set[str]:
    """Prompts of the held-out ones of these pairs: an evaluation's examples are told by them."""
    uri = f"{snapshot}{Side.HOLDOUT}.parquet"
    if not pair_ids or stores(uri).stat(uri) is None:
        return set()
    stores(uri).download(uri, folder / f"{Side.HOLDOUT}.parquet")
    found = {plain(pair.prompt) for pair in read_split(folder, Side.HOLDOUT) if pair.pair_id in pair_ids}
    shutil.rmtree(folder)
    return found


@dataclass(frozen=True)
class _Scrub:
    """Takes out what is about these pairs, told by id or by prompt. Each method returns whether a file changed."""

    pair_ids: set[str]
    prompts: set[str]

    def concerns(self, item: Any) -> bool:
        """True for an object about one of the pairs."""
        if not isinstance(item, dict):
            return False
        prompt = item.get("prompt")
        return item.get("pairId") in self.pair_ids or (
            isinstance(prompt, str | list) and plain(prompt) in self.prompts
        )

    def value(self, value: Any) -> Any:
        """A JSON value without the objects about these pairs in its lists."""
        if isinstance(value, list):
            return [self.value(item) for item in value if not self.concerns(item)]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def json(self, path: Path) -> bool:
        """One JSON value."""
        before = json.loads(path.read_text(encoding="utf-8"))
        after = self.value(before)
        if after != before:
            path.write_text(json.dumps(after, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return bool(after != before)

    def lines(self, path: Path) -> bool:
        """One JSON object a line."""
        # Not splitlines(): generated texts may hold characters that Python takes for the end of a line.
        before = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        after = [line for line in before if line.strip() and not self.concerns(json.loads(line))]
        if after != before:
            path.write_text("".join(f"{line}\n" for line in after), encoding="utf-8")
        return after != before

    def parquet(self, path: Path) -> bool:
        """Rows with a pair_id."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        if "pair_id" not in table.column_names:
            return False
        gone = pc.is_in(table["pair_id"], value_set=pa.array(sorted(self.pair_ids), pa.string()))
        left = table.filter(pc.invert(gone))
        if left.num_rows != table.num_rows:
            pq.write_table(left, path)
        return bool(left.num_rows != table.num_rows)


_SCRUBBERS: Final[dict[str, Callable[[_Scrub, Path], bool]]] = {
    ".json": _Scrub.json,
    ".jsonl": _Scrub.lines,
    ".parquet": _Scrub.parquet,
}


def _download(uri: str, store: ObjectStore, folder: Path) -> None:
    """A copy of a stored folder that may be changed."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in list_folder(store, uri):
        if name != SUMS:
            store.download(uris.join(uri, name), folder / name)
