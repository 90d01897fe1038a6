"""Write an instance to Redis as JSON and read it back, in a form that older planners read and write too.

During an upgrade, and after a rollback, planners of two versions work on the same states. So the keys in Redis stay
as they are, while the values in memory may get a better shape: where this planner has one field whose states exclude
each other, Redis has a boolean for each of them. `_STORED_AS` is the whole difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from cramjam import lz4
from msgspec import defstruct
from msgspec.structs import FieldInfo, fields

from services.planner.model.state import Flow, Instance, Resync, StepCommand

_LZ4: Final = b"lz4:"

_STORED_AS: Final[dict[str, dict[Any, tuple[str, ...]]]] = {
    "step_command": {
        StepCommand.DUE: (),
        StepCommand.HALTED: ("halted",),
        StepCommand.ISSUED: ("issued",),
    },
    "resync": {
        Resync.NONE: (),
        Resync.OBSERVE: ("resync",),
        Resync.RECOUNT: ("resync", "recount"),
        Resync.REBUILD: ("resync", "rebuilt"),
    },
}
"""Field of `Flow` → its value → the keys that are true for it. Of values that fit a stored flow the last one counts."""


_KEYS: Final = tuple(
    dict.fromkeys(k for states in _STORED_AS.values() for keys in states.values() for k in keys)
)
_SAME: Final = tuple(field for field in fields(Flow) if field.name not in _STORED_AS)
_NAMES: Final = tuple(field.name for field in _SAME)


def _field(info: FieldInfo, kind: Any = None) -> tuple[str, Any, Any]:
    default = {} if info.required else {"default": info.default, "default_factory": info.default_factory}
    return info.name, kind or info.type, msgspec.field(**default, name=info.encode_name)


_StoredFlow: Final[Any] = defstruct(
    "_StoredFlow",
    [*(_field(info) for info in _SAME), *((key, bool, False) for key in _KEYS)],
    frozen=True,
    omit_defaults=True,
)
_FLOWS: Final = {
    "active": _StoredFlow | None,
    "waiting": tuple[_StoredFlow, ...],
    "finished": tuple[_StoredFlow, ...],
}
_StoredInstance: Final[Any] = defstruct(
    "_StoredInstance",
    [_field(info, _FLOWS.get(info.name)) for info in fields(Instance)],
    frozen=True,
    omit_defaults=True,
)


def dump(instance: Instance) -> bytes:
    """Return the instance as JSON, compressed by LZ4: a third of the memory in Redis for a fraction of a millisecond."""
    return _LZ4 + bytes(lz4.compress_block(encode(instance)))


def load(data: bytes) -> Instance:
    """Return the instance that `dump` or `encode` wrote, in this version or in one before it."""
    text = bytes(lz4.decompress_block(data.removeprefix(_LZ4))) if data.startswith(_LZ4) else data
    stored = msgspec.json.decode(text, type=_StoredInstance)
    return Instance(*_convert_flows(stored, _from_stored))


def encode(instance: Instance) -> bytes:
    """Return the instance as plain JSON."""
    return msgspec.json.encode(_StoredInstance(*_convert_flows(instance, _to_stored)))


def _convert_flows(instance: Any, convert: Callable[[Any], Any]) -> list[Any]:
    values = []
    for name in Instance.__struct_fields__:
        value = getattr(instance, name)
        if value and name in _FLOWS:
            value = tuple(map(convert, value)) if isinstance(value, tuple) else convert(value)
        values.append(value)
    return values


def _to_stored(flow: Flow) -> Any:
    true = {key for name, states in _STORED_AS.items() for key in states[getattr(flow, name)]}
    return _StoredFlow(*(getattr(flow, name) for name in _NAMES), *(key in true for key in _KEYS))


def _from_stored(stored: Any) -> Flow:
    states = {
        name: [state for state, keys in states.items() if all(getattr(stored, key) for key in keys)][-1]
        for name, states in _STORED_AS.items()
    }
    return Flow(**{name: getattr(stored, name) for name in _NAMES}, **states)
