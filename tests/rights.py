"""What each service may ask of the API server: verbs by `group/resource`, in every namespace."""

from __future__ import annotations

from typing import Final

Rights = dict[str, set[str]]

RIGHTS: Final[dict[str, Rights]] = {
    "planner": {
        "apps.triton.io/deployflows": {"get", "list", "watch", "create", "patch", "delete"},
        "apps.triton.io/deployflows/status": {"patch"},
        "apps.kruise.io/clonesets": {"get"},
        "/namespaces": {"list", "watch"},
    },
    "executor": {
        "apps.kruise.io/clonesets": {"get", "list", "watch", "create", "patch", "delete"},
        "/pods": {"list"},
        "apps.triton.io/deployflows": {"get"},
    },
    "readiness": {
        "/pods": {"get", "list", "watch"},
        "/pods/status": {"patch"},
        "/pods/log": {"get"},
        "/events": {"list"},
        "apps.kruise.io/clonesets": {"get"},
    },
    "events": {},
}
