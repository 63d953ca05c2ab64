"""Which policy covers a method of a view class: the options of every door around it, put together.

:func:`.classes.dispatched` asks for each request, with the doors outside of the class that the
request has come through; system checks and descriptions of an API ask without a request.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..policy import Options, Policy, resolve
from .marks import MARK, mark_of


def handler_of(view: Any, method: str) -> Callable[..., Any] | None:
    """The handler of a view instance for an HTTP method, or None."""
    name = method.lower()
    if name not in view.http_method_names:
        return None
    # Until its callback is called, a ViewSet has its handlers only under the names of its actions.
    action = (getattr(view, "action_map", None) or {}).get(name, "")
    handler: Callable[..., Any] | None = getattr(view, name, None) or getattr(view, action, None)
    return handler


def policy_of(
    view: Any, method: str, outside: Iterable[Options] = (), of_dispatch: Options | None = None
) -> Policy | None:
    """The policy under which a view instance's dispatch covers this method; None if it does not.

    ``outside`` are the options of doors that are not the class's own, the strongest last, and
    ``of_dispatch`` those of a door on ``dispatch`` itself.
    """
    layers = _layers(view, method, outside, of_dispatch)
    # Below @api_view a door that is alone covers its function by itself.
    return _effective([*layers, *_hidden(view, method)], method) if layers else None


def described_policy(view: Any, method: str, outside: Iterable[Options] = ()) -> Policy | None:
    """The policy that covers this method of a view instance, by whichever door; None without one.

    The doors around its callback are those in ``outside``, and those its ``initkwargs`` tell of.
    """
    told = [vars(view)[MARK].options] if MARK in vars(view) else []
    layers = _layers(view, method, [*outside, *told], None)
    return _effective([*layers, *_hidden(view, method)], method)


def _layers(
    view: Any, method: str, outside: Iterable[Options], of_dispatch: Options | None
) -> list[Options]:
    """The options of every door that the class's dispatch goes through, the strongest last."""

    def found() -> Iterator[Options | None]:
        attributes = getattr(view, "get_idempotency_options", None)
        yield attributes() if attributes else None
        yield from outside
        yield mark_of(type(view)).options
        for cls in type(view).__mro__:
            yield mark_of(vars(cls).get("dispatch")).options
        yield of_dispatch
        yield mark_of(handler_of(view, method)).options

    return [layer for layer in found() if layer is not None]


def _hidden(view: Any, method: str) -> list[Options]:
    """The options of a door below REST framework's ``@api_view``, which hides it in its handler."""
    function = getattr(handler_of(view, method), "__func__", None)
    if not inspect.isfunction(function) or function.__module__ != "rest_framework.decorators":
        return []
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    options = mark_of(cells["func"].cell_contents).options if "func" in cells else None
    return [] if options is None else [options]


def _effective(layers: list[Options], method: str) -> Policy | None:
    policy = resolve({name: value for layer in layers for name, value in layer.items()})
    return policy if layers and method in policy.methods else None
