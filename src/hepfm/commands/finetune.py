"""`hepfm-data finetune`: from labelled jets to a tagger."""

import json
from pathlib import Path
from typing import Any

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import (
    Names,
    allow_missing_option,
    backbone_rate_option,
    columns_option,
    examples,
    json_option,
    learning_rate_option,
)
from hepfm.errors import InputError

_MOST = 10**9
# Test jets that the result is measured on right away; `evaluate` takes all.
_N_TEST = 20_000


@click.command(
    epilog=examples(
        "hepfm-data finetune hepfm/mpm-tiny my_jets.root --label jet_label",
        "hepfm-data finetune hepfm/mpm-tiny resim-jets --labels 1000 --mode frozen --classes QCD,Hbb",
        "hepfm-data finetune hepfm/mpm-tiny train.h5 --columns top-tagging --allow-missing",
        "hepfm-data finetune hepfm/mpm-tiny my_jets.root --label jet_sdmass --task regression",
        "hepfm-data finetune hepfm/mpm-tiny --weak signal_region.root sideband.root",
    )
)
@click.argument("checkpoint")
@click.argument("data", required=False)
@click.option("--label", default="jet_label", show_default=True, help="Column of jets to learn.")
@click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="Whether the labels are classes or numbers.",
)
@click.option(
    "--mode",
    type=click.Choice(["full", "frozen", "linear", "scratch"]),
    default="full",
    show_default=True,
    help="Train everything; the head only; one layer only; or everything from new weights, to compare with.",
)
@click.option("--labels", "n_labels", type=Whole(1, _MOST), help="Labelled jets to use.  [default: all]")
@click.option("--classes", type=Names(), help="Classes to tell apart, with commas between.  [default: all]")
@click.option(
    "--weak",
    nargs=2,
    metavar="MIXED_A MIXED_B",
    help="Two mixed samples instead of DATA and labels (CWoLa); A has more signal.",
)
@click.option("--out", type=LocalPath(), help="Folder of the result.  [default: runs/NETWORK-DATA-MODE]")
@columns_option
@click.option("--variation", help="Whose views to train on, or all.  [default: the first one]")
@click.option("--n-constituents", default=128, show_default=True, type=Whole(1, 10_000), help="Seen of a jet, at most.")
@allow_missing_option
@click.option("--rotate/--no-rotate", default=True, show_default=True, help="Turn and mirror jets about their axis.")
@click.option(
    "--validation-share", default=0.0, show_default=True, help="Of the labelled jets, which decide when to stop."
)
@click.option(
    "--epochs", "n_epochs", type=Whole(1, _MOST), help="Times each jet is seen.  [default: 40, of many jets 10]"
)
@click.option(
    "--patience", default=10, show_default=True, type=Whole(0, _MOST), help="Epochs without gain on those; 0: go on."
)
@click.option("--batch-size", type=Whole(1, _MOST), help="Jets a step.  [default: 16 to 256, by their number]")
@learning_rate_option
@backbone_rate_option
@click.option("--dropout", type=float, help="Of the backbone.  [default: by the mode]")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of matrix products."
)
@click.option("--seed", default=1, show_default=True, type=Whole(0, 2**31), help="Of all random numbers.")
@json_option
def finetune(
    checkpoint: str,
    data: str | None,
    label: str,
    n_labels: int | None,
    classes: tuple[str, ...] | None,
    weak: tuple[str, str] | None,
    out: Path | None,
    validation_share: float,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (the rest of the recipe)
) -> None:
    """Fine-tune the network CHECKPOINT to the labelled jets DATA.

    DATA is whatever hepfm.open opens, or a pattern of files ('train/*.root'). The result is a folder that
    AutoModelForSequenceClassification.from_pretrained loads, with recipe, curves and a model card. Jets of the test
    split train nothing; the result is measured on them. Running the same command again goes on after an interruption.
    """
    if (data is None) == (not weak):
        msg = "expected DATA, or --weak with two mixed samples. Give one of them."
        raise click.UsageError(msg)
    if settings["backbone_rate"] and settings["mode"] in ("linear", "frozen"):
        msg = f"--backbone-rate has no effect with --mode {settings['mode']}, which keeps the backbone. Leave it out."
        raise click.UsageError(msg)
    from hepfm.training.finetuning import Finetuning
    from hepfm.training.labels import Labels
    from hepfm.training.source import short_name

    sources = tuple(weak or ()) or (str(data),)
    names = "-".join(short_name(name) for name in (checkpoint, *sources))
    folder = out or Path("runs") / f"{names}-{settings['mode']}"
    labels = Labels(label, classes or (), n_labels or 0, validation_share)
    recipe = Finetuning(checkpoint, sources, labels=labels, **settings)
    answer = _run(recipe, folder)
    if as_json:
        click.echo(json.dumps(answer))
        return
    for note in answer["notes"]:
        click.echo(f"note: {note}", err=True)
    stopped = f", stopped by {answer['n_validation']:,}" * bool(answer["n_validation"])
    click.echo(f"{folder}: trained on {answer['n_training']:,} jets{stopped}.")
    if answer["test"]:
        click.echo(answer["test"])
    click.echo(f"hepfm-data predict {folder} DATA --out scores.parquet")


def _run(recipe: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401
    """Fine-tune, measure on the test split, write the card."""
    from hepfm import terminal
    from hepfm.cards.model_card import write_model_card
    from hepfm.run_folder import EVALUATION
    from hepfm.training.evaluation import Question, default_split, evaluate, write_evaluation
    from hepfm.training.finetune import finetune as fine_tune
    from hepfm.training.finetuning import ALL_VARIATIONS
    from hepfm.training.scoring import Tagger
    from hepfm.training.source import open_source
    from hepfm.training.wording import headline

    with terminal.conversion_bar() as report:
        done = fine_tune(
            recipe,
            folder,
            report=lambda step, n_steps, values: report(f"loss {values.get('loss', float('nan')):.3f}", step, n_steps),
        )
    notes, text, found = list(done.notes), "", None
    # Two mixed samples say nothing of their jets' classes.
    if len(recipe.data) == 1 and not (folder / EVALUATION).exists():
        dataset = open_source(recipe.data[0], recipe.columns)
        named = recipe.variation not in (None, ALL_VARIATIONS)
        variations = (recipe.variation,) if named else dataset.variations[:1]
        tagger = Tagger.load(str(folder), allow_missing=recipe.allow_missing)
        question = Question(recipe.labels.column, split=default_split(dataset, tagger.digests), variations=variations)
        try:
            with terminal.conversion_bar() as report:
                found = evaluate(tagger, dataset, question.limited(_N_TEST), report=report)
        except InputError as error:
            notes.append(f"not tested: {error}")
        else:
            write_evaluation(found, folder)
    if (folder / EVALUATION).exists():
        text = headline(json.loads((folder / EVALUATION).read_text(encoding="utf-8")))
    notes += write_model_card(folder).notes
    return {
        "folder": str(folder),
        "n_training": done.n_training,
        "n_validation": done.n_validation,
        "classes": list(Tagger(done.model).classes),
        "notes": notes,
        "test": text,
    }
