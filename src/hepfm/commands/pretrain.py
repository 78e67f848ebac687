"""`hepfm-data pretrain`: from jets without labels to a backbone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import Names, columns_option, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST = 10**9
_PUBLISHED = ("*.json", "*.jsonl", "*.md", "*.png", "*.toml", "*.safetensors")


@click.command(
    epilog=examples(
        "hepfm-data pretrain recipes/mpm-tiny.toml --data resim-jets --out runs/mpm-tiny",
        "hepfm-data pretrain recipes/rs3l-tiny.toml --data resim-jets --variations nominal,reseed",
        "hepfm-data pretrain recipes/mpm-tiny.toml --data jetclass.root --tokenizer runs/kmeans --steps 1000",
        "hepfm-data pretrain recipes/mpm-tiny.toml --data my_jets.root --checkpoint hepfm/mpm-tiny --steps 1000",
        "hepfm-data pretrain recipes/mpm-base.toml --data hepfm/resim-jets --push me/mpm-base",
        "hepfm-data pretrain recipes/mpm-rs3l-tiny.toml --data jetclass-jets --data resim-jets",
        "torchrun --nproc-per-node 4 -m hepfm.cli pretrain recipes/mpm-base.toml --data hepfm/resim-jets",
    )
)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    default=["resim-jets"],
    show_default=True,
    help="Whatever hepfm.open opens, or a pattern of files. May be given several times.",
)
@columns_option
@click.option("--out", type=LocalPath(), help="Folder of the run.  [default: runs/RECIPE]")
@click.option("--variations", type=Names(), help="Views that enter; RS3L takes the first for the nominal one.")
@click.option("--processes", type=Names(), help="Hard processes whose jets enter.  [default: all]")
@click.option("--checkpoint", help="Folder or name of a backbone to go on with.  [default: new weights]")
@click.option("--tokenizer", help="Folder or name of the tokenizer whose codes are to be found.")
@click.option("--steps", type=Whole(1, _MOST), help="Updates of the weights.  [default: the recipe's]")
@click.option("--batch-size", type=Whole(2, _MOST), help="Jets a step.  [default: the recipe's]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of products.  [default: the recipe's]")
@click.option("--seed", type=Whole(0, 2**31), help="Of all random numbers.  [default: the recipe's]")
@click.option("--tensorboard", is_flag=True, help="Write its files, too, into the run's folder.")
@click.option("--push", metavar="OWNER/NAME", help="Publish the finished backbone as a model on the Hub.")
@click.option("--private", is_flag=True, help="Only you may see it there.")
@json_option
def pretrain(
    recipe: Path,
    data: tuple[str, ...],
    columns: str | None,
    out: Path | None,
    variations: tuple[str, ...] | None,
    processes: tuple[str, ...] | None,
    checkpoint: str | None,
    tokenizer: str | None,
    tensorboard: bool,
    push: str | None,
    private: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (of the optimisation)
) -> None:
    """Pre-train a backbone as RECIPE, a TOML file, says.

    The result is a folder that AutoModel.from_pretrained loads, with the recipe, the data's digest and the curves.
    Running the same command again goes on after an interruption. Labels are read for a linear probe only.
    """
    from hepfm import terminal
    from hepfm.cards.model_card import write_model_card
    from hepfm.run_folder import read_metrics
    from hepfm.training.pretraining import PretrainingRecipe
    from hepfm.training.pretraining import pretrain as pre_train
    from hepfm.training.recipes import read_recipe
    from hepfm.training.run import is_leader
    from hepfm.training.source import open_source

    changes = {
        "data.variations": variations,
        "data.processes": processes,
        "backbone.checkpoint": checkpoint,
        "mpm.tokenizer": tokenizer,
        "optimisation.n_steps": settings.pop("steps"),
        **{f"optimisation.{name}": value for name, value in settings.items()},
    }
    wanted = read_recipe(PretrainingRecipe, recipe, **changes)
    folder = out or Path("runs") / recipe.stem
    with terminal.conversion_bar() as report:
        pre_train(
            wanted,
            [open_source(name, columns) for name in data],
            folder,
            report=lambda step, n_steps, values: report(f"loss {values.get('loss', float('nan')):.3f}", step, n_steps),
            tensorboard=tensorboard,
        )
    if not is_leader():
        return
    notes = write_model_card(folder, repo=push).notes
    found = _last(read_metrics(folder))
    url = _publish(folder, push, private=private) if push else None
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "metrics": found, "notes": list(notes), "url": url}))
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{folder}: " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found.items()))
    if url:
        click.echo(f'{url}\nAutoModel.from_pretrained("{push}") loads it.')
    click.echo(f"hepfm-data finetune {push or folder} DATA --label jet_label")


def _publish(folder: Path, repo: str, *, private: bool) -> str:
    """Send what a finished run is worth to others: no checkpoints, no logs of TensorBoard."""
    from hepfm.hub import publish_folder

    message = f"{folder.name}, pre-trained with hepfm"
    return publish_folder(
        folder, repo, sign="recipe.toml", kind="model", patterns=_PUBLISHED, private=private, message=message
    ).url


def _last(metrics: "Sequence[Mapping[str, float]]") -> dict[str, float]:
    """What was measured on the validation split at the end."""
    evaluations = [entry for entry in metrics if "validation_loss" in entry]
    return {name: value for name, value in evaluations[-1].items() if name != "step"} if evaluations else {}
