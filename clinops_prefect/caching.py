"""FrameInputs: Prefect's cache policy `INPUTS`, with frames hashed by content.

@task(cache_policy=FrameInputs() + TASK_SOURCE, …)
"""

import io
from dataclasses import dataclass, field, replace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from prefect.cache_policies import CachePolicy, CompoundCachePolicy
from prefect.exceptions import HashError

from clinops_prefect.frames.hashing.arrow import Hash
from clinops_prefect.frames.hashing.content import Digest

# The version of the hash, which is part of every key. Change it if a key could then stand for other inputs than before;
# otherwise results that are in a cache would be computed again.
_VERSION = "clinops-inputs-1"


@dataclass
class FrameInputs(CachePolicy):
    """A cache policy that hashes a task's inputs, with frames hashed by content.

    Prefect's `INPUTS` hashes the pickle of a frame. The pickle also depends on how the frame was made, so a task may
    run again on an equal frame that was read back. With this policy, equal frames have equal keys in every process and
    Python version: pandas DataFrames, Series, indexes and arrays, NumPy arrays, polars and Arrow tables, also inside
    lists, tuples, sets, dictionaries, dataclasses, pydantic models and other objects. A gigabyte takes one to two
    seconds.

    Put this policy first in a sum, as in `FrameInputs() + TASK_SOURCE`. Then `- "name"` also excludes an argument from
    the sum. A sum that begins with one of Prefect's policies ignores `- "name"`; write
    `TASK_SOURCE + (FrameInputs() - "name")` instead.

    Attributes:
        exclude: Names of arguments that are not part of the key.

    Raises:
        ValueError: An argument, such as a lock or an open file, cannot be hashed. The message names the argument.
    """

    exclude: list[str] = field(default_factory=list)

    def compute_key(
        self,
        task_ctx: Any,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> str | None:
        """The cache key; None for a task without inputs."""
        if not inputs:
            return None
        hashed = {name: _hash_of(name, value) for name, value in inputs.items() if name not in self.exclude}
        total = Hash(_VERSION.encode())
        for name in sorted(hashed):
            total.update(Hash(name.encode()).digest() + hashed[name])
        return total.hexdigest()

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """A policy whose key combines the keys of both policies."""
        return _with_names(super().__add__(other))

    def __sub__(self, other: str) -> CachePolicy:
        """The same policy without the argument `other` in its key."""
        if not isinstance(other, str):
            raise TypeError("Can only subtract strings from key policies.")
        return replace(self, exclude=[*self.exclude, other])


class _Sum(CompoundCachePolicy):
    """A sum with `FrameInputs` from which an argument can be excluded. Prefect's own sum does not support that."""

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return _with_names(super().__add__(other))

    def __sub__(self, other: str) -> CachePolicy:
        left = super().__sub__(other)
        assert isinstance(left, CompoundCachePolicy)
        return replace(left, policies=[p - other if isinstance(p, FrameInputs) else p for p in left.policies])


def _with_names(policy: CachePolicy) -> CachePolicy:
    if not isinstance(policy, CompoundCachePolicy):
        return policy
    settings = {name: getattr(policy, name) for name in ("key_storage", "isolation_level", "lock_manager")}
    return _Sum(policies=policy.policies, **settings)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles an object, with the frames inside replaced by hashes of their content."""

    def __init__(self, file: io.BytesIO, digest: Digest) -> None:
        super().__init__(file)
        self._digest = digest

    def persistent_id(self, obj: Any) -> bytes | None:
        return self._digest.of(obj) if self._digest.is_known(obj) else None


def _hash_of(name: str, value: Any) -> bytes:
    held: list[str] = []

    def pickled(value: Any) -> bytes:
        held.append(f"{type(value).__module__}.{type(value).__qualname__}")
        file = io.BytesIO()
        _Pickler(file, digest).dump(value)
        held.pop()
        return Hash(file.getbuffer()).digest()

    digest = Digest(pickled)
    try:
        return digest.of(value)
    except Exception as error:
        # The error's own message is left out, because it may quote a value.
        what = held[-1] if held else f"{type(value).__module__}.{type(value).__qualname__}"
        cause = HashError(f"Unable to create hash - {what} could not be serialized ({type(error).__name__}).")
    raise ValueError(
        f"the argument {name!r} cannot be hashed for a cache key: it is or has a {what}, of which there is no stable "
        f"form. Leave it out with FrameInputs() - {name!r}, or pass cache_policy=NO_CACHE"
    ) from cause
