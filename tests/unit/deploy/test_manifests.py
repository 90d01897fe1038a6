"""What `kubectl apply -k deploy` brings into a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from services.planner.api import access
from services.planner.api.reviews import role_for
from shared.domain.json_types import Json
from shared.kube.crd import crd
from shared.service.process import STOP_SECONDS
from shared.settings import Settings
from tests.rights import RIGHTS, ROLES, Rights

ROOT = Path(__file__).parents[3]
SERVICES = ("planner", "executor", "readiness", "events")
NAMESPACE = "triton-system"
POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")

EGRESS = {
    "planner": {53, 9092, 6379, 9200, 443, 6443},
    "executor": {53, 9092, 443, 6443},
    "readiness": {53, 9092, 443, 6443},
    "events": {53, 9092, 9200},
}
PORTS = {
    "planner": {"metrics": 8080, "rest": 8088, "grpc": 8099},
    "executor": {"metrics": 8080},
    "readiness": {"metrics": 8080},
    "events": {"metrics": 8080},
}


def rendered(folder: str) -> list[Json]:
    text = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / folder)], check=True, capture_output=True, text=True
    )
    assert text.stderr == ""
    return list(yaml.safe_load_all(text.stdout))


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    return rendered("deploy")


def of(manifests: list[Json], kind: str) -> list[Json]:
    return [one for one in manifests if one["kind"] == kind]


def one(manifests: list[Json], kind: str, service: str) -> Json:
    (found,) = (one for one in of(manifests, kind) if one["metadata"]["name"] == f"triton-{service}")
    return found


def pod_of(manifests: list[Json], service: str) -> Json:
    template: Json = one(manifests, "Deployment", service)["spec"]["template"]
    return template


def test_there_is_what_four_services_need_and_nothing_else(manifests: list[Json]) -> None:
    kinds = ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"]
    for kind in kinds:
        assert sorted(item["metadata"]["name"] for item in of(manifests, kind)) == sorted(
            f"triton-{service}" for service in SERVICES
        )
    others = [
        "Namespace",
        "CustomResourceDefinition",
        "ConfigMap",
        "ClusterRole",
        "ClusterRoleBinding",
        *POLICIES,
    ]
    assert {item["kind"] for item in manifests} == {*kinds, *others}


def test_all_of_it_is_in_one_namespace(manifests: list[Json]) -> None:
    (namespace,) = of(manifests, "Namespace")
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    cluster_wide = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", *POLICIES}
    for item in manifests:
        expected = None if item["kind"] in cluster_wide else NAMESPACE
        assert item["metadata"].get("namespace") == expected, item["metadata"]["name"]


def test_the_definition_is_the_one_of_the_code(manifests: list[Json]) -> None:
    assert of(manifests, "CustomResourceDefinition") == [crd()]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_what_it_does_and_no_more(service: str) -> None:
    rbac = rendered("deploy/rbac")
    account = {"kind": "ServiceAccount", "name": f"triton-{service}", "namespace": NAMESPACE}
    roles = [
        binding["roleRef"] for binding in of(rbac, "ClusterRoleBinding") if account in binding["subjects"]
    ]
    assert {reference["kind"] for reference in roles} <= {"ClusterRole"}
    assert rights_of(rbac, *(reference["name"] for reference in roles)) == RIGHTS[service]


def rights_of(rbac: list[Json], *roles: str) -> Rights:
    rights: Rights = {}
    for name in roles:
        (role,) = (role for role in of(rbac, "ClusterRole") if role["metadata"]["name"] == name)
        for rule in role["rules"]:
            assert set(rule) == {"apiGroups", "resources", "verbs"}
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    rights.setdefault(f"{group}/{resource}", set()).update(rule["verbs"])
    return rights


@pytest.mark.parametrize("role", ROLES)
def test_a_role_for_people_lets_them_do_what_its_name_says_and_no_more(role: str) -> None:
    rbac = rendered("deploy/rbac")
    assert rights_of(rbac, role) == ROLES[role]
    # more of it is never less
    for less, more in (("triton-viewer", "triton-operator"), ("triton-operator", "triton-admin")):
        assert all(verbs <= ROLES[more][resource] for resource, verbs in ROLES[less].items())
    for right in (
        access.GET,
        access.LIST,
        access.WATCH,
        access.CREATE,
        access.PATCH,
        access.DELETE,
        access.PROMOTE,
    ):
        resource = "/".join(["apps.triton.io/deployflows", *filter(None, [right.subresource])])
        has = [name for name in ROLES if right.verb in ROLES[name].get(resource, set())]
        assert has[0] == role_for(right)


def test_nobody_else_has_a_right() -> None:
    rbac = rendered("deploy/rbac")
    subjects = [s["name"] for binding in of(rbac, "ClusterRoleBinding") for s in binding["subjects"]]
    assert sorted(subjects) == ["triton-executor", "triton-planner", "triton-readiness"]
    roles = [role["metadata"]["name"] for role in of(rbac, "ClusterRole")]
    assert sorted(roles) == sorted([*subjects, *ROLES])
    assert {item["kind"] for item in rbac} == {
        "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"
    }  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_a_deployment_runs_its_service_with_its_own_account(manifests: list[Json], service: str) -> None:
    deployment = one(manifests, "Deployment", service)
    assert deployment["spec"]["replicas"] == 2
    pod = pod_of(manifests, service)["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [service]
    assert "command" not in container
    assert pod["serviceAccountName"] == f"triton-{service}"
    # a token only where it is of use: the account itself asks for none
    assert pod["automountServiceAccountToken"] is bool(RIGHTS[service])
    assert one(manifests, "ServiceAccount", service)["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] > STOP_SECONDS


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_probes_and_bounds(manifests: list[Json], service: str) -> None:
    (container,) = pod_of(manifests, service)["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"]["memory"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == PORTS[service]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    apis = {
        "TRITON_API_AUTH": "kubernetes",
        "TRITON_API_HOST": "0.0.0.0",
        "TRITON_API_PORT": "8088",
        "TRITON_GRPC_PORT": "8099",
    }
    assert environment == {
        "TRITON_HEALTH_HOST": "0.0.0.0",
        "TRITON_HEALTH_PORT": "8080",
        **(apis if service == "planner" else {}),
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_on_its_node(manifests: list[Json], service: str) -> None:
    pod = pod_of(manifests, service)["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("service", SERVICES)
def test_all_that_selects_pods_selects_those_of_one_service(manifests: list[Json], service: str) -> None:
    labels = pod_of(manifests, service)["metadata"]["labels"]
    deployment = one(manifests, "Deployment", service)["spec"]
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        one(manifests, "Service", service)["spec"]["selector"],
        one(manifests, "PodDisruptionBudget", service)["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy", service)["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * len(selectors)
    assert labels["app.kubernetes.io/component"] == service


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_reached_at_its_ports_and_reaches_what_it_needs(
    manifests: list[Json], service: str
) -> None:
    policy = one(manifests, "NetworkPolicy", service)["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": name} for name in PORTS[service]]}]
    anywhere = [rule["ports"] for rule in policy["egress"] if "to" not in rule]
    assert {port["port"] for ports in anywhere for port in ports} == EGRESS[service]
    # it asks pods for their connections
    pods = [{"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP"}]}]
    assert [rule for rule in policy["egress"] if "to" in rule] == (pods if service == "readiness" else [])
    assert one(manifests, "Service", service)["spec"]["ports"] == [
        {"name": name, "port": port, "targetPort": name} for name, port in PORTS[service].items()
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_one_replica_may_be_away_at_a_time(manifests: list[Json], service: str) -> None:
    assert one(manifests, "PodDisruptionBudget", service)["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("service", SERVICES)
def test_settings_come_from_one_config_map_and_an_optional_secret(
    manifests: list[Json], service: str
) -> None:
    (settings,) = of(manifests, "ConfigMap")
    (container,) = pod_of(manifests, service)["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": settings["metadata"]["name"]}},
        {"secretRef": {"name": "triton-secrets", "optional": True}},
    ]


def test_every_setting_is_one_that_the_services_take(
    manifests: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings,) = of(manifests, "ConfigMap")
    for name, value in settings["data"].items():
        assert name.removeprefix("TRITON_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    assert Settings().kafka_bootstrap == settings["data"]["TRITON_KAFKA_BOOTSTRAP"]
