"""What runs in a worker for a job: find the function, read its arguments, call it, encode what it returns.

Workers import this module: keep it light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.jobs.functions import find
from lifepool.jobs.values import decode, encode

if TYPE_CHECKING:
    from lifepool.jobs.values import Encoding


class JobCall:
    """One call of a job's function. What watches the pool sees it under the name of the function.

    Args:
        path: The function's import path.
        encoding: Of the arguments.
        body: The arguments, checked already; that of ``(args, keywords)``.
        may_pickle: Whether the result may be a pickle.
    """

    __slots__ = ("__qualname__", "_body", "_encoding", "_may_pickle", "_path")

    def __init__(self, path: str, encoding: str, body: bytes, *, may_pickle: bool) -> None:
        self.__qualname__ = path.partition(":")[2]
        self._path = path
        self._encoding = encoding
        self._body = body
        self._may_pickle = may_pickle

    def __call__(self) -> tuple[Encoding, bytes]:
        """Call it and return the encoded result.

        Raises:
            JobNotCallable: If the function or the arguments can't be found or read here.
            JobNotStorable: If the result can't be stored.
        """
        function = find(self._path)
        args, keywords = decode(self._encoding, self._body)
        return encode(function(*args, **keywords), "result", may_pickle=self._may_pickle)

    def __reduce__(self) -> tuple[object, ...]:
        return (JobCall.of_parts, self.parts())

    def parts(self) -> tuple[str, str, bytes, bool]:
        """Return what it is made of, the function's import path first."""
        return self._path, self._encoding, self._body, self._may_pickle

    @classmethod
    def of_parts(cls, path: str, encoding: str, body: bytes, may_pickle: bool) -> JobCall:
        """Make one of what ``parts`` has returned."""
        return cls(path, encoding, body, may_pickle=may_pickle)
