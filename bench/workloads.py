"""What is released in a measurement, the same for Triton and for the floor: W1 to W4.

Both sides get pods of one template and batches of one size, so that what differs is who drives them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.domain.json_types import Json

NAMESPACE: Final = "default"
SET_LABEL: Final = "triton-bench/set"
"""On everything that one side of one run makes: what to watch, and what to remove afterwards."""
APPLICATION_LABEL: Final = "triton-bench/application"
V1: Final = "bench:v1"
V2: Final = "bench:v2"


class Bounds(NamedTuple):
    """The most that Triton may take on the real parts: times of the floor's time, requests for each pod and CPU
    seconds of all four services, and MB of each service.
    """

    ratio: float
    requests: float
    cpu_seconds: float
    megabytes: float


class Workload(NamedTuple):
    """`applications` of `replicas` pods each, all released at once in batches of `batch_size`.

    `target` is the most that Triton's time may be in the sandbox, in times of the floor's; None where none is set.
    `real` is what is aimed for on the real parts.
    """

    name: str
    applications: int
    replicas: int
    batch_size: int
    target: float | None = None
    real: Bounds | None = None

    @property
    def batches(self) -> int:
        return -(-self.replicas // self.batch_size)

    @property
    def pods(self) -> int:
        """How many pods are replaced."""
        return self.applications * self.replicas

    def __str__(self) -> str:
        many = f"{self.applications} applications at once, each " if self.applications > 1 else ""
        return f"{self.name}: {many}{self.replicas} replicas, {self.batches} batches of {self.batch_size}"

    def instances(self, of_set: str) -> list[str]:
        return [f"{of_set}-{number:02}" for number in range(self.applications)]


WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("W1", 1, 10, 2, 1.3, Bounds(1.15, 4, 1.5, 100)),
        Workload("W2", 1, 500, 100, None, Bounds(1.15, 1.2, 5, 110)),
        Workload("W3", 50, 10, 2, 1.5, Bounds(1.2, 4, 8, 110)),
        Workload("W4", 1, 2500, 250, None, Bounds(1.15, 1.1, 25, 150)),
    )
}
DEFAULT: Final = ("W1", "W3")


def template(of_set: str, instance: str, image: str) -> Json:
    """The pod template, without what each side adds to it (labels of its own, the readiness gate)."""
    return {
        "metadata": {"labels": {SET_LABEL: of_set, APPLICATION_LABEL: instance}},
        "spec": {"containers": [{"name": "app", "image": image, "ports": [{"containerPort": 80}]}]},
    }
