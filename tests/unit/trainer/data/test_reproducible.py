"""The same sources give the same snapshot, byte for byte; what is added later moves nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_trainer.data.stage import run
from alignment_trainer.errors import DataError, Stopped, TemporaryError
from alignment_trainer.storage.local import LocalStore
from alignment_trainer.storage.store import ObjectInfo
from support.preparing import context, edit, pair, prepared, signal, write_rows


class Shuffled(LocalStore):
    """Lists in another order than every other store."""

    def list(self, pattern: str) -> Iterator[ObjectInfo]:
        found = list(super().list(pattern))
        random.Random(7).shuffle(found)
        return iter(found)


def rows() -> list[dict[str, Any]]:
    """Events, pairs, duplicates, contradictions, chains, synthetic pairs, cohorts."""
    out = [edit(n, actor=f"a{n % 5}", cohort=f"c{n % 2}") for n in range(150)]
    out += [
        edit(n, id=f"again{n}", response=edit(n)["edited"], edited=f"Final text {n} " * 4)
        for n in range(0, 60, 3)
    ]
    out += [pair(n) for n in range(80)] + [pair(n) for n in range(20)]
    out += [pair(n, chosen=pair(n)["rejected"], rejected=pair(n)["chosen"]) for n in range(10)]
    out += [pair(1000 + n, origin="synthetic") for n in range(200)]
    out += [signal("accept", n, "Soup") for n in range(20)] + [
        signal("thumbs_down", n, "Nails") for n in range(15)
    ]
    out += [{"signal": "edit"}, {"nothing": 1}]
    return out


def lay_out(folder: Path) -> dict[str, Any]:
    everything = rows()
    for number in range(6):
        write_rows(folder / "events" / f"day-{number}.jsonl.gz", everything[number::6])
    return {
        "sources": [{"uri": (folder / "events").as_uri() + "/*.jsonl.gz"}],
        "maximumInvalidFraction": 0.1,
        "maximumSyntheticFraction": 0.2,
    }


def files(folder: str) -> dict[str, bytes]:
    place = Path(folder.removeprefix("file://"))
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def prepare_in_a_process(
    folder: Path, scratch: Path, data: dict[str, Any], environment: dict[str, str]
) -> dict[str, bytes]:
    """A process of its own, as another machine would run it: other hash seed, time zone and locale."""
    code = (
        "import json, sys; from pathlib import Path; from support.preparing import context\n"
        "from alignment_trainer.data.stage import run\n"
        "folder, scratch, data = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])\n"
        "print(run(context(folder, scratch, **data)).output.uri)"
    )
    tests = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(scratch), json.dumps(data)],
        env=os.environ | {"PYTHONPATH": tests} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return files(done.stdout.strip())


def test_order_of_listing_process_and_scratch_change_no_byte(tmp_path: Path) -> None:
    data = lay_out(tmp_path)
    first = files(run(context(tmp_path, tmp_path / "one", **data)).output.uri)
    shuffled = Shuffled()
    second = files(run(context(tmp_path, tmp_path / "two", stores=lambda _: shuffled, **data)).output.uri)
    environment = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "OMP_NUM_THREADS": "2"}
    third = prepare_in_a_process(tmp_path, tmp_path / "three", data, environment)
    assert set(first) == {
        "SHA256SUMS",
        "holdout.parquet",
        "manifest.json",
        "quarantine.jsonl",
        "train.parquet",
    }
    assert first == second == third
    assert json.loads(first["manifest.json"])["funnel"]["dropped"]["syntheticCap"] > 0


def test_order_of_sources_in_the_spec_changes_no_pair(tmp_path: Path) -> None:
    everything = rows()
    sources = [{"uri": write_rows(tmp_path / f"{n}.jsonl", everything[n::3])} for n in range(3)]
    one = prepared(tmp_path, sources=sources)
    two = prepared(tmp_path, sources=sources[::-1])
    assert one.pairs == two.pairs
    assert one.quarantine == two.quarantine


def test_order_of_rows_changes_no_content_and_no_side(tmp_path: Path) -> None:
    everything = [row for row in rows() if row.get("signal") != "accept"]
    one = prepared(tmp_path, everything)
    random.Random(3).shuffle(everything)
    two = prepared(tmp_path, everything)
    assert {p.pair_id for p in one.train} == {p.pair_id for p in two.train}
    assert {p.pair_id for p in one.holdout} == {p.pair_id for p in two.holdout}
    assert one.funnel.dropped == two.funnel.dropped


def test_a_thousand_new_rows_move_no_group(tmp_path: Path) -> None:
    before = prepared(tmp_path, [edit(n, group=f"g{n % 90}") for n in range(300)])
    more = [edit(n, group=f"g{n % 400}") for n in range(1300)]
    after = prepared(tmp_path, more)
    assert len(before.sides) > 80
    assert {group: after.sides[group] for group in before.sides} == before.sides
    removed = prepared(tmp_path, [edit(n, group=f"g{n % 90}") for n in range(0, 300, 7)])
    assert {group: before.sides[group] for group in removed.sides} == removed.sides


def test_two_workers_of_one_run_write_the_same_folder(tmp_path: Path) -> None:
    data = lay_out(tmp_path)
    first = run(context(tmp_path, tmp_path / "one", **data))
    again = run(context(tmp_path, tmp_path / "one", **data))
    assert first.output == again.output
    assert first.pins == again.pins


def test_told_to_stop_it_stops_and_the_next_attempt_gives_the_same(tmp_path: Path) -> None:
    data = lay_out(tmp_path)
    expected = run(context(tmp_path, tmp_path / "one", **data)).output.digest
    stopped = context(tmp_path, tmp_path / "two", **data)
    stopped.stop.set()
    with pytest.raises(Stopped):
        run(stopped)
    assert run(context(tmp_path, tmp_path / "two", **data)).output.digest == expected


def test_a_source_that_changes_size_while_it_is_read_is_read_anew(tmp_path: Path) -> None:
    data = lay_out(tmp_path)

    class Growing(LocalStore):
        def list(self, pattern: str) -> Iterator[ObjectInfo]:
            for info in super().list(pattern):
                yield replace(info, size=info.size + 1)

    growing = Growing()
    with pytest.raises(TemporaryError, match="replaced while it was read") as refused:
        run(context(tmp_path, tmp_path / "one", stores=lambda _: growing, **data))
    assert refused.value.reason == "SourceChanged"


def test_a_run_that_stops_at_its_data_leaves_the_quarantine_and_no_snapshot(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "rows.jsonl", [pair(1), "no json", pair(2, weight=-1)])
    work = context(tmp_path, tmp_path / "one", sources=[{"uri": uri}])
    with pytest.raises(DataError, match="2 of 3 rows are invalid"):
        run(work)
    left = files(f"{work.request.folder}data/")
    assert set(left) == {"quarantine.jsonl"}
    assert [json.loads(line)["reason"] for line in left["quarantine.jsonl"].splitlines()] == [
        "NotJson",
        "WeightInvalid",
    ]


SENTENCE = (
    "criterion edits decides on 463 held-out pairs, worth about 211 independent ones: enough to show a change of editBurden "
    "of 0.0468 with 80 % power at alpha 0.00096; its minimumEffect of 0.02 beyond the limit of -0.005 needs about 1841. "
    "Expect Inconclusive unless the effect is larger"
)


def test_what_prepare_tells_fits_the_termination_message(tmp_path: Path) -> None:
    """Everything that can be told at once: Kubernetes takes 4096 bytes."""
    result = run(context(tmp_path, tmp_path / "one", **lay_out(tmp_path)))
    assert result.data is not None
    wordy = result.data.model_copy(
        update={
            "warnings": tuple(f"{n}: {SENTENCE}" for n in range(12)),
            "dropped": {f"someReasonNumber{n}": 1234 * n for n in range(30)},
            "redacted": {f"detector{n}": 99 * n for n in range(16)},
        }
    )
    assert len(result.model_copy(update={"data": wordy}).to_termination_message()) <= 4096
