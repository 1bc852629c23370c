"""How much of the possible reward does the product's training reach? Exactly solvable: every text can be enumerated.

``make bench-frontier``. Policies write six letters out of six: 46,656 texts. The reference is a small Llama trained on
a random second-order source; the reward is known (random weights of letter pairs, standard deviation 1 under the
reference); pairs of the reference's texts are labelled by Bradley-Terry. The best policy at any distance KL from the
reference is known in closed form, π* ∝ π_ref · exp(r / β), so a trained policy is judged by the share of the reward
that was possible at its own KL. Training is the product's ``train`` stage, called as the executors call it.

Beside it stands what the same pairs give at the same KL to a learner who knows what no language model knows: that the
reward is a sum over letter pairs, how its weights are spread, and the reference's probability of every text. It finds
the likeliest weights and follows the best policy for them. Where it falls short, the pairs do not hold more.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_api.names import StageName
from alignment_api.spec import AlignmentRunSpec
from alignment_api.stage import RunIdentity, StageRequest
from alignment_api.status import Pins, SourcesPin
from alignment_trainer.data.rows import Kind, Pair, Place
from alignment_trainer.data.snapshot import write_split
from alignment_trainer.data.split import Side
from alignment_trainer.evaluation.models import load_frozen
from alignment_trainer.models.fetch import fetch_model
from alignment_trainer.models.resolve import Resolver
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage.folders import upload_folder
from alignment_trainer.storage.registry import Stores
from alignment_trainer.training.stage import run as train

LETTERS = "abcdef"
LENGTH = 6
PROMPT = ">"
EOS, PAD = "<eos>", "<pad>"
VOCABULARY = [*LETTERS, PROMPT, EOS, PAD]
GOALS = {500: 0.70, 2_000: 0.83, 5_000: 0.85, 20_000: 0.92}


@dataclass(frozen=True)
class World:
    """texts: all of them, (N, letters); logps: under the reference, nats; rewards: of each; folder: the reference model.

    features: what the reward is a sum of, (N, letter pairs), scaled so that its weights are standard normal.
    elsewhere: the reference's own probability of texts of another length.
    """

    folder: Path
    texts: torch.Tensor
    logps: torch.Tensor
    features: torch.Tensor
    rewards: torch.Tensor
    elsewhere: float

    def tilted(self, beta: float, rewards_N: torch.Tensor) -> tuple[float, float]:
        """KL and true reward of the best policy for these rewards at this strength of pull."""
        tilt_N = self.logps + rewards_N / beta
        logps_N = tilt_N - torch.logsumexp(tilt_N, 0)
        return self.judged(logps_N)

    def judged(self, logps_N: torch.Tensor) -> tuple[float, float]:
        """KL to the reference and expected reward of a policy."""
        policy_N = logps_N.exp()
        return float((policy_N * (logps_N - self.logps)).sum()), float((policy_N * self.rewards).sum())

    def best_reward(self, kl: float, rewards_N: torch.Tensor) -> float:
        """Expected true reward of the best policy for these rewards at this KL, by bisection over beta."""
        low, high = 1e-3, 1e3
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.tilted(middle, rewards_N)[0] > kl else (low, middle)
        return self.tilted(math.sqrt(low * high), rewards_N)[1]

    def likeliest_rewards(self, pairs: list[Pair]) -> torch.Tensor:
        """(N,) rewards by the likeliest weights of the letter pairs, given their true distribution and Bradley-Terry."""
        sides = ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        chosen, rejected = (torch.tensor([_number(text) for text in side]) for side in sides)
        gaps_PF = self.features[chosen] - self.features[rejected]
        weights_F = torch.zeros(gaps_PF.shape[1], dtype=gaps_PF.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights_F], max_iter=500, line_search_fn="strong_wolfe")

        def loss() -> Any:
            optimizer.zero_grad()
            value = -functional.logsigmoid(gaps_PF @ weights_F).sum() + weights_F.square().sum() / 2
            value.backward()
            return value

        optimizer.step(loss)
        return self.features @ weights_F.detach()

    def win_rate(self, logps_N: torch.Tensor, samples: int = 200_000) -> float:
        """True Bradley-Terry win rate against the reference, by independent draws."""
        generator = torch.Generator().manual_seed(7)
        ours = torch.multinomial(logps_N.exp().float(), samples, replacement=True, generator=generator)
        theirs = torch.multinomial(self.logps.exp().float(), samples, replacement=True, generator=generator)
        return float(torch.sigmoid(self.rewards[ours] - self.rewards[theirs]).mean())


def make_world(folder: Path, seed: int) -> World:
    """Train the reference on a random source and draw a reward."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            tie_word_embeddings=False,
            eos_token_id=VOCABULARY.index(EOS),
            pad_token_id=VOCABULARY.index(PAD),
            bos_token_id=None,
        )
    )
    size = len(LETTERS)
    source = torch.distributions.Dirichlet(torch.full((size,), 0.5)).sample((size, size))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(400):
        loss = -answer_logps(model, _draw_source(source, 512)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    texts_NL = torch.tensor(list(itertools.product(range(size), repeat=LENGTH)))
    logps_N, elsewhere = enumerate_policy(model.eval(), texts_NL)
    weights = torch.randn(size, size, generator=torch.Generator().manual_seed(seed + 1))
    letter_pairs = texts_NL[:, :-1] * size + texts_NL[:, 1:]
    counts_NF = functional.one_hot(letter_pairs, size * size).sum(1).double()
    raw_N = counts_NF @ weights.flatten().double()
    mean = (logps_N.exp() * raw_N).sum()
    deviation = (logps_N.exp() * (raw_N - mean) ** 2).sum().sqrt()
    return World(folder, texts_NL, logps_N, counts_NF / deviation, (raw_N - mean) / deviation, elsewhere)


def _number(text: str) -> int:
    """Place of a text among all texts."""
    place = 0
    for letter in text:
        place = place * len(LETTERS) + LETTERS.index(letter)
    return place


def _draw_source(source: torch.Tensor, count: int) -> torch.Tensor:
    size = len(LETTERS)
    texts = torch.zeros(count, LENGTH, dtype=torch.long)
    texts[:, :2] = torch.randint(size, (count, 2))
    for t in range(2, LENGTH):
        texts[:, t] = torch.multinomial(source[texts[:, t - 2], texts[:, t - 1]], 1)[:, 0]
    return texts


def answer_logps(model: Any, texts_NL: torch.Tensor) -> torch.Tensor:
    """Log-probability of each text and its end after the prompt, nats."""
    count = len(texts_NL)
    prompt = torch.full((count, 1), VOCABULARY.index(PROMPT))
    end = torch.full((count, 1), VOCABULARY.index(EOS))
    ids = torch.cat([prompt, texts_NL, end], 1)
    logps = functional.log_softmax(model(input_ids=ids[:, :-1], use_cache=False).logits.double(), -1)
    return logps.gather(2, ids[:, 1:, None])[..., 0].sum(1)


@torch.inference_mode()
def enumerate_policy(model: Any, texts_NL: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Log-probabilities over all texts, normalised, and the mass that lies on anything else (wrong lengths)."""
    logps_N = torch.cat([answer_logps(model, chunk) for chunk in texts_NL.split(8192)])
    total = torch.logsumexp(logps_N, 0)
    return logps_N - total, float(1 - total.exp())


def draw_pairs(world: World, count: int, seed: int) -> list[Pair]:
    """Pairs of the reference's own texts, labelled by Bradley-Terry."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.multinomial(
        world.logps.exp().float(), 2 * count, replacement=True, generator=generator
    ).view(2, -1)
    first_wins = torch.rand(count, generator=generator) < torch.sigmoid(
        world.rewards[draws[0]] - world.rewards[draws[1]]
    )
    chosen = torch.where(first_wins, draws[0], draws[1])
    rejected = torch.where(first_wins, draws[1], draws[0])
    words = ["".join(LETTERS[i] for i in row) for row in world.texts.tolist()]
    return [
        Pair(
            id=f"p{i}",
            place=Place("bench", i + 1),
            prompt=PROMPT,
            chosen=words[a],
            rejected=words[b],
            kind=Kind.PREFERENCE,
            group=f"g{i}",
        )
        for i, (a, b) in enumerate(zip(chosen.tolist(), rejected.tolist(), strict=True))
    ]


def train_product(
    world: World, pairs: list[Pair], training: dict[str, Any], scratch: Path
) -> tuple[Any, Any]:
    """The candidate of the product's train stage, and its record. training: ``spec.training`` as a person writes it."""
    stores = Stores()
    data = scratch / "data"
    data.mkdir(parents=True)
    write_split(pairs, data, Side.TRAIN)
    snapshot = upload_folder(data, (scratch / "snapshot").as_uri() + "/", stores(scratch.as_uri()))
    spec = AlignmentRunSpec.model_validate(
        {
            "model": {"uri": world.folder.as_uri() + "/"},
            "data": {"sources": [{"uri": "file:///none.jsonl"}]},
            "training": {"precision": "Float32", "maxLength": 16, **training},
            "publish": {"uri": (scratch / "models").as_uri() + "/"},
            "artifacts": {"uri": (scratch / "artifacts").as_uri() + "/"},
        }
    )
    pin = Resolver(stores).pin(spec.model.uri)
    request = StageRequest(
        stage=StageName.TRAIN,
        run=RunIdentity(name="frontier", uid="00000000-0000-0000-0000-000000000000"),
        spec=spec,
        pins=Pins(
            model=pin,
            champion=pin,
            champion_is_model=True,
            sources=SourcesPin(manifest="file:///none", digest=pin.digest, files=1, bytes=1),
        ),
        inputs={StageName.PREPARE: snapshot},
    )
    context = StageContext(request=request, store=stores, scratch=scratch, progress=_Quiet())
    with contextlib.redirect_stdout(io.StringIO()):
        result = train(context)
    local = fetch_model(result.output, stores, scratch / "fetched")
    record = json.loads((local.folder / "training.json").read_text(encoding="utf-8"))
    return load_frozen(local, spec.training.precision), record


class _Quiet:
    def update(self, step: int, steps: int, *, activity: str = "", metrics: Any = None) -> None:
        """Nobody watches."""


def _tokenizer() -> Any:
    bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(VOCABULARY)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    bpe.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=PAD)


def measure(world: World, count: int, seed: int, training: dict[str, Any]) -> dict[str, Any]:
    """One row: train on ``count`` pairs and judge the policy exactly."""
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="frontier-"))
    try:
        pairs = draw_pairs(world, count, 1000 * seed + count)
        model, record = train_product(world, pairs, {"seed": seed, **training}, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    logps_N, elsewhere = enumerate_policy(model, world.texts)
    kl, reward = world.judged(logps_N)
    possible = world.best_reward(kl, world.rewards)
    known = world.best_reward(kl, world.likeliest_rewards(pairs))
    schedule = record["schedule"]
    return {
        "pairs": count,
        "seed": seed,
        "kl": round(kl, 3),
        "reward": round(reward, 3),
        "possible": round(possible, 3),
        "share": round(reward / possible, 3),
        "shareKnowingTheForm": round(known / possible, 3),
        "winRate": round(world.win_rate(logps_N), 3),
        "elsewhere": round(elsewhere, 5),
        "elsewhereBefore": round(world.elsewhere, 5),
        "steps": schedule["steps"],
        "pairsPerStep": schedule["pairs_per_step"],
        "learningRate": schedule["learning_rate"],
        "beta": schedule["beta"],
        "seconds": round(time.monotonic() - began, 1),
    }


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {"lora": {}},
    "for wide models and long answers": {"lora": {}, "beta": 0.1, "learningRate": 1e-4, "epochs": 3},
}
"""The defaults follow width and answers; the others are what they are for a width of 4096 and hundreds of tokens."""


def main() -> None:
    """Print one line of JSON a run, then a table for each of the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--training", help="other changes to spec.training, JSON, instead of the two settings"
    )
    options = parser.parse_args()
    settings = {options.training: json.loads(options.training)} if options.training else SETTINGS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            world = make_world(Path(folder) / f"world-{seed}", seed)
            for name, training in settings.items():
                for count in options.pairs:
                    rows.append({"settings": name, **measure(world, count, seed, training)})
                    print(json.dumps(rows[-1]), flush=True)
    for name in settings:
        print(f"\n{name}\n\n" + table([row for row in rows if row["settings"] == name]))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds, as Markdown."""
    lines = [
        "| pairs | share of the possible reward (seeds) | goal | with the form known (seeds) | KL (nats) | true win rate | other texts (before) | steps × pairs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in sorted({row["pairs"] for row in rows}):
        some = [row for row in rows if row["pairs"] == count]
        mean = {
            key: sum(row[key] for row in some) / len(some)
            for key in ("share", "shareKnowingTheForm", "kl", "winRate", "elsewhere", "elsewhereBefore")
        }
        shares, known = (
            f"{mean[key]:.3f} ({min(r[key] for r in some):.2f}–{max(r[key] for r in some):.2f})"
            for key in ("share", "shareKnowingTheForm")
        )
        lines.append(
            f"| {count:,} | {shares} | {_goal(count, mean['share'])} | {known} | {mean['kl']:.2f} "
            f"| {mean['winRate']:.3f} | {mean['elsewhere']:.1%} ({mean['elsewhereBefore']:.1%}) | {some[0]['steps']} × {some[0]['pairsPerStep']} |"
        )
    return "\n".join(lines)


def _goal(count: int, share: float) -> str:
    goal = GOALS.get(count)
    if goal is None:
        return "–"
    return f"{goal:.2f}" if share >= goal else f"{goal:.2f}, missed"


if __name__ == "__main__":
    main()
