"""Whatever people, the cluster and the services do: a release that does not move says why, or has a deadline."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from services.planner.rules.freeze_hold import NO_WINDOWS, Windows
from shared.domain.freeze_windows import FreezeWindow
from tests.simulation.bounds import unbounded
from tests.simulation.surroundings import RESEND_MS
from tests.unit.planner.decision.test_properties import Releases

KINDS = ("observe", "surge", "retire", "halt", "cancel", "finish", "remove")
HALF_OF_EACH_HOUR = Windows((FreezeWindow(name="hourly", cron="0 * * * *", duration="30m"),), "")
REASONS = ("Forbidden", "Invalid", "InternalError")


class Disturbed(Releases):
    """The releases of `Releases`, and what other people and the cluster do to the same objects meanwhile."""

    @rule(kind=st.sampled_from(KINDS), reason=st.sampled_from(REASONS))
    def a_policy_refuses(self, kind: str, reason: str) -> None:
        self.around.cluster.refusals[kind] = reason

    @rule()
    def no_policy_refuses(self) -> None:
        self.around.cluster.refusals.clear()

    @rule(most=st.integers(min_value=0, max_value=8))
    def a_quota_limits_the_pods(self, most: int) -> None:
        self.around.cluster.most = most

    @rule()
    def no_quota_limits_the_pods(self) -> None:
        self.around.cluster.most = None

    @precondition(lambda self: self.around.cluster.body is not None)
    @rule(by=st.integers(min_value=-4, max_value=4))
    def somebody_scales(self, by: int) -> None:
        self.around.cluster.disturbed = True
        self.around.cluster.scale(by)

    @precondition(lambda self: self.around.cluster.body is not None)
    @rule()
    def somebody_deletes_the_cloneset(self) -> None:
        self.around.cluster.disturbed = True
        self.around.cluster.body, self.around.cluster.pods = None, []
        self.around.cloneset_went()

    @precondition(lambda self: self.around.cluster.body is not None)
    @rule(there=st.booleans())
    def somebody_edits_the_labels_of_the_cloneset(self, there: bool) -> None:
        body = self.around.cluster.body
        assert body is not None
        labels = body["metadata"].setdefault("labels", {})
        if there:
            labels["managed-by"] = "triton-io"
        else:
            labels.pop("managed-by", None)

    @rule()
    def a_freeze_begins(self) -> None:
        self.around.windows = HALF_OF_EACH_HOUR

    @rule()
    def the_freeze_is_lifted(self) -> None:
        self.around.windows = NO_WINDOWS

    @rule(seconds=st.sampled_from([60, 1800, 3600, 86400]))
    def long_time_passes(self, seconds: int) -> None:
        self.around.time_passes(seconds * 1000)

    @invariant()
    def a_release_that_stands_says_why(self) -> None:
        if not hasattr(self, "around"):
            return
        silent = unbounded(self.around.instance, self.around.cluster.now, resend_ms=RESEND_MS)
        assert not silent, f"{silent}: {self.around.instance}"

    def teardown(self) -> None:
        """What other people do may leave anything; that a release says so is all that is promised here."""


TestDisturbed = Disturbed.TestCase
TestDisturbed.settings = settings(
    max_examples=150,
    phases=[Phase.explicit, Phase.generate],
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
