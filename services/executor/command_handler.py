"""Carries out batch commands on CloneSets: read live, decide, write, answer on Kafka.

The decision is pure (`cloneset_change`) and the write only applies to what the decision was made on
(`guarded_write`). When somebody else was faster, the CloneSet is read again and decided again.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Final, get_args

from prometheus_client import Counter, Histogram

from services.executor.adoption import Adoption
from services.executor.application_extras import claims_only_error
from services.executor.cloneset_change import (
    Answer,
    BadTemplate,
    Create,
    Delete,
    Patch,
    Rejection,
    decide_change,
    dry_run_body,
)
from services.executor.cluster_reader import ClusterReader, cloneset_from
from services.executor.guarded_write import guarded, have_same_guards
from services.executor.image_changes import image_changes
from services.executor.prestop_hooks import with_hooks
from services.executor.stable_template import TooLarge, keep_template
from shared.domain import messages as m
from shared.domain.deploy_commands import LONGEST_OBJECT_NAME, OBJECT_NAME
from shared.domain.deployflow import FailureReason
from shared.domain.json_types import Json
from shared.domain.managed_namespaces import NOT_LOOKED_AFTER, explain_border, manages
from shared.domain.record import Record
from shared.domain.safe_text import shortened
from shared.errors import Poison, Unavailable, Unpublishable
from shared.kube.client import CLONESETS, JSON, ApiError, Client
from shared.kube.clonesets import CloneSet, facts_of
from shared.kube.reflector import Reflector
from shared.messaging.consumer import INVALID, decode
from shared.messaging.kafka import Kafka
from shared.observability import tracing
from shared.settings import Settings

ATTEMPTS: Final = 10
"""Before a CloneSet that changes each time between reading and writing is left for the next delivery."""
_PODS_NAMED: Final = "scaleStrategy.podsToDelete"
"""OpenKruise's webhook refuses a name of a pod that went after the pods were listed: they are listed again."""
_results = Counter("triton_batch_results_total", "Answers to batch commands", ["command", "result"])
_durations = Histogram(
    "triton_batch_command_duration_seconds",
    "From a command on Kafka to its answer there",
    ["command"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
)
# the first observation counts as an increase only where the series was 0 before
for _command in get_args(m.ExecutorCommand):
    _durations.labels(_command.model_fields["type"].default)
_log = logging.getLogger(__name__)


class CommandHandler:
    """The only writer of CloneSets, except for the claims of Triton 0.1.x (`legacy_owners`) and `adoption`."""

    def __init__(
        self,
        client: Client,
        kafka: Kafka,
        settings: Settings,
        clonesets: Reflector[CloneSet],
        adoption: Adoption,
    ) -> None:
        self._client = client
        self._adoption = adoption
        self._reader = ClusterReader(client)
        self._kafka = kafka
        self._graceful = settings.graceful_shutdown
        self._namespaces = settings.namespaces
        self._clonesets = clonesets

    async def handle(self, key: str, records: list[Record]) -> None:  # noqa: ARG002
        for record in records:
            command = decode(record)
            _check_names(command)
            if not isinstance(command, (m.PullIn, m.PullOut)):
                result = await self._carry_out(command)
                with tracing.within(tracing.work(command, "executor")):
                    await self._answer(command, result)
                tracing.export(_span(command, result, record))
                _durations.labels(command.type).observe(max(time.time() - record.timestamp_ms / 1000, 0))

    async def _answer(self, command: m.ExecutorCommand, result: m.Result) -> None:
        kind = type(result).__name__
        _results.labels(command.type, kind).inc()
        _log.info(
            "%s %s: %s",
            command.type,
            command.sequence,
            kind,
            extra={"triton.deployflow": command.flow.name, "triton.key": str(command.key)},
        )
        try:
            await self._kafka.publish([result])
        except Unpublishable as error:
            # the release fails with that; the command was carried out
            refused = m.Refused(
                **_head(command), reason=error.reason, message=f"the answer to {command.type}: {error}"
            )
            await self._kafka.publish([refused])

    async def _carry_out(self, command: m.ExecutorCommand) -> m.Result:
        if not manages(self._namespaces, command.namespace):
            text = explain_border(self._namespaces, command.namespace)
            return m.Refused(**_head(command), reason=NOT_LOOKED_AFTER, message=text)
        try:
            return await self._attempt_until_written(command)
        except BadTemplate as error:
            return m.Refused(**_head(command), reason=FailureReason.INVALID_TEMPLATE, message=str(error))
        except TooLarge as error:
            return m.Refused(**_head(command), reason="TooLarge", message=str(error))
        except ApiError as error:
            if error.rights_missing:
                raise error.waited_for("executor") from error
            return m.Refused(**_head(command), reason=error.reason, message=str(error))

    async def _attempt_until_written(self, command: m.ExecutorCommand) -> m.Result:
        live = self._clonesets.get(command.namespace, command.instance)
        if live is None or isinstance(command, m.Observe):
            live = await self._reader.cloneset(command)
        for _ in range(ATTEMPTS):
            try:
                return await self._attempt(with_hooks(command, live, by_setting=self._graceful), live)
            except ApiError as error:
                if error.code not in {404, 409, 422}:
                    raise
                now = await self._reader.cloneset(command)
                if error.code == 404 and live is None and now is None:
                    # what is missing is the namespace
                    raise
                if error.code == 422 and have_same_guards(now, live) and _PODS_NAMED not in str(error):
                    # no guard failed: the API server or a webhook refuses the change itself
                    raise
                live = now
        msg = f"CloneSet {command.key} keeps changing"
        raise Unavailable(msg)

    async def _attempt(self, command: m.ExecutorCommand, live: CloneSet | None) -> m.Result:
        if live is not None and isinstance(command, m.Observe):
            live = await self._adoption.adopt(live)
        needs_pods = not isinstance(command, (m.Finish, m.Remove))
        if needs_pods:
            await self._adoption.label_pods(live)
        pods = await self._reader.counted_pods(command, live) if needs_pods else []
        revised = await self._reader.revised_template(command, live)
        decided = decide_change(command, live, pods, revised)
        match decided:
            case Answer(result=m.Done() as done) if isinstance(command, m.Observe):
                return await self._dry_run(command, live, done)
            case Answer():
                return decided.result
            case Create():
                return await self._create(command, decided.body)
            case Delete():
                await self._client.delete(CLONESETS, command.namespace, command.instance, decided.body)
                # a finalizer may hold it
                return m.Done(**_head(command), cloneset=facts_of(await self._reader.cloneset(command)))
            case Rejection():
                self._clonesets.put(await self._patch(command, live, decided.body))
                return decided.result
            case Patch():
                return self._done(command, await self._patch(command, live, decided.body), decided.before)

    async def _patch(self, command: m.ExecutorCommand, live: CloneSet | None, body: Json) -> Json:
        assert live is not None
        return await self._client.patch(
            CLONESETS, command.namespace, command.instance, guarded(live, body), content_type=JSON
        )

    async def _create(self, command: m.ExecutorCommand, body: Json) -> m.Result:
        if not await self._reader.is_flow_unfinished(command):
            text = (
                f"DeployFlow {command.flow.name} has finished or was deleted: no CloneSet is created for it"
            )
            return m.Refused(**_head(command), reason="FlowFinished", message=text)
        return self._done(command, await self._client.create(CLONESETS, command.namespace, body), ())

    def _done(self, command: m.ExecutorCommand, written: Json, before: tuple[m.PodRef, ...]) -> m.Result:
        self._clonesets.put(written)
        return m.Done(**_head(command), cloneset=facts_of(cloneset_from(written)), pods=list(before))

    async def _dry_run(self, command: m.Observe, live: CloneSet | None, done: m.Done) -> m.Result:
        """Answer `observe` after a dry run of its template; raise `ApiError` when the API server refuses it."""
        if command.application is None:
            return done
        body = dry_run_body(command, live)
        if live is None:
            created = await self._client.create(CLONESETS, command.namespace, body, dry_run=True)
            return done.model_copy(update={"images": image_changes(None, created["spec"]["template"])})
        result = await self._client.patch(CLONESETS, command.namespace, command.instance, body, dry_run=True)
        same_template = result["spec"]["template"] == live.spec.template
        if same_template and (error := claims_only_error(live, result)):
            raise BadTemplate(error)
        if not same_template:
            # refused before anything moves
            keep_template(live)
        images = image_changes(live, result["spec"]["template"])
        return done.model_copy(update={"same_template": same_template, "images": images})


def _check_names(command: m.Command) -> None:
    """Raise `Poison` for names that no object can have: the API server's answer to them may look like a missing right."""
    for field, name in (("namespace", command.namespace), ("instance", command.instance)):
        if len(name) > LONGEST_OBJECT_NAME or not re.fullmatch(OBJECT_NAME, name):
            raise Poison(INVALID, f"{field}: {shortened(name, 100)!r} is no name of an object")


def _span(command: m.ExecutorCommand, result: m.Result, record: Record) -> tracing.Span:
    error = f"{result.reason}: {result.message}" if isinstance(result, m.Refused) else ""
    kind = type(result).__name__
    return tracing.command_span(command, command.type, record, "executor", error=error, result=kind)


def _head(command: m.Command) -> dict[str, Any]:
    return {"namespace": command.namespace, "instance": command.instance, "sequence": command.sequence}
