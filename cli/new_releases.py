"""New releases of an existing instance, one function per action: the spec for the cluster, the call for a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.backend import NewRelease
from cli.output import note
from shared.domain.deployflow import DeployFlowSpec, Unsaid
from shared.domain.json_types import Json
from shared.releases import specs
from shared.releases.specs import Known

if TYPE_CHECKING:
    from triton_client import AsyncTriton, DeployFlow


def update(instance: str, wish: specs.Wish, freeze_override: str) -> NewRelease:
    return NewRelease(
        instance,
        lambda known: specs.update(known, wish),
        lambda triton: triton.update(
            instance,
            wish.image,
            container=wish.container,
            replicas=wish.replicas,
            strategy=wish.strategy,
            queue=True,
            freeze_override=freeze_override,
        ),
        freeze_override=freeze_override,
        unsaid=Unsaid.REPLICAS if wish.replicas is None else Unsaid.NOTHING,
    )


def roll_back(instance: str, to: str | None, strategy: Json) -> NewRelease:
    shown: set[str] = set()

    def build(known: Known) -> DeployFlowSpec:
        base, spec = specs.rollback(known, to, strategy)
        text = f"{instance} goes back to {specs.title(base)}"
        if text not in shown:
            note(text)
            shown.add(text)
        return spec

    async def request(triton: AsyncTriton) -> DeployFlow:
        from cli import by_server

        return await by_server.roll_back(triton, instance, to, strategy)

    return NewRelease(instance, build, request, unsaid=Unsaid.REPLICAS)


def restart(instance: str, pods: list[str], strategy: Json) -> NewRelease:
    return NewRelease(
        instance,
        lambda known: specs.restart(known, strategy | _pods_to_delete(pods)),
        lambda triton: triton.restart(instance, pods=pods, strategy=strategy, queue=True),
        names_pods=bool(pods),
    )


def scale(instance: str, replicas: int, pods: list[str], strategy: Json) -> NewRelease:
    def build(known: Known) -> DeployFlowSpec | None:
        spec = specs.scale(known, replicas, strategy | _pods_to_delete(pods))
        if spec is None:
            note(f"{instance} has {replicas} replicas already: nothing to do")
        return spec

    async def request(triton: AsyncTriton) -> DeployFlow | None:
        from cli import by_server

        return await by_server.scale(triton, instance, replicas, pods, strategy)

    unsaid = Unsaid.NOTHING if pods else Unsaid.DIRECTION
    return NewRelease(instance, build, request, names_pods=bool(pods), unsaid=unsaid)


def stop(instance: str, strategy: Json) -> NewRelease:
    return NewRelease(
        instance,
        lambda known: specs.stop(known, strategy),
        lambda triton: triton.stop(instance, strategy=strategy, queue=True),
    )


def start(instance: str, strategy: Json) -> NewRelease:
    return NewRelease(
        instance,
        lambda known: specs.start(known, strategy),
        lambda triton: triton.start(instance, strategy=strategy, queue=True),
    )


def delete(instance: str, strategy: Json) -> NewRelease:
    async def request(triton: AsyncTriton) -> DeployFlow:
        from cli import by_server

        return await by_server.delete(triton, instance, strategy)

    return NewRelease(instance, lambda known: specs.delete(known, strategy), request)


def _pods_to_delete(pods: list[str]) -> Json:
    return {"podsToDelete": pods} if pods else {}
