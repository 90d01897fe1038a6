"""Tables: what `kubectl get` prints, computed by the server as the real one does.

kubectl requests `as=Table` and prints what it gets, in watches too, so columns of custom resources and the
STATUS of a pod are the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from shared.domain.json_types import Json

from .objects import encode, parsed_time
from .pod_columns import POD_COLUMNS, pod_cells
from .resources import Column, Resource
from .store import Record

Cells = Callable[[Json], list[Any]]

_NAME = Column("Name", ".metadata.name", format="name")
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


def age(since: str | None, now: datetime | None = None) -> str:
    """Format an age as Kubernetes does for people: `42s`, `5m3s`, `3h12m`, `2d`."""
    if not since:
        return "<unknown>"
    try:
        seconds = max(int(((now or datetime.now(UTC)) - parsed_time(since)).total_seconds()), 0)
    except ValueError:
        return "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y{days % 365}d"


def json_path(obj: Any, path: str) -> Any:
    r"""Return the values at a JSONPath of printer columns: `.a.b`, `.a.items[0].b`, `.a[*].b`,
    `.metadata.labels.x\\.y`.
    """
    found = [obj]
    for step in _steps(path):
        if step == "*":
            found = [item for value in found if isinstance(value, list) for item in value]
        elif isinstance(step, int):
            found = [
                value[step] for value in found if isinstance(value, list) and -len(value) <= step < len(value)
            ]
        else:
            found = [value[step] for value in found if isinstance(value, dict) and step in value]
    if "[*]" in path:
        return ",".join(str(value) for value in found) if found else None
    return found[0] if found else None


def _steps(path: str) -> Iterable[str | int]:
    text = path.strip("{}").replace("\\.", "\0").replace("['", ".").replace("']", "")
    for part in text.strip(".").split("."):
        name, *indexes = part.replace("]", "").split("[")
        if name:
            yield name.replace("\0", ".")
        for index in indexes:
            yield index if index == "*" else int(index)


def _cell(column: Column, obj: Json) -> Any:
    value = json_path(obj, column.path)
    if value is None:
        return None if column.type != "date" else "<unknown>" if column is _AGE else None
    if column.type == "date":
        return age(str(value))
    if column.type == "string" and not isinstance(value, str):
        return encode(value).decode()
    return value


def _service_cells(obj: Json) -> list[Any]:
    spec = obj["spec"]
    ports = ",".join(
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port['protocol']}"
        for port in spec.get("ports") or ()
    )
    chosen = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
    return [
        spec["type"],
        spec.get("clusterIP") or "<none>",
        "<none>",
        ports or "<none>",
        _age_of(obj),
        chosen or "<none>",
    ]


def _endpoints_cells(obj: Json) -> list[Any]:
    pairs = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or [{"port": ""}]
        for address in subset.get("addresses") or ()
    ]
    text = ",".join(pairs[:3]) + (f" + {len(pairs) - 3} more..." if len(pairs) > 3 else "")
    return [text or "<none>", _age_of(obj)]


def _slice_cells(obj: Json) -> list[Any]:
    ports = ",".join(str(port.get("port")) for port in obj.get("ports") or ())
    addresses = [address for entry in obj.get("endpoints") or () for address in entry["addresses"]]
    text = ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "")
    return [obj.get("addressType"), ports or "<unset>", text or "<unset>", _age_of(obj)]


def _node_cells(obj: Json) -> list[Any]:
    status = obj.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    info = status.get("nodeInfo") or {}
    address = next(
        (a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), "<none>"
    )
    word = "Ready" if ready else "NotReady"
    return [
        f"{word},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else word,
        "<none>",
        _age_of(obj),
        info.get("kubeletVersion", ""),
        address,
        "<none>",
        info.get("osImage", ""),
        info.get("kernelVersion", ""),
        info.get("containerRuntimeVersion", ""),
    ]


def _event_cells(obj: Json) -> list[Any]:
    about = obj.get("involvedObject") or {}
    return [
        age(obj.get("lastTimestamp") or obj.get("eventTime")),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        (obj.get("message") or "").strip(),
        about.get("fieldPath", ""),
        (obj.get("source") or {}).get("component", ""),
        age(obj.get("firstTimestamp")),
        obj.get("count", 1),
        obj["metadata"]["name"],
    ]


def _age_of(obj: Json) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _columns(text: str) -> tuple[Column, ...]:
    """Parse `A B wide:C`: names with `_` for spaces, and the wide ones marked."""
    names = [
        (word.removeprefix("wide:").replace("_", " "), int(word.startswith("wide:"))) for word in text.split()
    ]
    return tuple(Column(name, "", priority=priority) for name, priority in names)


_BUILT_IN: dict[str, tuple[tuple[Column, ...], Cells]] = {
    "pods": (POD_COLUMNS, lambda obj: pod_cells(obj, _age_of(obj))),
    "services": (_columns("Type Cluster-IP External-IP Port(s) Age wide:Selector"), _service_cells),
    "endpoints": (_columns("Endpoints Age"), _endpoints_cells),
    "endpointslices.discovery.k8s.io": (_columns("AddressType Ports Endpoints Age"), _slice_cells),
    "namespaces": (
        _columns("Status Age"),
        lambda obj: [(obj.get("status") or {}).get("phase"), _age_of(obj)],
    ),
    "nodes": (
        _columns(
            "Status Roles Age Version wide:Internal-IP wide:External-IP wide:OS-Image wide:Kernel-Version "
            "wide:Container-Runtime"
        ),
        _node_cells,
    ),
    "configmaps": (_columns("Data Age"), lambda obj: [len(obj.get("data") or {}), _age_of(obj)]),
    "secrets": (
        _columns("Type Data Age"),
        lambda obj: [obj.get("type"), len(obj.get("data") or {}), _age_of(obj)],
    ),
    "serviceaccounts": (_columns("Secrets Age"), lambda obj: [0, _age_of(obj)]),
    "leases.coordination.k8s.io": (
        _columns("Holder Age"),
        lambda obj: [(obj.get("spec") or {}).get("holderIdentity", ""), _age_of(obj)],
    ),
    "controllerrevisions.apps": (
        _columns("Controller Revision Age"),
        lambda obj: [
            ",".join(
                f"{o['kind'].lower()}.{o['apiVersion'].split('/')[0]}/{o['name']}"
                for o in obj["metadata"].get("ownerReferences") or ()
            ),
            obj.get("revision"),
            _age_of(obj),
        ],
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        _columns("Created_At"),
        lambda obj: [obj["metadata"].get("creationTimestamp")],
    ),
}
_EVENT_TABLE = (
    _columns(
        "Last_Seen Type Reason Object Message wide:Subobject wide:Source wide:First_Seen wide:Count wide:Name"
    ),
    _event_cells,
)


class Table:
    """The table of one resource: its columns, and a row for an object."""

    def __init__(self, resource: Resource) -> None:
        named = True
        columns: tuple[Column, ...]
        cells: Cells
        if resource.key == "events":
            (columns, cells), named = _EVENT_TABLE, False
        elif resource.key in _BUILT_IN:
            columns, cells = _BUILT_IN[resource.key]
        else:
            columns = resource.columns or (_AGE,)
            cells = self._custom_cells(columns)
        self._named = named
        self._columns = (_NAME, *columns) if named else columns
        self._cells = cells

    @staticmethod
    def _custom_cells(columns: tuple[Column, ...]) -> Cells:
        return lambda obj: [_cell(column, obj) for column in columns]

    def _row(self, obj: Json, include: str) -> Json:
        cells = self._cells(obj)
        row: Json = {"cells": [obj["metadata"]["name"], *cells] if self._named else cells}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
        return row

    def of(self, records: Iterable[Record], metadata: Json, include: str = "Metadata") -> Json:
        """Return a Table object; `include` is how much of each object its row has (None, Metadata, Object)."""
        definitions = [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
            for column in self._columns
        ]
        return {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": [self._row(record.obj, include) for record in records],
        }
