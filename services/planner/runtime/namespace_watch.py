"""Watches Namespaces: their freeze windows, beside those of the settings, and which of them are being deleted."""

from __future__ import annotations

import logging

import msgspec
from prometheus_client import Gauge

from services.planner.rules.freeze_hold import Windows
from services.planner.runtime.flow_cache import FlowCache
from shared.domain.deployflow import FREEZE_WINDOWS
from shared.domain.freeze_windows import Read, read
from shared.errors import Unavailable
from shared.kube.client import NAMESPACES, ApiError, Client
from shared.kube.reflector import Meta, Reflector
from shared.service.process import Context
from shared.settings import Settings

_read = Gauge("triton_freeze_windows", "Freeze windows that are known", ["namespace"])
_unread = Gauge("triton_freeze_windows_unread", "Freeze windows that can't be read", ["namespace"])
_log = logging.getLogger(__name__)

_NO_WINDOWS = Read((), ())
_SETTINGS = ""
"""The `namespace` of the settings' windows in the metrics."""


class Namespace(msgspec.Struct, frozen=True):
    metadata: Meta

    @property
    def windows(self) -> str:
        return self.metadata.annotations.get(FREEZE_WINDOWS, "")

    @property
    def terminating(self) -> bool:
        return self.metadata.deletion_timestamp is not None


class NamespaceWatch:
    """Watches Namespaces; a change has the releases that it concerns decided again."""

    def __init__(self, client: Client, flows: FlowCache, settings: Settings) -> None:
        self._client = client
        self._flows = flows
        self._settings = settings.freeze_windows
        self._namespaces: dict[str, Read] = {}
        self._terminating: set[str] = set()
        self._reflector = Reflector(
            client,
            NAMESPACES,
            Namespace,
            self._changed,
            namespaces=[],
            silence_seconds=settings.watch_silence_seconds,
        )
        _read.labels(_SETTINGS).set(len(self._settings))

    def is_terminating(self, namespace: str) -> bool:
        """Return whether the namespace is being deleted; False where Namespaces may not be watched."""
        return namespace in self._terminating

    def of(self, namespace: str) -> Windows:
        windows, problems = self._namespaces.get(namespace, _NO_WINDOWS)
        return Windows((*self._settings, *windows), _problem_text(namespace, problems))

    async def follow(self, context: Context) -> None:
        """Watch as long as the planner runs; return once all are listed, or at once where that is not allowed."""
        if await context.wait_for("Namespaces", self._may_list):
            await context.follow("the list of Namespaces", self._reflector)
            return
        _log.warning(
            "freeze windows in annotations of Namespaces do not apply: "
            "the planner may not list and watch them (deploy/rbac/planner.yaml); those of the settings do. "
            "Releases in a namespace that is being deleted end only when their DeployFlows are deleted"
        )
        context.spawn(self._reflector.run(), "watch of Namespaces")

    async def _may_list(self) -> bool:
        try:
            await self._client.list_page(NAMESPACES, None, {"limit": "1"})
        except ApiError as error:
            if error.rights_missing:
                return False
            raise Unavailable(str(error)) from error
        return True

    def _changed(self, old: Namespace | None, new: Namespace | None) -> None:
        self._note_deletion(old, new)
        if (old.windows if old else "") == (new.windows if new else ""):
            return
        name = (new or old or Namespace(Meta())).metadata.name
        found = read(new.windows if new else "", of_namespace=True)
        if found == _NO_WINDOWS:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = found
        _read.labels(name).set(len(found.windows))
        _unread.labels(name).set(len(found.problems))
        names = ", ".join(window.name for window in found.windows) or "none"
        _log.info("freeze windows of namespace %s: %s", name, names)
        if found.problems:
            _log.warning("%s", _problem_text(name, found.problems))
        self._flows.recheck_waiting(name)

    def _note_deletion(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is None or not new.terminating:
            self._terminating.discard((new or old or Namespace(Meta())).metadata.name)
        elif new.metadata.name not in self._terminating:
            self._terminating.add(new.metadata.name)
            _log.info("namespace %s is being deleted: its releases end", new.metadata.name)
            self._flows.recheck_namespace(new.metadata.name)


def _problem_text(namespace: str, problems: tuple[str, ...]) -> str:
    if not problems:
        return ""
    return (
        f"annotation {FREEZE_WINDOWS} of namespace {namespace} can't be read and holds nothing back: "
        + "; ".join(problems)
    )
