"""Tables in Markdown, for cards and studies."""

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, n_text: int | None = None) -> str:
    """Lay out a table.

    Args:
        headings: of the columns.
        rows: of as many cells.
        n_text: so many columns are of text, and the rest of numbers, which are aligned to the right; by default all.
    """
    n_text = len(headings) if n_text is None else n_text
    rules = ["---"] * n_text + ["---:"] * (len(headings) - n_text)
    # A bar in a cell would end it.
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, rules, *cells))
