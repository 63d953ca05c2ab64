"""The mixin doors for view classes: REST framework's and Django's own, forms among them."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

from django.http import HttpRequest

from .doors import classes
from .doors.marks import leave, mark_of
from .http.requests import KEY_FIELD
from .policy import Options, Policy, checked

_PREFIX = "idempotency_"
_METHODS = {
    "get_key": "get_idempotency_key",
    "scope": "get_idempotency_scope",
    "fingerprint": "get_idempotency_fingerprint",
}


def _options_in(attributes: Mapping[str, Any]) -> dict[str, Any]:
    # Callables are options, not methods: getattr would bind them.
    return {
        name.removeprefix(_PREFIX): value.__func__ if isinstance(value, staticmethod) else value
        for name, value in attributes.items()
        if name.startswith(_PREFIX)
    }


def _attributes(cls: type[Any]) -> Options:
    given: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is not IdempotencyMixin:
            given |= _options_in(vars(base))
    return given


class IdempotencyMixin:
    """Every covered request of the view runs once per key, and repeats get the saved response.

    Options are class attributes with the prefix ``idempotency_``: ``idempotency_required = True``.
    A view that takes the key, the scope or the fingerprint from elsewhere may define
    ``get_idempotency_key(self, request)``, ``get_idempotency_scope(self, request)`` or
    ``get_idempotency_fingerprint(self, request)``. Unknown or wrong-typed options raise
    ImproperlyConfigured when the class is made.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = checked(_attributes(cls), cls.__qualname__)
        leave(cls, attributes=given)
        classes.refuse_atomic_handlers(cls, given)
        # A dispatch of its own, or one of an earlier base, would run outside of the mixin's.
        classes.cover_dispatch(cls)

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        """A callback around which Django opens no transaction; ``dispatch`` does.

        Django's mark for that may not be on ``dispatch`` itself, which all classes share.
        """
        parent: Any = super()
        return classes.outside(parent.as_view(*args, **kwargs), cls, {})

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The response of a handler that is covered, after authentication and permissions."""
        parent: Any = super()
        return classes.dispatched(self, request, partial(parent.dispatch, request, *args, **kwargs))

    def get_idempotency_options(self) -> Options:
        """The options this instance was given: as attributes, by methods, by ``as_view()``."""
        methods = {
            option: getattr(self, name) for option, name in _METHODS.items() if hasattr(self, name)
        }
        own = checked(_options_in(vars(self)), type(self).__qualname__)
        return {**mark_of(type(self)).attributes, **methods, **own}


class IdempotencyFormMixin(IdempotencyMixin):
    """The same for Django's ``FormView``, ``CreateView`` and their like.

    The key comes in the hidden field of ``{% idempotency_key %}``, and the second of two clicks
    waits for the response to the first.
    """

    idempotency_field: ClassVar[str | None] = KEY_FIELD


# as_view() and @action take options for which the class has an attribute.
for _option in fields(Policy):
    setattr(IdempotencyMixin, _PREFIX + _option.name, _option.default)
# __init_subclass__ covers the dispatch of a subclass.
leave(IdempotencyMixin, dispatch=IdempotencyMixin.dispatch, subclasses=True)
