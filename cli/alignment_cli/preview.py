"""``align run --plan``: what a run would do, without doing any of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment_cli.output import Output, counted, emit, say, show
from alignment_cli.stores import open_stores, trainer_errors

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun

__all__ = ["preview"]


def preview(run: AlignmentRun, output: Output) -> None:
    """Resolve what moves, read the data as prepare would, and show the stages with what they would cost."""
    with trainer_errors(), tempfile.TemporaryDirectory() as folder:
        wire = _preview(run, Path(folder))
    if output is not Output.TEXT:
        emit(wire, output)
        return
    from alignment_api.status import Funnel
    from alignment_cli.view import funnel

    say(f"{run.metadata.name}: what would happen; nothing was done.\n")
    say(f"From:    {wire['model']['uri']}  {wire['model']['digest']}")
    champion = "the model itself (no champion yet)" if wire["championIsModel"] else wire["champion"]["uri"]
    say(f"To beat: {champion}\n")
    show(funnel(Funnel.model_validate(wire["data"])))
    schedule = wire["training"]
    say(
        f"Train:  {counted(schedule['steps'], 'step')} of {counted(schedule['pairsPerStep'], 'pair')}, "
        f"{counted(schedule['epochs'], 'epoch')}, learning rate {schedule['learningRate']:g}, beta {schedule['beta']:g}"
        + (", after a warm start" if run.spec.training.warm_start else "")
    )
    say(f"Gate:   {', '.join(wire['criteria'])}")
    for plan in wire["power"]:
        say(
            f"        {plan['metric']}: a change of {plan['shows']:.3f} or more can be shown, with 80 % power"
        )
    for warning in wire["warnings"]:
        say(f"        note: {warning}")
    say(f"Then:   publish to {run.spec.publish.uri} as {run.spec.publish.alias}, if the gate passes")


def _preview(run: AlignmentRun, folder: Path) -> dict[str, Any]:
    from pydantic.alias_generators import to_camel

    from alignment_trainer.data.assemble import Assembly, assemble
    from alignment_trainer.data.exclusions import EXCLUSIONS
    from alignment_trainer.data.lengths import fits
    from alignment_trainer.data.limits import refuse_too_few, refuse_too_many_invalid
    from alignment_trainer.data.split import Side
    from alignment_trainer.data.vocabulary import read_text
    from alignment_trainer.evaluation.defaults import default_criteria
    from alignment_trainer.evaluation.prompts import rests_on_edits
    from alignment_trainer.evaluation.sets import read_sets
    from alignment_trainer.models.fetch import read_model_file
    from alignment_trainer.models.resolve import pin_models
    from alignment_trainer.planning import plan_run
    from alignment_trainer.storage import uris
    from alignment_trainer.training.dataset import select_slice
    from alignment_trainer.training.schedule import make_schedule
    from alignment_trainer.training.traits import read_traits

    spec = run.spec
    stores = open_stores(spec.storage)
    pins = pin_models(spec, stores, remember=False)
    read_sets(spec.evaluation, stores)
    text = read_text(pins, stores, folder)
    erased = uris.join(spec.artifacts.uri, EXCLUSIONS)
    work = Assembly(
        store=stores,
        scratch=folder,
        exclusions=(erased,) if stores(erased).stat(erased) is not None else (),
        fits=fits(text, spec.training.max_length),
        special=text.special_tokens,
    )
    found = assemble(spec.data, work)
    refuse_too_many_invalid(found.account, spec.data)
    refuse_too_few(found.funnel, spec.data)
    train, _ = select_slice(list(found.sides.pairs(Side.TRAIN)), spec.training.selection_fraction)
    schedule = make_schedule(
        spec.training, read_traits(train, lambda name: read_model_file(pins.model, name, stores, folder))
    )
    sizes, edits = found.tally.group_sizes(Side.HOLDOUT), found.tally.held_out_edits
    criteria = spec.gate.criteria or default_criteria(
        spec.evaluation, edits=rests_on_edits(edits, sum(sizes))
    )
    plans, warnings = plan_run(spec, sizes, edits)
    return {
        "model": pins.model.to_wire(),
        "champion": pins.champion.to_wire(),
        "championIsModel": pins.champion_is_model,
        "stages": ["prepare", "train", "evaluate", "gate", "publish"],
        "data": found.funnel.to_wire(),
        "training": {to_camel(name): value for name, value in asdict(schedule).items()},
        "criteria": [criterion.name for criterion in criteria],
        "power": [
            {
                "criterion": p.criterion.name,
                "metric": str(p.criterion.metric),
                "shows": p.change,
                "passesAt": round(
                    p.criterion.limit + (p.passes_at if p.criterion.upwards else -p.passes_at), 4
                ),
            }
            for p in plans
        ],
        "warnings": list(warnings),
    }
