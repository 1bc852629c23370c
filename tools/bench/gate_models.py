"""Does the default gate refuse what is no better, and release what is? Real small models in a world with a known truth.

``make bench-gate-models``. The world is the demo's clinic: a small base drafts notes, a simulated clinician edits them in
a hidden style. Each seed draws new drafts, edits and trainings; every fifth seed a new base. Candidates:

- the base itself; the base at another temperature; DPO with labels at random; DPO towards corrupted drafts ("anything but
  my drafts"); DPO towards longer drafts; DPO that hardly moves; DPO that breaks the language. None is better.
- the recipe for edits: supervised warm start, then gentle DPO. It is better.
- the base itself, drawn anew, before a judge who likes livelier text (less likely to the base). It is no better either.

Judged as the product judges: the same gathering, metrics, default criteria and gate, at the alpha of a single decision
(0.05, the easiest to pass) and at that of the 52 decisions a year (0.05/52). One JSON line a candidate goes to a file, so
that the seeds can be run in parts: ``--seeds 0 1 2``; ``--table FILE...`` prints the table.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_api.evidence import Evidence
from alignment_api.gate import decide
from alignment_api.metrics import MetricName
from alignment_api.spec import EvaluationSpec
from alignment_cli.demo.base import pretrain, sample
from alignment_cli.demo.settings import BaseRecipe
from alignment_cli.demo.world import broken_rules, draw_encounter, edit, prompt, unknown_words, write_note
from alignment_trainer.data.rows import Kind, Pair, Place
from alignment_trainer.evaluation.criteria import Alpha, gather_evidence
from alignment_trainer.evaluation.defaults import default_criteria
from alignment_trainer.evaluation.gathering import Gatherer, Seat
from alignment_trainer.evaluation.judges.base import Comparison, Judge, Judgement, Outcome, judgements
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.measurement import Measurement
from alignment_trainer.evaluation.metrics import measure
from alignment_trainer.evaluation.scoring import encode, score

TEMPERATURE = 0.8
TRAIN, HOLDOUT = 320, 160
BASES_FOR_SEEDS = 5
ALPHAS = {"single": 0.05, "weekly": 0.05 / 52}
SPEC = EvaluationSpec.model_validate(
    {"generation": {"prompts": HOLDOUT, "maxNewTokens": 80, "temperature": TEMPERATURE}}
)
JUDGED = EvaluationSpec.model_validate(
    {**SPEC.to_wire(), "judge": {"type": "RewardModel", "uri": "file:///lively/"}}
)
MAXIMUM = 256
"""Tokens of prompt and answer."""
GOOD = "warm start + DPO"
COPY_JUDGED = "copy, with a judge"


def make_base(folder: Path, number: int) -> Seat:
    """A base of the demo's kind, smaller."""
    rng = random.Random(f"base {number}")
    encounters = [draw_encounter(rng) for _ in range(8000)]
    examples = [(prompt(e), write_note(e, rng)) for e in encounters]
    pretrain(examples, folder, recipe=BaseRecipe(hidden=96, steps=450), seed=number)
    return Seat(
        LlamaForCausalLM.from_pretrained(folder).eval(), PreTrainedTokenizerFast.from_pretrained(folder)
    )


def make_pairs(folder: Path, seed: int) -> list[Pair]:
    """Drafts of the base and the clinician's edits of them; train side first."""
    rng = random.Random(f"pairs {seed}")
    pairs: list[Pair] = []
    while len(pairs) < TRAIN + HOLDOUT:
        encounters = [draw_encounter(rng) for _ in range(256)]
        prompts = [prompt(e) for e in encounters]
        drafts = sample(folder, prompts, temperature=TEMPERATURE, seed=1000 * seed + len(pairs), maximum=80)
        for encounter, asked, raw in zip(encounters, prompts, drafts, strict=True):
            draft = raw.strip()
            final = edit(draft)
            if draft and final != draft:
                place = Place("bench", len(pairs) + 1)
                pairs.append(
                    Pair(f"p{len(pairs)}", place, asked, final, draft, Kind.EDIT, group=encounter.patient)
                )
    return pairs[: TRAIN + HOLDOUT]


def train(
    base: Seat,
    pairs: list[Pair],
    rate: float,
    *,
    epochs: int = 1,
    sft: float = 0.0,
    dpo: float = 1.0,
    seed: int = 0,
    reference: Any = None,
) -> Any:
    """A copy of the base after DPO (weight ``dpo``) and a supervised term on the chosen side (weight ``sft``), 16 pairs a step."""
    torch.manual_seed(seed)
    reference = reference or base.model
    policy = copy.deepcopy(reference).train()
    optimizer = torch.optim.AdamW(policy.parameters(), rate)
    order = list(range(len(pairs)))
    for epoch in range(epochs):
        random.Random(f"{seed} {epoch}").shuffle(order)
        for start in range(0, len(order), 16):
            some = [pairs[i] for i in order[start : start + 16]]
            chosen, tokens = _logps(policy, base.tokenizer, some, "chosen")
            loss = -sft * chosen.sum() / tokens
            if dpo:
                rejected, _ = _logps(policy, base.tokenizer, some, "rejected")
                with torch.no_grad():
                    first, _ = _logps(reference, base.tokenizer, some, "chosen")
                    second, _ = _logps(reference, base.tokenizer, some, "rejected")
                loss = loss - dpo * functional.logsigmoid(0.1 * (chosen - first - rejected + second)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return policy.eval()


def _logps(model: Any, tokenizer: Any, pairs: list[Pair], side: str) -> tuple[torch.Tensor, int]:
    rows = [
        (tokenizer.encode(p.prompt), [*tokenizer.encode(getattr(p, side)), tokenizer.eos_token_id])
        for p in pairs
    ]
    width = max(len(a) + len(b) for a, b in rows)
    ids = torch.tensor([a + b + [tokenizer.pad_token_id] * (width - len(a) - len(b)) for a, b in rows])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, (a, b) in enumerate(rows):
        mask[row, len(a) : len(a) + len(b)] = True
    logps = functional.log_softmax(model(input_ids=ids[:, :-1], use_cache=False).logits, -1)
    taken = logps.gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    return taken.sum(1), int(mask.sum())


def scaled(model: Any, temperature: float) -> Any:
    """The same model at another temperature: the last norm's weight scales all logits."""
    other = copy.deepcopy(model)
    other.model.norm.weight.data /= temperature
    return other


def corrupted(text: str, pairs: list[Pair], rng: random.Random) -> str:
    """A draft with words of other notes at two places: an edit that nobody asked for."""
    words = text.split(" ")
    for _ in range(2):
        words[rng.randrange(len(words))] = rng.choice(rng.choice(pairs).rejected.split(" "))  # type: ignore[union-attr]
    return " ".join(words)


def candidates(base: Seat, pairs: list[Pair], seed: int) -> dict[str, Callable[[], Any]]:
    """Every candidate by name, trained when it is called."""
    rng = random.Random(f"tricks {seed}")

    def changed(make: Callable[[Pair], tuple[str, str]]) -> list[Pair]:
        return [Pair(p.id, p.place, p.prompt, *make(p), kind=Kind.EDIT, group=p.group) for p in pairs[:TRAIN]]

    swapped = changed(lambda p: (p.chosen, p.rejected) if rng.random() < 0.5 else (p.rejected, p.chosen))  # type: ignore[arg-type,return-value]
    away = changed(lambda p: (corrupted(str(p.rejected), pairs, rng), str(p.rejected)))
    longer = changed(lambda p: (f"{p.rejected} No red flags. Recheck in 1 week.", str(p.rejected)))
    honest = pairs[:TRAIN]

    def good() -> Any:
        warm = train(base, honest, 5e-4, epochs=2, sft=1.0, dpo=0.0, seed=seed)
        return train(base, honest, 5e-5, sft=0.2, seed=seed, reference=warm)

    return {
        "copy of the champion": lambda: base.model,
        "temperature 1.15": lambda: scaled(base.model, 1.15),
        "temperature 1.3": lambda: scaled(base.model, 1.3),
        "temperature 0.8": lambda: scaled(base.model, 0.8),
        "random labels": lambda: train(base, swapped, 2e-4, seed=seed),
        "anti-draft": lambda: train(base, away, 2e-4, seed=seed),
        "longer only": lambda: train(base, longer, 2e-4, seed=seed),
        "barely moved": lambda: train(base, honest, 5e-5, seed=seed),
        "broken": lambda: train(base, honest, 1e-3, epochs=2, seed=seed),
        GOOD: good,
    }


@dataclass(frozen=True)
class Lively:
    """A judge with a taste: of two texts it prefers the one that is less likely to the base, per token."""

    base: Seat

    def check(self, _prompts: Sequence[Any]) -> None:
        """Always there."""

    def compare(self, comparisons: Sequence[Comparison], between: Callable[[int], None]) -> list[Judgement]:
        """No ties but of equal texts."""
        ours, theirs = (
            self._losses([(c.prompt, getattr(c, side)) for c in comparisons])
            for side in ("candidate", "champion")
        )
        between(len(comparisons))
        return [
            Judgement(Outcome.JUDGED, 0.5 if a == b else float(a > b))
            for a, b in zip(ours, theirs, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """Not in a report."""
        return {}

    def _losses(self, texts: list[tuple[Any, str]]) -> list[float]:
        sequences = [encode(self.base.tokenizer, asked, text, MAXIMUM) for asked, text in texts]
        found = score(self.base.model, sequences, self.base.tokenizer.pad_token_id, lambda _: None)
        return list(-found.logps / found.tokens.clip(1))


def with_judge(material: Material, taste: Judge) -> Material:
    """The material, judged as the stage has it judged."""
    rows = zip(material.prompted, material.candidate, material.champion, strict=True)
    comparisons = [Comparison(material.pairs[i].prompt, a.text, b.text) for i, a, b in rows]
    return replace(material, judgements=judgements(taste, comparisons, lambda _: None))


def judge(material: Material) -> dict[str, Any]:
    """Verdicts at both alphas, with the numbers behind them."""

    @cache
    def measured(name: MetricName, selector: str) -> Measurement:
        return measure(name, material, selector)

    criteria = default_criteria(SPEC if material.judgements is None else JUDGED, edits=True)
    told: dict[str, Any] = {}
    for name, alpha in ALPHAS.items():
        evidence: Evidence = gather_evidence(criteria, measured, Alpha(alpha), comparable=True)
        verdict = decide((), evidence)
        told[name] = str(verdict.result)
        told[f"{name}Criteria"] = {v.name: str(v.result) for v in verdict.criteria}
    for metric in (
        "editBurden",
        "winRate",
        "preferenceAccuracy",
        "preferenceLift",
        "fluencyGap",
        "degenerateRate",
        "chosenLogRatio",
        "lengthRatio",
        "klPerToken",
    ):
        estimate = measured(MetricName(metric), "").estimate
        told[metric] = None if estimate is None else round(estimate.value, 4)
    notes = [g.text.strip() for g in material.candidate]
    told["inStyle"] = round(sum(not broken_rules(n) and not unknown_words(n) for n in notes) / len(notes), 3)
    return told


def run_seed(base: Seat, folder: Path, seed: int, out: Path) -> None:
    """All candidates of one seed."""
    pairs = make_pairs(folder, seed)
    held, words = pairs[TRAIN:], _words(pairs[:TRAIN])
    work = Gatherer(held, SPEC, maximum=MAXIMUM, seed=seed, words=words)
    view = work.champion(base)
    anew = Gatherer(held, SPEC, maximum=MAXIMUM, seed=seed + 1_000_000, words=words)

    def evaluated(make: Callable[[], Any]) -> Material:
        return work.candidate(Seat(make(), base.tokenizer), view, base)

    worlds: dict[str, Callable[[], Material]] = {
        name: partial(evaluated, make) for name, make in candidates(base, pairs, seed).items()
    }
    worlds[COPY_JUDGED] = lambda: with_judge(anew.candidate(base, view, base), Lively(base))
    for name, gather in worlds.items():
        began = time.monotonic()
        material = gather()
        row = {
            "seed": seed,
            "candidate": name,
            **judge(material),
            "seconds": round(time.monotonic() - began, 1),
        }
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({k: v for k, v in row.items() if not k.endswith("Criteria")}), flush=True)


def _words(pairs: list[Pair]) -> frozenset[str]:
    from alignment_trainer.evaluation.words import known_words  # noqa: PLC0415  here only

    return known_words(str(text) for p in pairs for text in (p.prompt, p.chosen, p.rejected))


def table(files: list[Path]) -> str:
    """How often each candidate was released, and its mean numbers, as Markdown."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["candidate"]].append(row)
    lines = [
        "| candidate | seeds | released at α 0.05 | released at α 0.05/52 | edit burden | win rate | preference accuracy | lift | fluency gap | KL per token | degenerate | in style |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, some in rows.items():
        released = [sum(r[alpha] == "Passed" for r in some) for alpha in ALPHAS]
        means = [
            _mean([r[k] for r in some])
            for k in (
                "editBurden",
                "winRate",
                "preferenceAccuracy",
                "preferenceLift",
                "fluencyGap",
                "klPerToken",
                "degenerateRate",
                "inStyle",
            )
        ]
        lines.append(f"| {name} | {len(some)} | {released[0]} | {released[1]} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{sum(known) / len(known):.3f}" if known else "–"


def main() -> None:
    """Run seeds, or print the table of what was run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    parser.add_argument("--out", type=Path, default=Path("bench-gate-models.jsonl"))
    parser.add_argument("--bases", type=Path, help="folder to keep the bases in, between parts")
    parser.add_argument(
        "--table", type=Path, nargs="+", help="print the table of these files and run nothing"
    )
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = options.bases or Path(scratch)
        for seed in options.seeds:
            number = seed // BASES_FOR_SEEDS
            folder = home / f"base-{number}"
            if (folder / "config.json").exists():
                base = Seat(
                    LlamaForCausalLM.from_pretrained(folder).eval(),
                    PreTrainedTokenizerFast.from_pretrained(folder),
                )
            else:
                base = make_base(folder, number)
            run_seed(base, folder, seed, options.out)
    print(table([options.out]))


if __name__ == "__main__":
    main()
