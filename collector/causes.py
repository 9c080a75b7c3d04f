"""Writes the table of causes in this folder's README anew from the rules: `make causes`."""

from pathlib import Path
from typing import Final

from hopwatch_collector.judge.rules import table

README: Final = Path(__file__).parent / "README.md"
BEGIN: Final = "<!-- causes: written by make causes -->\n"
END: Final = "<!-- end of causes -->\n"


def main() -> None:
    """Put the table between its marks."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + BEGIN + table() + END + after, "utf-8")


if __name__ == "__main__":
    main()
