"""`hepfm-data tokenizer`: train one, measure it, and add its ids to jets."""

import json
from pathlib import Path
from typing import Any

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import columns_option, examples, json_option

_MOST = 10**9
_MOST_CODES = 1 << 20


@click.group()
def tokenizer() -> None:
    """Turn the constituents of jets into codes, and back: VQ-VAE, grids, residual codes, K-means."""


@tokenizer.command(
    epilog=examples(
        "hepfm-data tokenizer train recipes/vqvae-512.toml --data resim-jets --out runs/vqvae-512",
        "hepfm-data tokenizer train --data resim-jets --codes 1024 --steps 20000",
        "hepfm-data tokenizer train recipes/kmeans-512.toml --data jetclass.root",
        "torchrun --nproc-per-node 2 -m hepfm.cli tokenizer train recipes/vqvae-8192.toml --data resim-jets",
    )
)
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option("--data", default="resim-jets", show_default=True, help="Whatever hepfm.open opens.")
@columns_option
@click.option("--out", type=LocalPath(), help="Folder of the run.  [default: runs/RECIPE]")
@click.option("--codes", type=Whole(2, _MOST_CODES), help="How many different codes.  [default: the recipe's, or 512]")
@click.option("--steps", type=Whole(1, _MOST), help="Updates of the weights.  [default: the recipe's, or 20,000]")
@click.option("--batch-size", type=Whole(1, _MOST), help="Jets a step.  [default: the recipe's]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of products.  [default: the recipe's]")
@click.option("--seed", type=Whole(0, 2**31), help="Of all random numbers.  [default: the recipe's]")
@click.option("--tensorboard", is_flag=True, help="Write its files, too, into the run's folder.")
@json_option
def train(
    recipe: Path | None,
    data: str,
    columns: str | None,
    out: Path | None,
    codes: int | None,
    steps: int | None,
    tensorboard: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (of the optimisation)
) -> None:
    """Train a tokenizer as RECIPE, a TOML file, says; without one, a VQ-VAE of the usual size.

    The result is a folder that ParticleTokenizer.from_pretrained loads, with the recipe, the data's digest and the
    curves. Running the same command again goes on after an interruption.
    """
    import hepfm
    from hepfm import terminal
    from hepfm.cards.tokenizer_card import EVALUATION, write_tokenizer_card
    from hepfm.run_folder import read_metrics
    from hepfm.training.recipes import make_recipe, read_recipe
    from hepfm.training.run import is_leader
    from hepfm.training.tokenizer import TokenizerRecipe, train_tokenizer

    changes = {
        "tokenizer.n_codes": codes,
        "optimisation.n_steps": steps,
        **{f"optimisation.{name}": value for name, value in settings.items()},
    }
    if recipe is None:
        usual: dict[str, Any] = {"optimisation": {"n_steps": 20_000, "precision": "bf16", "evaluate_every": 2000}}
        wanted = make_recipe(TokenizerRecipe, usual, "the usual recipe", **changes)
    else:
        wanted = read_recipe(TokenizerRecipe, recipe, **changes)
    folder = out or Path("runs") / (recipe.stem if recipe else f"vqvae-{wanted.tokenizer.n_codes}")
    with terminal.conversion_bar() as report:
        train_tokenizer(
            wanted,
            hepfm.open(data, columns=columns),
            folder,
            report=lambda step, n_steps, values: report(f"loss {values.get('loss', float('nan')):.3f}", step, n_steps),
            tensorboard=tensorboard,
        )
    if not is_leader():
        return
    notes = write_tokenizer_card(folder)
    logged = [entry for entry in read_metrics(folder) if "validation_jet_pt" in entry]
    found = {name: value for name, value in logged[-1].items() if name != "step"} if logged else {}
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "metrics": found}))
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if found:
        click.echo("robust sigma of the errors of validation jets (pt relative, masses in GeV), and use of the codes:")
    for name, value in found.items():
        click.echo(f"{name.removeprefix('validation_').replace('_', ' '):24} {value:.4g}")
    click.echo(f"hepfm-data tokenizer evaluate {folder} {data} --out {folder / EVALUATION}")


@tokenizer.command(
    epilog=examples(
        "hepfm-data tokenizer evaluate runs/vqvae-512 resim-jets --out runs/vqvae-512/evaluation",
        "hepfm-data tokenizer evaluate hepfm/vqvae-512 jetclass.root --split all --json",
    )
)
@click.argument("checkpoint")
@click.argument("data")
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Which jets.",
)
@click.option("--variation", help="Whose views.  [default: the first one]")
@click.option("--n-jets", default=20_000, show_default=True, type=Whole(1, _MOST), help="At most so many, at random.")
@click.option("--two-sample/--no-two-sample", default=True, show_default=True, help="Train a classifier to tell them.")
@click.option(
    "--out",
    type=LocalPath(file_okay=False, writable=True),
    help="Folder for evaluation.json and figures; if CHECKPOINT/evaluation, its card follows.",
)
@columns_option
@json_option
def evaluate(
    checkpoint: str,
    data: str,
    split: str,
    variation: str | None,
    n_jets: int,
    two_sample: bool,
    out: Path | None,
    columns: str | None,
    as_json: bool,
) -> None:
    """Measure what the codes of CHECKPOINT keep of the jets DATA.

    Errors of constituents and of jets, by class and by rank; use of the codes; and how well a classifier tells decoded
    jets from true ones.
    """
    import hepfm
    from hepfm import terminal
    from hepfm.run_folder import write_json
    from hepfm.tokenizers import ParticleTokenizer
    from hepfm.training.tokenizer import Question, evaluate_tokenizer

    question = Question(None if split == "all" else split, variation, n_jets, two_sample)
    network, dataset = ParticleTokenizer.from_pretrained(checkpoint), hepfm.open(data, columns=columns)
    if out is not None:
        # Before the work: its result would be lost.
        out.mkdir(parents=True, exist_ok=True)
    found, made = evaluate_tokenizer(network, dataset, question)
    found = {"checkpoint": checkpoint} | found
    if out is not None:
        from hepfm.cards.tokenizer_card import EVALUATION, write_tokenizer_card
        from hepfm.cards.tokenizer_figures import write_figures
        from hepfm.run_folder import ORIGIN, RECIPE
        from hepfm.training.reconstruction import constituent_errors, jet_errors

        write_json(out / "evaluation.json", found)
        write_figures(made, constituent_errors(made) | jet_errors(made), out)
        run = Path(checkpoint)
        is_of_run = out.resolve() == (run / EVALUATION).resolve()
        if is_of_run and (run / RECIPE).exists() and (run / ORIGIN).exists():
            write_tokenizer_card(run)
    if as_json:
        click.echo(json.dumps(found))
        return
    from hepfm.training.reconstruction import table_rows

    terminal.print_table(("quantity", "unit", "median", "sigma", "95 % within"), table_rows(found))
    use, accuracy = found["codes"], found["accuracy"]
    click.echo(
        f"{found['n_jets']:,} jets, {found['n_constituents']:,} constituents; {found['n_codes']:,} codes, "
        f"{found['bits']:.1f} bits: {use['used']:.1%} used, perplexity {use['perplexity']:.0f}."
    )
    for name, share in accuracy.items():
        click.echo(f"{name} right: {share:.2%}")
    if (test := found.get("two_sample")) and test["auc"] is not None:
        click.echo(f"classifier, decoded against true jets: AUC {test['auc']:.4f} +- {test['error']:.4f}")


@tokenizer.command(
    epilog=examples(
        "hepfm-data tokenizer compare runs/*/evaluation/evaluation.json --out comparison",
    )
)
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=LocalPath(), help="Folder for the figure of rate against distortion.")
@json_option
def compare(evaluations: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare tokenizers by what `evaluate --out` wrote: errors against bits a particle."""
    from hepfm import terminal
    from hepfm.training.comparison import read_evaluations, row_of

    found = read_evaluations(evaluations)
    if out is not None:
        from hepfm.cards.tokenizer_figures import write_rate_distortion

        out.mkdir(parents=True, exist_ok=True)
        write_rate_distortion(found, out)
    rows = [row_of(one) for one in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    terminal.print_table(list(rows[0]), [["-" if v is None else str(v) for v in row.values()] for row in rows])


@tokenizer.command(
    epilog=examples(
        "hepfm-data tokenizer encode resim-jets --out with-tokens.parquet",
        "hepfm-data tokenizer encode my_jets.root --tokenizer runs/vqvae-512 --out my_jets.parquet",
    )
)
@click.argument("data")
@click.option("--tokenizer", "name", default="hepfm/vqvae-512", show_default=True, help="Folder or name.")
@click.option("--out", required=True, type=LocalPath(), help="Parquet file that is written.")
@columns_option
@json_option
def encode(data: str, name: str, out: Path, columns: str | None, as_json: bool) -> None:
    """Copy the jets DATA to a Parquet file, with the code of each constituent in the column part_token."""
    import hepfm
    from hepfm import terminal
    from hepfm.tokenizers import ParticleTokenizer
    from hepfm.training.tokenizer import add_tokens

    with terminal.conversion_bar() as report:
        n_jets = add_tokens(
            ParticleTokenizer.from_pretrained(name), hepfm.open(data, columns=columns), out, report=report
        )
    n_bytes = out.stat().st_size
    answer = {"path": str(out), "n_jets": n_jets, "n_bytes": n_bytes}
    click.echo(json.dumps(answer) if as_json else f"{out}: {n_jets:,} jets with part_token, {n_bytes / 1e6:.1f} MB")
