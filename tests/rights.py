"""What each service, and each role for people, may ask of the API server: verbs by `group/resource`."""

from __future__ import annotations

from typing import Final

Rights = dict[str, set[str]]

RIGHTS: Final[dict[str, Rights]] = {
    "planner": {
        "apps.triton.io/deployflows": {"get", "list", "watch", "create", "patch", "delete"},
        "apps.triton.io/deployflows/status": {"patch"},
        "apps.kruise.io/clonesets": {"get", "list", "patch"},
        "/pods": {"get", "list"},
        "/namespaces": {"list", "watch"},
        "/events": {"create"},
        "authentication.k8s.io/tokenreviews": {"create"},
        "authorization.k8s.io/subjectaccessreviews": {"create"},
    },
    "executor": {
        "apps.kruise.io/clonesets": {"get", "list", "watch", "create", "patch", "delete"},
        "apps/controllerrevisions": {"get"},
        "/pods": {"list", "patch"},
        "/events": {"list", "watch"},
        "apps.triton.io/deployflows": {"get"},
    },
    "readiness": {
        "/pods": {"get", "list", "watch"},
        "/pods/status": {"patch"},
        "/pods/log": {"get"},
        "/events": {"list", "watch"},
        "apps.kruise.io/clonesets": {"get", "list"},
    },
    "events": {},
}

_SEES: Final[Rights] = {
    "apps.kruise.io/clonesets": {"get", "list", "watch"},
    "/pods": {"get", "list", "watch"},
    "/events": {"get", "list", "watch"},
    "/namespaces": {"get"},
}
_VIEWS: Final = {"get", "list", "watch"}
_PROMOTES: Final[Rights] = {"apps.triton.io/deployflows/promote": {"create"}}

ROLES: Final[dict[str, Rights]] = {
    "triton-viewer": {"apps.triton.io/deployflows": _VIEWS, **_SEES},
    "triton-operator": {"apps.triton.io/deployflows": {*_VIEWS, "create", "patch"}, **_PROMOTES, **_SEES},
    "triton-admin": {
        "apps.triton.io/deployflows": {*_VIEWS, "create", "patch", "delete"},
        **_PROMOTES,
        **_SEES,
    },
}
