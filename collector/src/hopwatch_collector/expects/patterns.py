"""Destinations with wildcards, in the spelling of each broker, as regular expressions the engine understands.

The engine makes the same of what brokers and services report (titles.sql). What is declared may say more: parameters
that are part of a word, and wildcards in topics, which Kafka itself has none of.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from hopwatch_collector.expects.model import MAX_NAME, Pattern

PARAMETER: Final = re.compile(r"\{[^{}]*\}")
_AMQP_PREFIX: Final = re.compile(r"(.*?:)(?:[^:]*\.)?(?:\*|#)(?:\.|$)")
"""Everything before the binding key: an exchange's name may have colons of its own."""


def name(text: str) -> str:
    """Return a name of a receiver or service as it is.

    Raises:
        ValueError: it cannot be one.
    """
    if not text.strip():
        raise ValueError("must not be empty")
    if text != text.strip():
        raise ValueError(f"{text!r} has blanks around it")
    if len(text) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters")
    if not text.isprintable():
        raise ValueError(f"{text!r} has unprintable characters")
    return text


def glob(text: str) -> str:
    """Return the regular expression of a name in which `*` stands for any characters.

    Raises:
        ValueError: it cannot be one.
    """
    return "^" + ".*".join(re.escape(part) for part in name(text).split("*")) + "$"


def destination(system: str, text: str) -> Pattern:
    """Return the destinations that `text` means in a broker's own wildcards; elsewhere `*` is any characters.

    Raises:
        ValueError: no such pattern can be; the text says what to write instead.
    """
    return _SPELLINGS.get(system, _any_characters)(name(text))


def address(system: str, text: str, exchange: str = "") -> Pattern:
    """Return the destinations that an AsyncAPI address with `{parameters}` means; `exchange`: where its routing key is for.

    Raises:
        ValueError: no such address can be.
    """
    shown = PARAMETER.sub("*", name(text))
    place = f"{exchange}:" if exchange else ""
    words = shown.split(".")
    whole = all(word == "*" or "*" not in word for word in words)
    # On the default exchange queues are meant by their names, of which wildcards are none.
    if system == "kafka" or (whole and (place or system == "nats" or shown == text)):
        return destination(system, place + shown)
    anything = _ANY_WORD[system]
    return Pattern(place + shown, place, "^" + "".join(rf"\.{_word(word, anything)}" for word in words) + "$")


def _nats(text: str) -> Pattern:
    words = text.split(".")
    for at, word in enumerate(words):
        if not word:
            raise ValueError(f"{text!r} has an empty word: a subject is words with single dots between them")
        if " " in word:
            raise ValueError(f"{text!r} has a blank in it, and a subject has none")
        if word == ">" and at < len(words) - 1:
            raise ValueError(f"{text!r}: `>` stands for all words that follow, so it comes last")
        if word not in ("*", ">") and ("*" in word or ">" in word):
            raise ValueError(
                f"{text!r}: `{word}` is not a wildcard of NATS; `*` is one whole word, `>` the rest"
            )
    if not {"*", ">"} & set(words):
        return Pattern(text)
    return Pattern(text, "", _expression(words, {"*": r"\.[^.]+", ">": r"(\.[^.]+)+"}))


def _rabbitmq(text: str) -> Pattern:
    wild = _AMQP_PREFIX.match(text)
    if wild is None:
        _no_wildcards(text)
        return Pattern(text)
    words = text[wild.end(1) :].split(".")
    for word in words:
        if word not in ("*", "#"):
            _no_wildcards(word)
    return Pattern(text, wild[1], _expression(words, {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"}))


def _no_wildcards(text: str) -> None:
    if "*" in text or "#" in text:
        raise ValueError(
            f"{text!r}: `*` (one word) and `#` (any number) are whole words of a binding key, and stand behind the exchange: "
            "events:order.*"
        )


def _any_characters(text: str) -> Pattern:
    return Pattern(text, "", rf"^\.{glob(text)[1:]}") if "*" in text else Pattern(text)


def _expression(words: list[str], wild: Mapping[str, str]) -> str:
    return "^" + "".join(wild.get(word) or rf"\.{re.escape(word)}" for word in words) + "$"


def _word(word: str, anything: str) -> str:
    return anything.join(re.escape(part) for part in word.split("*"))


_ANY_WORD: Final = {"nats": "[^.]+", "rabbitmq": "[^.]*"}
_SPELLINGS: Final[Mapping[str, Callable[[str], Pattern]]] = {"nats": _nats, "rabbitmq": _rabbitmq}
