"""Frozen values with named fields: what commands, replies and stop replies are made of.

Contents: Value, which does what ``dataclass(frozen=True, slots=True, kw_only=True)`` does, and
nothing about the protocol. The vocabulary has a hundred such classes; a dataclass costs 0.3 ms each
when it is made, which is time that every ``import rsp`` would pay, and these cost a tenth of it:
what a class needs is put together when its first object is made.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, dataclass_transform

from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Mapping
    from inspect import Signature

_V = TypeVar("_V", bound="Value")


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _ValueType(type):
    """Makes the annotated names of a class body its fields."""

    _fields: tuple[str, ...]
    _defaults: Mapping[str, object]

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
    ) -> _ValueType:
        own = [
            field
            for field, annotation in namespace.get("__annotations__", {}).items()
            if "ClassVar" not in str(annotation)
        ]
        fields: list[str] = []
        defaults: dict[str, object] = {}
        for base in bases:
            fields += getattr(base, "_fields", ())
            defaults.update(getattr(base, "_defaults", {}))
        # A default is no attribute of the class: the slot has that place.
        defaults.update((field, namespace.pop(field)) for field in own if field in namespace)
        namespace["__slots__"] = own
        namespace["_fields"] = (*fields, *own)
        namespace["_defaults"] = defaults
        namespace.setdefault("__init__", _first_init)
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    @property
    def __signature__(cls) -> Signature:
        """What ``help`` and ``inspect.signature`` show."""
        from inspect import Parameter, Signature

        return Signature(
            [
                Parameter(
                    field,
                    Parameter.KEYWORD_ONLY,
                    default=cls._defaults.get(field, Parameter.empty),
                )
                for field in cls._fields
            ]
        )


def _first_init(self: Value, /, **values: object) -> None:
    """Stand in for ``__init__`` until a class is first used, then be replaced by the real one."""
    cls = type(self)
    names: dict[str, object] = {}
    parameters, body = ["self"], ["pass"]
    if cls._fields:
        parameters.append("*")
    for field in cls._fields:
        # A slot's own __set__ is the one way past __setattr__ below, and the quickest.
        names[f"set_{field}"] = getattr(cls, field).__set__
        body.append(f"set_{field}(self, {field})")
        if field in cls._defaults:
            names[f"default_{field}"] = cls._defaults[field]
            parameters.append(f"{field}=default_{field}")
        else:
            parameters.append(field)
    source = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body)
    # The names are the fields of a class in this process, as in dataclasses and namedtuple.
    exec(source, names)  # noqa: S102
    init: Any = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    type.__setattr__(cls, "__init__", init)
    init(self, **values)


class Value(metaclass=_ValueType):
    """A frozen, comparable, hashable object with keyword-only fields.

    The annotations of a subclass, but for ClassVar, are its fields; its constructor takes them by
    name.
    """

    _fields: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[Mapping[str, object]]

    def _values(self) -> tuple[object, ...]:
        fields = self._fields
        if len(fields) > 1:
            values: tuple[object, ...] = attrgetter(*fields)(self)
            return values
        return tuple([getattr(self, field) for field in fields])

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Value)
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return hex_repr(self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__qualname__} is frozen: cannot assign to {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__qualname__} is frozen: cannot delete {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._values())


def _rebuild(cls: type[_V], values: tuple[object, ...]) -> _V:
    return cls(**dict(zip(cls._fields, values, strict=True)))
