"""The requester of a release, for messages that name another one: whoever sent the last request to it."""

from __future__ import annotations

from msgspec.structs import replace

from services.planner.model.state import Flow
from shared.domain.messages import ReleaseRequester


def release_requester(flow: Flow) -> ReleaseRequester | None:
    """Return who requested the release; None where the last request came from the same."""
    release = flow.requester
    if replace(flow.last_requester, command="") == release:
        return None
    return ReleaseRequester(
        name=release.requested_by, claimed=release.requested_by_claimed, via=release.requested_via
    )
