"""The resources that are there without any CustomResourceDefinition: what Triton and kubectl use of
Kubernetes.
"""

from __future__ import annotations

from .resources import Resource

_POD_FIELDS = frozenset(
    {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    }
)
_EVENT_FIELDS = frozenset(
    {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    }
)
_STATUS_VERBS = ("get", "patch", "update")

NAMESPACES = Resource(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    namespaced=False,
    short_names=("ns",),
    status=True,
    fields=frozenset({"status.phase"}),
    subresources={"status": _STATUS_VERBS},
)
NODES = Resource(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    namespaced=False,
    short_names=("no",),
    status=True,
    fields=frozenset({"spec.unschedulable"}),
    subresources={"status": _STATUS_VERBS},
)
PODS = Resource(
    group="",
    version="v1",
    kind="Pod",
    plural="pods",
    short_names=("po",),
    categories=("all",),
    status=True,
    fields=_POD_FIELDS,
    subresources={"status": _STATUS_VERBS, "log": ("get",), "eviction": ("create",)},
)
SERVICES = Resource(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    short_names=("svc",),
    categories=("all",),
    status=True,
    fields=frozenset({"spec.clusterIP", "spec.type"}),
    subresources={"status": _STATUS_VERBS},
)
ENDPOINTS = Resource(group="", version="v1", kind="Endpoints", plural="endpoints", short_names=("ep",))
EVENTS = Resource(
    group="", version="v1", kind="Event", plural="events", short_names=("ev",), fields=_EVENT_FIELDS
)
CONFIG_MAPS = Resource(group="", version="v1", kind="ConfigMap", plural="configmaps", short_names=("cm",))
SECRETS = Resource(group="", version="v1", kind="Secret", plural="secrets", fields=frozenset({"type"}))
SERVICE_ACCOUNTS = Resource(
    group="", version="v1", kind="ServiceAccount", plural="serviceaccounts", short_names=("sa",)
)
CONTROLLER_REVISIONS = Resource(
    group="apps", version="v1", kind="ControllerRevision", plural="controllerrevisions"
)
ENDPOINT_SLICES = Resource(
    group="discovery.k8s.io", version="v1", kind="EndpointSlice", plural="endpointslices"
)
LEASES = Resource(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")
DEFINITIONS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    plural="customresourcedefinitions",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    status=True,
    subresources={"status": _STATUS_VERBS},
)
QUOTAS = Resource(
    group="",
    version="v1",
    kind="ResourceQuota",
    plural="resourcequotas",
    short_names=("quota",),
    status=True,
    subresources={"status": _STATUS_VERBS},
)
BUDGETS = Resource(
    group="policy",
    version="v1",
    kind="PodDisruptionBudget",
    plural="poddisruptionbudgets",
    short_names=("pdb",),
    status=True,
    subresources={"status": _STATUS_VERBS},
)
POLICIES = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingAdmissionPolicy",
    plural="validatingadmissionpolicies",
    namespaced=False,
    categories=("api-extensions",),
    status=True,
    subresources={"status": _STATUS_VERBS},
)
POLICY_BINDINGS = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingAdmissionPolicyBinding",
    plural="validatingadmissionpolicybindings",
    namespaced=False,
    categories=("api-extensions",),
)

BUILT_IN = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    ENDPOINTS,
    EVENTS,
    CONFIG_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    LEASES,
    DEFINITIONS,
    QUOTAS,
    BUDGETS,
    POLICIES,
    POLICY_BINDINGS,
)
