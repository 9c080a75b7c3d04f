"""The table of scenarios in the collector's README, made by the test run: what was judged, and who were the witnesses.

Every scenario that passes leaves a file; once there is one for each that the README lists, the table is written anew.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "collector" / "README.md"
RESULTS = ROOT / ".cache" / "scenarios"
_BEGIN, _END = "<!-- scenarios: written by the tests -->\n", "<!-- end of scenarios -->\n"


def leave(number: int, name: str, judged: Iterable[tuple[str, str, str]]) -> None:
    """Leave a scenario's result: (verdict, reason, witnesses) of its deliveries, each kind once."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{number:02} {re.sub('[^a-z]+', ' ', name.lower())}.json"
    known = json.loads(file.read_text())["judged"] if file.exists() else []
    rows = sorted({*map(tuple, known), *judged})
    file.write_text(json.dumps({"number": number, "name": name, "judged": rows}))


def forget() -> None:
    """Begin anew: what earlier runs left is not this run's."""
    for file in RESULTS.glob("*.json"):
        file.unlink()


def write() -> None:
    """Write the table, if no scenario that is in it already is missing from this run."""
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    text = README.read_text()
    before, mark, rest = text.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", old, re.MULTILINE)}
    if not (mark and end and found) or not listed <= {one["number"] for one in found}:
        return
    table = "".join(_row(one) for one in found)
    head = "| | scenario | verdict | in words | witnesses |\n|---|---|---|---|---|\n"
    if old != head + table:
        README.write_text(before + mark + head + table + end + after)


def _row(one: Mapping[str, object]) -> str:
    lines = one["judged"]
    assert isinstance(lines, list)
    cells = [
        "<br>".join(f"`{line[0]}`" for line in lines),
        "<br>".join(line[1] for line in lines),
        "<br>".join(line[2] for line in lines),
    ]
    return f"| {one['number']} | {one['name']} | {' | '.join(cells)} |\n"
