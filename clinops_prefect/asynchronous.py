"""The `a…` form of a method, made from it: the same call in a worker thread, so the event loop goes on meanwhile."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def asynchronous(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """The async wrapper of a method that returns."""
    name = method.__name__

    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # By name, so that a subclass that overrides the method overrides its wrapper too. Context variables (the flow
        # run's) go along.
        return await asyncio.to_thread(getattr(self, name), *args, **kwargs)

    _name_wrapper(wrapper, method)
    return wrapper


def asynchronous_iterator(
    method: Callable[Concatenate[S, P], Iterator[R]],
) -> Callable[Concatenate[S, P], AsyncIterator[R]]:
    """The async wrapper of a method that yields."""
    name = method.__name__
    end = object()

    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        items = getattr(self, name)(*args, **kwargs)
        # A StopIteration cannot leave a thread's future, hence the sentinel.
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item  # type: ignore[misc]

    _name_wrapper(wrapper, method)
    return wrapper


def _name_wrapper(wrapper: Any, method: Callable[..., Any]) -> None:
    functools.update_wrapper(wrapper, method)
    del wrapper.__wrapped__  # or inspect would say that the wrapper is not a coroutine function
    wrapper.__name__ = f"a{method.__name__}"
    wrapper.__qualname__ = method.__qualname__.removesuffix(method.__name__) + wrapper.__name__
    wrapper.__doc__ = f"Like `{method.__name__}`, for async code."
