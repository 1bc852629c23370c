"""How far one model's next-token distributions are from another's, on given answers: exact, not sampled.

At each position of an answer the divergence is summed over the whole vocabulary, so that chance enters through the
positions alone (Rao-Blackwellised). Log-ratios of the sampled tokens would have the same mean, with far more noise and
below 0 at times, and only where the tokens are drawn at temperature 1.
P sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignment_trainer.evaluation.scoring import batches, padded, vocabulary

__all__ = ["Compared", "compare", "divergence"]

_LOGITS_AT_ONCE: Final = 2**25
"""Tokens times vocabulary: half a dozen arrays of 128 MiB live at a time."""


@dataclass(frozen=True)
class Compared:
    """Two models on the same sequences, one entry per sequence: nats, summed over answer tokens.

    second_logps: under the second model; divergences: KL(first || second) where the answer's tokens were chosen.
    """

    second_logps: NDArray[np.float64]
    divergences: NDArray[np.float64]


def compare(
    first: Any,
    second: Any,
    sequences: Sequence[tuple[list[int], int]],
    pad: int,
    between: Callable[[int], None],
) -> Compared:
    """Compare two models on (ids, start of the answer) sequences; both are run once.

    between: called with the number done, after each batch. Where the models' vocabularies differ in size there is no
    divergence: NaN.
    """
    import torch

    logps, divergences = np.zeros(len(sequences)), np.zeros(len(sequences))
    device = next(first.parameters()).device
    sizes = vocabulary(first), vocabulary(second)
    done = 0
    with torch.inference_mode():
        for batch in batches([len(ids) for ids, _ in sequences], max(sizes)):
            ids_PT, answer_PT = (array.to(device) for array in padded([sequences[i] for i in batch], pad))
            first_PTV = first(input_ids=ids_PT, use_cache=False).logits
            second_PTV = second(input_ids=ids_PT, use_cache=False).logits
            for row, index in enumerate(batch):
                at_T = answer_PT[row].nonzero()[:, 0]
                for some_T in at_T.split(max(1, _LOGITS_AT_ONCE // max(sizes))):
                    ours_TV, theirs_TV = first_PTV[row, some_T - 1], second_PTV[row, some_T - 1]
                    losses_T = torch.nn.functional.cross_entropy(
                        theirs_TV.float(), ids_PT[row, some_T], reduction="none"
                    )
                    logps[index] -= float(losses_T.double().sum())
                    divergences[index] += (
                        float(divergence(ours_TV, theirs_TV).sum()) if sizes[0] == sizes[1] else np.nan
                    )
            done += len(batch)
            between(done)
    return Compared(logps, divergences)


def divergence(first_TV: Any, second_TV: Any) -> Any:
    """KL(first || second) of the distributions that logits stand for, one per row: nats, float64, never below 0.

    Summed as q - p + p (log p - log q): the sum is that of p (log p - log q), every term is at least 0, and an error
    of the normalisers, which float32 has, cancels in the first order. 0 for equal logits.
    """
    import torch

    first_logps_TV = torch.log_softmax(first_TV.float(), -1)
    second_logps_TV = torch.log_softmax(second_TV.float(), -1)
    p_TV = first_logps_TV.exp()
    weighed_TV = torch.where(p_TV > 0, p_TV * (first_logps_TV - second_logps_TV), 0.0)  # 0 log 0 is 0
    return (second_logps_TV.exp() - p_TV + weighed_TV).clamp_min(0).sum(-1, dtype=torch.float64)
