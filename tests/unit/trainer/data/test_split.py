"""The split: a group keeps its side for ever, and nothing on the train side tells about the holdout."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from alignment_api.spec import HoldoutSpec
from alignment_trainer.data.leaks import prove_no_leak
from alignment_trainer.data.near import SIMILARITY, NearIndex, TemplateSample, shingles
from alignment_trainer.data.rows import Pair, Place
from alignment_trainer.data.split import Side, side_of
from alignment_trainer.errors import DataError
from support.preparing import Prepared, pair, prepared

WORDS = [
    f"{a}{b}"
    for a in ("ka", "lo", "mi", "nu", "re", "so", "ti", "vu")
    for b in ("ban", "dor", "fel", "gim", "hos", "jur")
]
HALF = {"fraction": 0.5, "salt": "s"}


def text(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(original: str, count: int, seed: int = 0) -> str:
    words = original.split()
    for place in random.Random(seed).sample(range(len(words)), count):
        words[place] = "changed"
    return " ".join(words)


def on(side: Side, prefix: str = "g") -> str:
    """A group that falls on a side."""
    spec = HoldoutSpec.model_validate(HALF)
    return next(f"{prefix}{n}" for n in range(100) if side_of(f"group:{prefix}{n}", spec) is side)


def both_sides(one: str, other: str, folder: Path) -> Prepared:
    """The same data with ``one`` in a train group and ``other`` in a held-out one."""
    rows = [
        pair(1, prompt=one, group=on(Side.TRAIN)),
        pair(2, prompt=other, group=on(Side.HOLDOUT)),
        *(pair(n, prompt=text(1000 + n), group=f"other{n}") for n in range(10, 40)),
    ]
    return prepared(folder, rows, holdout=HALF)


# Sides.


def test_the_fraction_of_groups_holds_within_sampling_error() -> None:
    for fraction in (0.05, 0.2, 0.5):
        spec = HoldoutSpec(fraction=fraction, salt="x")
        held = sum(side_of(f"group:{n}", spec) is Side.HOLDOUT for n in range(20_000)) / 20_000
        assert abs(held - fraction) < 4 * math.sqrt(fraction * (1 - fraction) / 20_000)


def test_a_known_group_stays_where_it_was_when_this_was_written() -> None:
    """The split is an on-disk format: a changed hash would mix every product's holdout into its training."""
    spec = HoldoutSpec(fraction=0.2, salt="notes-v1")
    sides = "".join(side_of(f"group:patient-{n}", spec)[0] for n in range(24))
    assert sides == "tttttthtttthttttttthtttt"


def test_another_salt_makes_another_holdout() -> None:
    one, two = (HoldoutSpec(fraction=0.5, salt=salt) for salt in ("a", "b"))
    assert any(side_of(f"group:{n}", one) != side_of(f"group:{n}", two) for n in range(20))


def test_a_larger_fraction_only_adds_to_the_holdout() -> None:
    small, large = HoldoutSpec(fraction=0.1), HoldoutSpec(fraction=0.3)
    for n in range(500):
        if side_of(f"group:{n}", small) is Side.HOLDOUT:
            assert side_of(f"group:{n}", large) is Side.HOLDOUT


def test_without_a_group_the_conversation_stays_together(tmp_path: Path) -> None:
    """A longer prompt that continues a conversation would leak if each prompt were split by itself."""
    rows = []
    for n in range(60):
        first = {"role": "user", "content": text(n)}
        for turns in range(3):
            prompt = [first]
            for turn in range(turns):
                prompt += [
                    {"role": "assistant", "content": f"Answer {n} {turn}"},
                    {"role": "user", "content": text(n + 500 * (turn + 1))},
                ]
            rows.append(
                {
                    "prompt": prompt,
                    "chosen": [{"role": "assistant", "content": f"Good {n} {turns}"}],
                    "rejected": [{"role": "assistant", "content": f"Bad {n} {turns}"}],
                }
            )
    found = prepared(tmp_path, rows)
    assert found.funnel.pairs == 180
    assert not {p.conversation for p in found.train} & {p.conversation for p in found.holdout}


def test_case_and_space_make_no_other_conversation(tmp_path: Path) -> None:
    rows = [pair(n, prompt=text(n)) for n in range(40)] + [
        pair(n + 100, prompt=f"  {text(n).upper()}\n") for n in range(40)
    ]
    for row in rows:
        del row["group"]
    found = prepared(tmp_path, rows, holdout=HALF)
    assert found.funnel.dropped == {}
    assert found.funnel.groups == 40


@pytest.mark.parametrize("prefix", ["a", "z"])
def test_a_copy_in_another_group_moves_no_held_out_pair_to_the_train_side(
    tmp_path: Path, prefix: str
) -> None:
    held = pair(1, group=on(Side.HOLDOUT, "m"))
    copy = pair(1, group=on(Side.TRAIN, prefix))
    for rows in ([held, copy], [copy, held]):
        found = prepared(tmp_path, rows, holdout=HALF)
        assert ([p.group for p in found.holdout], found.train) == ([held["group"]], [])
        assert found.funnel.duplicates == 1


def test_a_synthetic_copy_takes_no_pair_away_from_the_train_side(tmp_path: Path) -> None:
    """It would not be held out itself, so the pair would be on neither side."""
    synthetic = pair(1, group=on(Side.HOLDOUT, "a"), origin="synthetic")
    for kept in (pair(1, group=on(Side.TRAIN)), pair(1, group=on(Side.TRAIN, "B"), origin="synthetic")):
        rows = [synthetic, kept, *(pair(n) for n in range(10, 40))]
        found = prepared(tmp_path, rows, holdout=HALF, maximumSyntheticFraction=1)
        assert kept["group"] in {p.group for p in found.train}


def test_group_by_conversation_ignores_the_groups(tmp_path: Path) -> None:
    rows = [pair(n, prompt=text(7), group=f"g{n}") for n in range(20)]
    found = prepared(tmp_path, rows, holdout={"groupBy": "conversation"})
    assert found.funnel.groups == 1


# Leaks.


def test_a_prompt_in_groups_on_both_sides_leaves_the_train_side(tmp_path: Path) -> None:
    found = both_sides(text(1), text(1), tmp_path)
    assert found.reasons == {1: "leakPrompt"}


def test_a_nearly_identical_prompt_leaves_the_train_side(tmp_path: Path) -> None:
    found = both_sides(changed(text(1), 1), text(1), tmp_path)
    assert found.reasons == {1: "leakNearPrompt"}
    assert "nearly the same" in found.quarantine[0]["message"]


def test_a_different_prompt_stays(tmp_path: Path) -> None:
    assert both_sides(changed(text(1), 12), text(1), tmp_path).reasons == {}


def test_within_one_side_similar_prompts_stay(tmp_path: Path) -> None:
    rows = [pair(n, prompt=changed(text(1), 1, seed=n), group="one") for n in range(10)]
    assert prepared(tmp_path, rows).funnel.pairs == 10


def test_a_products_template_does_not_make_all_prompts_alike(tmp_path: Path) -> None:
    frame = text(99, words=120)
    rows = [pair(n, prompt=f"{frame} {text(n, words=15)} {frame}", group=f"g{n}") for n in range(200)]
    found = prepared(tmp_path, rows, holdout=HALF)
    assert found.funnel.pairs == 200
    near = [
        *rows,
        pair(900, prompt=f"{frame} {text(3, words=15)} extra {frame}", group=on(Side.TRAIN, "x")),
        pair(901, prompt=f"{frame} {text(3, words=15)} {frame}", group=on(Side.HOLDOUT, "y")),
    ]
    assert prepared(tmp_path, near, holdout=HALF).funnel.dropped


def pairs_of(*prompts: tuple[str, str]) -> list[Pair]:
    return [
        Pair(
            id=str(n),
            place=Place("file:///x", n),
            prompt=prompt,
            chosen=f"a{n}",
            rejected=f"b{n}",
            group=group,
        )
        for n, (prompt, group) in enumerate(prompts)
    ]


@pytest.mark.parametrize(
    ("train", "name"),
    [
        ((text(1), "other"), "leakPrompt"),
        ((changed(text(1), 1), "other"), "leakNearPrompt"),
        ((text(2), "held"), "leakGroup"),
    ],
)
def test_the_proof_refuses_a_snapshot_that_leaks(train: tuple[str, str], name: str) -> None:
    import numpy as np

    held = pairs_of((text(1), "held"), (text(5), "held"))
    nothing = np.zeros(0, dtype=np.uint64)
    prove_no_leak(pairs_of((text(2), "other")), held, nothing, HoldoutSpec(), lambda *_: None)
    with pytest.raises(DataError, match=name) as refused:
        prove_no_leak(pairs_of((text(3), "third"), train), held, nothing, HoldoutSpec(), lambda *_: None)
    assert refused.value.reason == "SplitLeaks"


# MinHash.


def jaccard(one: str, other: str) -> float:
    a, b = (set(shingles(t).tolist()) for t in (one, other))
    return len(a & b) / len(a | b)


def test_near_duplicates_are_found_as_their_true_similarity_says() -> None:
    """Far above the threshold nearly all are found, far below nearly none."""
    import numpy as np

    originals = [text(n, words=60) for n in range(300)]
    index = NearIndex(np.zeros(0, dtype=np.uint64))
    index.add(originals)
    index.finish()
    clear = [changed(t, 1, seed=n) for n, t in enumerate(originals)]
    far = [changed(t, 12, seed=n) for n, t in enumerate(originals)]
    assert min(jaccard(a, b) for a, b in zip(originals, clear, strict=True)) > SIMILARITY + 0.08
    assert max(jaccard(a, b) for a, b in zip(originals, far, strict=True)) < SIMILARITY - 0.15
    assert sum(index.near(clear)) > 0.95 * len(clear)
    assert sum(index.near(far)) <= 0.01 * len(far)
    assert all(index.near(originals))


def test_scripts_without_spaces_are_compared_by_character() -> None:
    one = "今日は天気が良いので公園まで歩いて行きました。とても楽しかったです。"
    assert jaccard(one, one.replace("公園", "海")) > 0.7
    assert jaccard(one, "明日の会議は中止になりましたので、資料は送らなくて結構です。") < 0.1


def test_the_template_sample_does_not_depend_on_order() -> None:
    import numpy as np

    prompts = [f"the shared frame of words {text(n, 8)}" for n in range(3000)]
    one, two = TemplateSample(), TemplateSample()
    for prompt in prompts:
        one.add(prompt)
    random.Random(1).shuffle(prompts)
    for prompt in prompts:
        two.add(prompt)
    assert np.array_equal(one.template(), two.template())
    assert set(shingles("the shared frame of words").tolist()) <= set(one.template().tolist())


# Synthetic pairs.


def test_synthetic_pairs_never_enter_the_holdout_and_are_capped_on_the_train_side(tmp_path: Path) -> None:
    rows = [pair(n) for n in range(100)] + [pair(n, origin="synthetic") for n in range(100, 400)]
    found = prepared(tmp_path, rows, maximumSyntheticFraction=0.25)
    assert all(not p.synthetic for p in found.holdout)
    assert sum(p.synthetic for p in found.train) == found.funnel.synthetic
    assert found.funnel.synthetic / found.funnel.train <= 0.25
    assert found.funnel.synthetic == int(sum(not p.synthetic for p in found.train) / 3)
    assert found.funnel.dropped["syntheticHoldout"] > 20
    assert found.funnel.dropped["syntheticCap"] > 100


def test_a_source_declared_synthetic_stays_so_whatever_its_rows_say(tmp_path: Path) -> None:
    from support.preparing import write_rows

    uri = write_rows(tmp_path / "s.jsonl", [pair(n, origin="human") for n in range(50)])
    found = prepared(tmp_path, sources=[{"uri": uri, "origin": "Synthetic"}], maximumSyntheticFraction=1.0)
    assert found.funnel.holdout == 0
    assert found.funnel.synthetic == found.funnel.train > 30


def test_new_human_pairs_only_add_to_the_synthetic_sample(tmp_path: Path) -> None:
    synthetic = [pair(n, origin="synthetic") for n in range(100, 400)]
    few = prepared(tmp_path, [*synthetic, *(pair(n) for n in range(50))], maximumSyntheticFraction=0.25)
    more = prepared(tmp_path, [*synthetic, *(pair(n) for n in range(90))], maximumSyntheticFraction=0.25)
    kept = [{p.pair_id for p in found.train if p.synthetic} for found in (few, more)]
    assert kept[0] < kept[1]


def test_of_equal_pairs_the_human_one_counts(tmp_path: Path) -> None:
    found = prepared(tmp_path, [pair(1, origin="synthetic"), pair(1)])
    assert found.reasons == {1: "duplicate"}
