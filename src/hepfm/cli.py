"""The command line: what `hepfm-data` is, and what an error looks like. Commands are in `hepfm.commands`."""

import signal
import sys
import traceback

import click

from hepfm import __version__
from hepfm.commands.campaign import check, info
from hepfm.commands.catalogue import catalogue
from hepfm.commands.dataset import export, publish, report
from hepfm.commands.evaluate import evaluate
from hepfm.commands.finetune import finetune
from hepfm.commands.options import examples
from hepfm.commands.predict import predict
from hepfm.commands.pretrain import pretrain
from hepfm.commands.resim import ingest, resim
from hepfm.commands.study import study
from hepfm.commands.tokenizer import tokenizer
from hepfm.errors import HepfmError, InputError


def main() -> None:
    """Run the command line: exit status 0 done, 1 failed, 2 wrong usage."""
    # Whoever wants the traceback of a command that failed adds --debug at its end, not in its middle.
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    # Batch systems end jobs by SIGTERM, a while before they kill them: time to clean up, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Without standalone_mode click hands errors on, so that each gets one line.
        status = cli.main(arguments, prog_name="hepfm-data", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message, status = _explain(error)
        click.echo(message, err=True)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: BaseException) -> tuple[str, int]:
    """The line to print for an error, and the exit status."""
    if _was_interrupted(error):
        return "hepfm-data: interrupted. What is finished stays; run the same command again to go on.", 1
    match error:
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), 2
        case click.UsageError(ctx=click.Context() as ctx):
            return f"hepfm-data: {error.format_message()} See `{ctx.command_path} --help`.", 2
        case click.ClickException():
            return f"hepfm-data: {error.format_message()}", error.exit_code
        case InputError():
            return f"hepfm-data: {error}", 2
        case HepfmError():
            return f"hepfm-data: {error}", 1
        case OSError(filename=str() | bytes() as name):
            return f"hepfm-data: {name!s}: {error.strerror}.", 1
        case _:
            return f"hepfm-data: {type(error).__name__}: {error}. --debug shows where; please report it.", 1


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C or SIGTERM is behind an error; a library that is being imported turns it into an ImportError."""
    while error is not None and not isinstance(error, click.Abort | KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("hepfm-data resim --n-events 1e6 --variations 8", "hepfm-data info resim-jets"),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; may stand anywhere.")
def cli() -> None:
    """Freeze a collision, re-simulate the rest, publish the views, pre-train on them."""


for _command in (
    *(resim, ingest, info, check, export, publish, report, catalogue),
    *(tokenizer, pretrain, finetune, predict, evaluate, study),
):
    cli.add_command(_command)


if __name__ == "__main__":
    main()
