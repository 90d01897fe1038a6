"""As much of Kibana's query language as we write, turned into the query that Kibana makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lark import Lark, Token, Transformer, v_args

from shared.domain.json_types import Json

_PARSER: Final = Lark(
    r"""
    ?query: both | both ("or"i both)+       -> either
    ?both: single | single ("and"i single)+ -> every
    ?single: "not"i single                  -> negated
        | "(" query ")"
        | field ":" value                   -> matches
        | field ":" "(" value ("or"i value)+ ")" -> one_of
        | field SIGN value                  -> compared
    field: WORD | QUOTED
    value: WORD | QUOTED
    SIGN: "<=" | ">=" | "<" | ">"
    WORD: /(?!(?:and|or|not)\b)[^\s():<>"]+/i
    QUOTED: /"(\\.|[^"\\])*"/
    %ignore /\s+/
    """,
    start="query",
)
_SIGNS: Final = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def query(text: str) -> Json:
    """The query in Elasticsearch's words; raises lark's LarkError for what is not KQL."""
    if not text:
        return {"match_all": {}}
    made: Json = _Queries().transform(_PARSER.parse(text))
    return made


def fields(text: str) -> Iterator[str]:
    """Yield every field of the query."""
    for tree in _PARSER.parse(text).find_data("field") if text else ():
        yield _bare(tree.children[0])


def _bare(token: Any) -> str:
    return str(token).strip('"').replace('\\"', '"')


@v_args(inline=True)
class _Queries(Transformer[Token, Any]):
    def field(self, name: Token) -> str:
        return _bare(name)

    def value(self, value: Token) -> Token:
        return value

    def matches(self, field: str, value: Token) -> Json:
        if value == "*":
            return {"exists": {"field": field}}
        if value.type == "QUOTED":
            return {"match_phrase": {field: _bare(value)}}
        if "*" in value:
            return {"query_string": {"fields": [field], "query": str(value)}}
        return {"match": {field: str(value)}}

    def one_of(self, field: str, *values: Token) -> Json:
        return self.either(*(self.matches(field, value) for value in values))

    def compared(self, field: str, sign: Token, value: Token) -> Json:
        return {"range": {field: {_SIGNS[sign]: _bare(value)}}}

    def either(self, *queries: Json) -> Json:
        return {"bool": {"should": list(queries), "minimum_should_match": 1}}

    def every(self, *queries: Json) -> Json:
        return {"bool": {"filter": list(queries)}}

    def negated(self, one: Json) -> Json:
        return {"bool": {"must_not": [one]}}
