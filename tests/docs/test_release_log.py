"""docs/release-log.md: its fields are those of the mapping, its searches ask for nothing else."""

from __future__ import annotations

from typing import Final

import pytest

from services.events.kibana.content import DASHBOARDS, SEARCHES
from services.events.kibana.views import MEANINGS, VIEWS, View
from shared.event_store import Stream, index_name
from shared.event_store.templates import EVERY, FIELDS
from shared.settings import Settings
from tests.kibana import kql
from tests.kibana.document import QUESTIONS, TEXT, Question, rows

BY_NAME: Final[dict[str, View]] = {view.name: view for view in VIEWS}


def fields_table() -> str:
    """As it has to stand in the document."""
    lines = []
    for field, meaning in MEANINGS.items():
        streams = [stream for stream in Stream if field in FIELDS[stream]]
        where = "all" if field in EVERY else ", ".join(streams)
        lines.append(f"| `{field}` | {where} | {meaning} |\n")
    return "".join(lines)


def test_the_table_of_the_fields_is_as_the_code_has_it() -> None:
    assert fields_table() in TEXT, f"the rows have to be:\n{fields_table()}"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_a_search_uses_fields_of_its_data_view_only(question: Question) -> None:
    used = set(kql.fields(question.kql))
    assert used
    assert used <= set(BY_NAME[question.view].fields)


def test_every_search_and_dashboard_is_described() -> None:
    assert {cells[0] for cells in rows("dashboards")} == {board.title for board in DASHBOARDS}
    assert {cells[0] for cells in rows("searches")} == {search.title for search in SEARCHES}


def test_every_data_view_is_described_with_its_data_streams() -> None:
    assert {cells[0]: cells[1].strip("`") for cells in rows("views")} == {
        view.name: view.title for view in VIEWS
    }
    settings = Settings(prefix="night-shift")
    for stream in Stream:
        assert f"`{index_name(stream, settings)}`" in TEXT
