"""Writes what is generated here: the Grafana dashboard and the alert rules; `--check` only compares."""

import argparse
import difflib
import sys
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.alerts import rules
from dashboards.board import build

HERE = Path(__file__).parent
GRAFANA = "http://127.0.0.1:3000"
"""Where docker-compose.yml publishes Grafana."""
HEADER = "# Generated from dashboards/alerts.py by `make dashboards`: edit that instead.\n"


def generated(grafana: str = GRAFANA) -> dict[Path, str]:
    """Every generated file with its content."""
    runbook = (HERE / "runbook.md").read_text()
    return {
        HERE / "grafana" / "hopwatch.json": JSONEncoder(sort_keys=True, indent=2).encode(build(runbook))
        + "\n",
        HERE / "prometheus" / "hopwatch.rules.yml": HEADER
        + yaml.safe_dump(rules(grafana), sort_keys=False, width=110, allow_unicode=True),
    }


def outdated(files: dict[Path, str]) -> str:
    """How the files on disk differ from `files`; empty if they do not."""
    difference: list[str] = []
    for path, content in files.items():
        present = path.read_text() if path.exists() else ""
        difference += difflib.unified_diff(
            present.splitlines(keepends=True), content.splitlines(keepends=True), str(path), "generated"
        )
    return "".join(difference)


def main() -> int:
    """Write the files, or with --check say what would change and return 1."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    parser.add_argument("--grafana", default=GRAFANA, help="where alerts' runbook links lead (%(default)s)")
    asked = parser.parse_args()
    files = generated(asked.grafana)
    if asked.check:
        difference = outdated(files)
        print(difference or "dashboards are up to date", file=sys.stderr if difference else sys.stdout)
        return 1 if difference else 0
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        print(f"wrote {path.relative_to(HERE.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
