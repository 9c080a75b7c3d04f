"""Files of the team's own making, YAML or JSON: read within bounds, and every part of them found again by its line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from hopwatch_collector.errors import SettingsError

MAX_BYTES: Final = 2 << 20
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000
"""Values in a document, those that aliases repeat counted each time."""

_SHOWN: Final = 80

Place = Sequence[str | int]
"""Keys and indices that lead to a part of a document."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where."""

    path: Path
    value: Any
    node: yaml.Node | None = None
    """The tree the value was made of, for its lines; JSON has none."""

    def where(self, place: Place = ()) -> str:
        """Name the file, the line and the keys of a part of it; of a part that is not there, those of what it is missing in."""
        line = self._line(place)
        keys = ".".join(shown(step) for step in place)
        return f"{self.path.name}{f', line {line}' if line else ''}{f': {keys}' if keys else ''}"

    def _line(self, place: Place) -> int:
        node, line = self.node, 0
        for step in (*place, None):
            if node is None:
                break
            line = node.start_mark.line + 1
            key, node = _child(node, step)
            line = key.start_mark.line + 1 if key is not None else line
        return line


def shown(name: object) -> str:
    """A name out of a document, fit for a terminal."""
    text = "".join(letter if letter.isprintable() else "�" for letter in str(name)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        SettingsError: it cannot be read, is too large or too deep, or is not YAML; the text says where.
    """
    text = _text(path)
    try:
        document = _json(path, text) if text.lstrip().startswith("{") else _yaml(path, text)
    except RecursionError:
        raise SettingsError(f"{path.name}: nested too deep") from None
    _bounded(document)
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SettingsError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path.name} is not UTF-8 (byte {error.start})") from None


def _json(path: Path, text: str) -> Document:
    try:
        return Document(path, json.loads(text, object_pairs_hook=_unique))
    except json.JSONDecodeError:
        return _yaml(path, text)  # `{` begins a mapping in YAML too
    except ValueError as error:
        raise SettingsError(f"{path.name}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def _yaml(path: Path, text: str) -> Document:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{path.name}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{path.name}: {str(error).splitlines()[0]}") from None
    return Document(path, value, node)


class _Loader(yaml.SafeLoader):
    """Makes plain values only, refuses keys that are there twice, and stops where it gets too deep."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # a few of them unfold to more than any memory holds
                raise yaml.MarkedYAMLError(
                    problem="`<<` is not taken: write it out", problem_mark=key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value!r} is there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _child(node: yaml.Node, step: str | int | None) -> tuple[yaml.Node | None, yaml.Node | None]:
    """A part of a node: what names it, and what it is."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key, value
    return None, None


def _bounded(document: Document) -> None:
    """Count everything in a document as often as it appears: aliases make much of little."""
    ahead: list[tuple[Any, int]] = [(document.value, 1)]
    count = 0
    while ahead:
        value, depth = ahead.pop()
        count += 1
        if count > MAX_NODES:
            raise SettingsError(f"{document.path.name} holds more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise SettingsError(f"{document.path.name}: nested too deep")
        if isinstance(value, Mapping):
            ahead.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            ahead.extend((inner, depth + 1) for inner in value)
