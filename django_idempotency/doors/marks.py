"""What doors leave on a view, and what is behind the decorators of one.

A view is a function, a method, a class, its ``dispatch`` or its callback. All that doors leave on
it is one :class:`Mark`; what they know of a request is in its
:class:`~django_idempotency.http.requests.RequestState`.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

from django.views import View

from ..policy import Options

#: The name of the attribute.
MARK = "_idempotency"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the doors of a view leave on it."""

    #: The options of the doors on it; None without a door. On a view instance that is made from
    #: a callback's ``initkwargs``: those of the doors around the callback.
    options: Options | None = None
    #: On a class with the mixin: the options that are its attributes.
    attributes: Options = field(default_factory=dict)
    #: On a class: the ``dispatch`` that covers the handlers of its instances.
    dispatch: Callable[..., Any] | None = None
    #: On a class: whether subclasses with a ``dispatch`` of their own are covered as well.
    subclasses: bool = False


_NONE = Mark()


def mark_of(view: Any) -> Mark:
    """The mark of a view; what a class has not been given, it inherits from its bases."""
    if isinstance(view, type):
        return _inherited(view)
    while isinstance(view, functools.partial):
        view = view.func
    # To call an instance is to call a method of its class.
    called = type(view).__call__ if callable(view) else None
    mark: Mark = getattr(view, MARK, getattr(called, MARK, _NONE))
    return mark


def _inherited(cls: type[Any]) -> Mark:
    marks = [vars(base)[MARK] for base in cls.__mro__ if MARK in vars(base)]
    return Mark(
        options=next((mark.options for mark in marks if mark.options is not None), None),
        attributes=next((mark.attributes for mark in marks if mark.attributes), {}),
        dispatch=next((mark.dispatch for mark in marks if mark.dispatch), None),
        subclasses=any(mark.subclasses for mark in marks),
    )


def leave(view: Any, **changes: Any) -> None:
    """The view has a mark of its own, with these changes to the one it had."""
    setattr(view, MARK, replace(mark_of(view), **changes))


def view_class_of(callback: Any) -> type[View] | None:
    """The class behind what ``as_view()`` or ``@api_view`` returned; None behind anything else."""
    cls = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    return cls if isinstance(cls, type) and issubclass(cls, View) else None


def unwrapped(view: Any) -> Iterator[Any]:
    """The view, then what its decorators were put around, from the outside to the inside."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def bound_method(view: Any) -> MethodType | None:
    """The bound method that ``method_decorator`` or Ninja handed over, below other decorators."""
    for each in unwrapped(view):
        bound = each.func if isinstance(each, functools.partial) else each
        if isinstance(bound, MethodType):
            return bound
    return None


def is_dispatch(instance: Any, function: Any) -> bool:
    """Whether a function is what a ``dispatch`` of this view instance's class was made of.

    Its name does not tell: a function view may be called ``dispatch``, and so may a method of a
    class that is no view.
    """
    return isinstance(instance, View) and any(
        function is each
        for cls in type(instance).__mro__
        for each in unwrapped(vars(cls).get("dispatch"))
    )
