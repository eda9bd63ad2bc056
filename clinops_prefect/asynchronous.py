"""Async wrappers: the `a…` form of a method or function makes the same call in a thread, so the event loop goes on."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def asynchronous(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """The async wrapper of a method that returns a value."""
    name = method.__name__

    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # Look the method up by name, so that the wrapper calls a subclass's override. `to_thread` copies the context
        # variables, such as those of the flow run.
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
        # A future cannot raise StopIteration, so the end is marked by a sentinel.
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item  # type: ignore[misc]

    _name_wrapper(wrapper, method)
    return wrapper


def asynchronous_function(
    function: Callable[P, R], run: Callable[..., Coroutine[Any, Any, R]] = asyncio.to_thread
) -> Callable[P, Coroutine[Any, Any, R]]:
    """The async wrapper of a function, such as a Prefect task's.

    Args:
        function: The function.
        run: Calls a function with its arguments in a thread, and waits for it.
    """

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return await run(function, *args, **kwargs)

    _name_wrapper(wrapper, function)
    # Prefect reads a task's description and its parameters from these two.
    wrapper.__doc__ = function.__doc__
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper


def _name_wrapper(wrapper: Any, method: Callable[..., Any]) -> None:
    functools.update_wrapper(wrapper, method)
    del wrapper.__wrapped__  # otherwise `inspect` takes the wrapper for a function that is not async
    wrapper.__name__ = f"a{method.__name__}"
    wrapper.__qualname__ = method.__qualname__.removesuffix(method.__name__) + wrapper.__name__
    wrapper.__doc__ = f"Like `{method.__name__}`, for async code."
