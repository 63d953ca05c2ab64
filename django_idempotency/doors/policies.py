"""Which policy covers a method of a view class: the options of every door around it, put together.

A door asks for each request, with what doors outside the class have said on it; a description of
the API asks without one.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..policy import Options, Policy, resolve

Handler = Callable[..., Any]

#: Where a door leaves its options: on a function, a method or a class.
OPTIONS = "_idempotency_options"
#: Where a door around a callback leaves them for who makes the view from the callback's initkwargs.
OUTSIDE = "_idempotency_outside"


def handler_of(view: Any, method: str) -> Handler | None:
    """The handler of a view instance for an HTTP method, or None."""
    name = method.lower()
    if name not in view.http_method_names:
        return None
    # Until its callback is called, a ViewSet has its handlers only under the names of its actions.
    action = (getattr(view, "action_map", None) or {}).get(name, "")
    handler: Handler | None = getattr(view, name, None) or getattr(view, action, None)
    return handler


def _hidden(view: Any, method: str) -> list[Options]:
    """The options of a door below REST framework's ``@api_view``, which hides it in its handler."""
    function = getattr(handler_of(view, method), "__func__", None)
    if not inspect.isfunction(function) or function.__code__.co_freevars != ("func",):
        return []
    hidden = (function.__closure__ or ())[0].cell_contents
    options = getattr(hidden, OPTIONS, None)
    return [] if options is None else [options]


def _layers(
    view: Any, method: str, outside: Iterable[Options], of_dispatch: Options | None
) -> Iterator[Options | None]:
    """The options of every door that the class's dispatch goes through, the strongest last."""
    attributes = getattr(view, "get_idempotency_options", None)
    yield attributes() if attributes else None
    yield from outside
    yield getattr(type(view), OPTIONS, None)
    for cls in type(view).__mro__:
        if (dispatch := vars(cls).get("dispatch")) is not None:
            yield getattr(dispatch, OPTIONS, None)
    yield of_dispatch
    yield getattr(handler_of(view, method), OPTIONS, None)


def _effective(layers: list[Options], method: str) -> Policy | None:
    policy = resolve({name: value for layer in layers for name, value in layer.items()})
    return policy if layers and method in policy.methods else None


def policy_of(
    view: Any, method: str, outside: Iterable[Options] = (), of_dispatch: Options | None = None
) -> Policy | None:
    """The policy under which a view instance's dispatch covers this method; None if it does not.

    ``outside`` are the options of doors that are not the class's own, the strongest last, and
    ``of_dispatch`` those of a door on ``dispatch`` itself.
    """
    found = _layers(view, method, outside, of_dispatch)
    layers = [layer for layer in found if layer is not None]
    # Below @api_view a door that is alone covers its function by itself.
    return _effective([*layers, *_hidden(view, method)], method) if layers else None


def described_policy(view: Any, method: str, outside: Iterable[Options] = ()) -> Policy | None:
    """The policy that covers this method of a view instance, by whichever door; None without one.

    The doors around its callback are those in ``outside``, and the one its ``initkwargs`` tell of.
    """
    own = getattr(view, OUTSIDE, None)
    found = _layers(view, method, [*outside, *([] if own is None else [own])], None)
    layers = [layer for layer in found if layer is not None]
    return _effective([*layers, *_hidden(view, method)], method)
