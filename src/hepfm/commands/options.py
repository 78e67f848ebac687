"""What several commands have in common: options, and examples at the end of their help."""

import click

from hepfm.arguments import Positive

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
# A folder is text, not a path: it may be a URL such as s3://bucket/resim-jets.
folder_argument = click.argument("folder", default="resim-jets")
columns_option = click.option(
    "--columns", metavar="MAP", help="Column map of a table: a TOML file, or top-tagging, jetnet, ..."
)
allow_missing_option = click.option(
    "--allow-missing", is_flag=True, help="Take jets that lack inputs of the network, which are then unknown to it."
)

learning_rate_option = click.option("--learning-rate", type=Positive(), help="Of the head.  [default: by the mode]")
backbone_rate_option = click.option(
    "--backbone-rate", type=Positive(), help="Learning rate of the backbone, over that of the head.  [default: 0.1]"
)


def examples(*lines: str) -> str:
    """A command's examples, for the end of its help."""
    # Click keeps the lines of a paragraph as they are if it begins with this character.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names with commas between."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Take the names apart."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"{value!r} given, expected names with commas between, each once.", param, ctx)
        return names
