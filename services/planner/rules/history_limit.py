"""Decide which finished releases of an instance are deleted, so that its history does not grow for ever. Pure.

Only releases that Triton made itself are deleted, or those whose annotation asks for it: what was applied from Git would
be applied again, and the old release would run again. What a rollback, an update or another action may start from stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.domain import deployflow as df
from shared.domain.deploy_commands import deployflow_name, requests_of
from shared.domain.json_types import Json
from shared.domain.object_bounds import count_in
from shared.releases.history import age, is_good, last_requested, updates

_APPLIED_BY_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"
_SUCCESSFUL_KEPT = 2
"""The last one, and the one that a rollback of it goes back to."""


def find_surplus(releases: Sequence[Json], default_limit: int) -> list[Json]:
    """Return the finished releases of one instance to delete, oldest first.

    `default_limit`: how many finished ones are kept where no release of the instance sets a limit.
    """
    finished = sorted(filter(_is_finished, releases), key=age)
    limit = next((limit for _, limit in _limits(releases)), default_limit)
    surplus = finished[: max(len(finished) - limit, 0)]
    if not surplus:
        return []
    needed = {flow["metadata"]["uid"] for flow in _needed(releases, finished)}
    return [flow for flow in surplus if flow["metadata"]["uid"] not in needed and _may_be_pruned(flow)]


def _is_finished(flow: Json) -> bool:
    return bool((flow.get("status") or {}).get("finished"))


def _annotations(flow: Json) -> dict[str, str]:
    return flow["metadata"].get("annotations") or {}


def _limits(releases: Sequence[Json]) -> Iterator[tuple[Json, int]]:
    """Yield the releases that set a limit, with that limit, the newest first; a text that is no number sets none."""
    for flow in sorted(releases, key=age, reverse=True):
        limit = count_in(_annotations(flow).get(df.REVISION_HISTORY_LIMIT))
        if limit is not None:
            yield flow, limit


def _needed(releases: Sequence[Json], finished: Sequence[Json]) -> Iterator[Json]:
    """Yield the releases that stay, whatever the limit."""
    # whoever follows the last release sees how it ended; the other actions have their identity from it
    yield finished[-1]
    # an update of an instance without a successful release starts from the last one that brought a template
    brought = updates(releases)
    yield from brought[-1:]
    if (requested := last_requested(brought)) is not None:
        # the next update inherits its strategy
        yield requested
    templates: list[object] = []
    for flow in reversed(brought):
        template = flow["spec"]["application"].get("template")
        if is_good(flow) and template not in templates and len(templates) < _SUCCESSFUL_KEPT:
            templates.append(template)
            yield flow
    yield from [flow for flow, _ in _limits(releases)][:1]


def _may_be_pruned(flow: Json) -> bool:
    """Return whether Triton made it, or its annotation asks for it.

    Never one of Triton 0.1.x, which may own its CloneSet: that would be deleted with it.
    """
    if not flow["status"].get("version"):
        return False
    wanted = _annotations(flow).get(df.PRUNE)
    return wanted == "true" or (wanted is None and _was_made_by_0_2_0(flow))


def _was_made_by_0_2_0(flow: Json) -> bool:
    """Return whether Triton made it before it wrote the annotation: its name comes from its first request."""
    annotations = _annotations(flow)
    requests = requests_of(annotations)
    if not requests or _APPLIED_BY_KUBECTL in annotations:
        return False
    name = deployflow_name(flow["spec"]["application"]["instanceName"], requests[0])
    return bool(flow["metadata"]["name"] == name)
