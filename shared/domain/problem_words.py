"""What is wrong with a value, in words for whoever wrote it.

Pydantic says it in its own words, and names regular expressions. Here each of its kinds of errors has a sentence that
names what the field takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_NAME: Final = "lower-case letters, digits and -, with a letter or digit at both ends"
_OBJECT_NAME: Final = "lower-case letters, digits, - and ., with a letter or digit at both ends"
_LABEL: Final = "letters, digits, -, _ and ., with a letter or digit at both ends"
PATTERNS: Final[Mapping[str, str]] = {
    r"^(100|[1-9][0-9]?)%$": "a percentage from 1% to 100%",
    r"^(100|[1-9]?[0-9])%$": "a percentage from 0% to 100%",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": f"a name of {_NAME}",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$": f"a name of {_NAME}",
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$": f"a value of {_LABEL}",
    r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,60}[A-Za-z0-9])?$": f"a value of {_LABEL}",
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": f"a name of {_OBJECT_NAME}",
    r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$": "a topic's name, of letters, digits, ., _ and -",
    r"^[0-9]{1,18}$": "a whole number",
}
"""What a text has to be that does not match; the expressions are those of the models."""
_WHOLE: Final = "must be a whole number"
_NUMBER: Final = "must be a number"
_YES_OR_NO: Final = "must be true or false"
_OBJECT: Final = "must be an object"
_LIST: Final = "must be a list"
_TEXT: Final = "must be a text"
_TIME: Final = "must be a time like 2026-01-31T10:00:00Z"
_PLAIN: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "unknown field",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _YES_OR_NO),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), _OBJECT),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), _LIST),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), _TEXT),
    **dict.fromkeys(
        (
            "datetime_type",
            "datetime_parsing",
            "datetime_from_date_parsing",
            "datetime_object_invalid",
            "timezone_aware",
        ),
        _TIME,
    ),
}
"""The sentences of the kinds of errors that need nothing else."""
_BY_BOUND: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda bound: f"must be at least {bound['ge']}",
    "greater_than": lambda bound: f"must be more than {bound['gt']}",
    "less_than_equal": lambda bound: f"must be at most {bound['le']}",
    "less_than": lambda bound: f"must be less than {bound['lt']}",
    "enum": lambda bound: f"must be {bound['expected']}".replace("'", ""),
    "literal_error": lambda bound: f"must be {bound['expected']}".replace("'", ""),
    "string_too_long": lambda bound: f"must have at most {bound['max_length']} characters",
    "string_too_short": lambda bound: (
        "must not be empty"
        if bound["min_length"] == 1
        else f"must have at least {bound['min_length']} characters"
    ),
    "too_long": lambda bound: f"must have at most {bound['max_length']} items",
    "too_short": lambda bound: (
        "must not be empty" if bound["min_length"] == 1 else f"must have at least {bound['min_length']} items"
    ),
    "string_pattern_mismatch": lambda bound: (
        f"must be {PATTERNS[bound['pattern']]}"
        if bound["pattern"] in PATTERNS
        else "has characters that are not possible here, or too many of them"
    ),
}


def in_words(item: Mapping[str, Any]) -> str:
    """Return the sentence for one of the `errors()` of a `ValidationError`, without its field."""
    kind = item["type"]
    if kind == "string_type" and _in_a_union(item):
        return "must be a percentage like 25%"
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BY_BOUND:
        return _BY_BOUND[kind](item["ctx"])
    return str(item["msg"]).removeprefix("Value error, ")


def says_nothing(item: Mapping[str, Any]) -> bool:
    """Return whether it is the part of "a number or a percentage" that was not meant: a number that is no text."""
    return _in_a_union(item) and item["type"] == "string_type" and isinstance(item.get("input"), int | float)


def _in_a_union(item: Mapping[str, Any]) -> bool:
    return any(str(part).startswith("constrained-str") for part in item["loc"])


def either(one: str, other: str) -> str:
    """Return the sentence for a field that takes one of two kinds of values."""
    if one == other:
        return one
    if other.startswith("must be "):
        return f"{one} or {other.removeprefix('must be ')}"
    return f"{one}; or {other}"
