"""A call becomes a job that can be stored: its options are checked, its arguments encoded and signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool._usercode.callables import check_function
from lifepool.errors import PayloadTooLarge
from lifepool.jobs import options as opt
from lifepool.jobs.functions import path_of, split_call
from lifepool.jobs.ids import new_id
from lifepool.jobs.large import LARGE, in_thread_if
from lifepool.jobs.records import NewJob
from lifepool.jobs.rules import SPARE_ATTEMPTS
from lifepool.jobs.values import digest, encode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lifepool.jobs.options import Duration, Target
    from lifepool.jobs.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Submissions:
    """Makes jobs of calls.

    Attributes:
        sealer: Signs arguments.
        keep: Seconds that a job stays after it has ended, unless it says otherwise; None: for ever.
        max_payload: Bytes of arguments at most; None: no limit.
        may_sign: Whether webhooks can be signed.
    """

    sealer: Sealer
    keep: float | None
    max_payload: int | None
    may_sign: bool

    async def new_job(
        self,
        fn: Any,
        args: tuple[Any, ...],
        *,
        idempotency_key: str | None,
        timeout: Duration | None,
        retries: int,
        max_attempts: int | None,
        keep: Duration | None,
        priority: int,
        run_at: datetime | Duration | None,
        limit_key: str | None,
        limit: int,
        tags: Iterable[str],
        name: str | None,
        on_done: Target | Iterable[Target] | None,
    ) -> NewJob:
        """Return the job of a call. Arguments, options and errors are those of ``Jobs.submit``."""
        fn, args, keywords = split_call(fn, args)
        check_function(getattr(fn, "function", fn))
        path, job_id = path_of(fn), new_id()
        call, may_pickle = (args, keywords), self.sealer.signs
        encoding, body = encode(call, "args", may_pickle=may_pickle)
        if self.max_payload is not None and len(body) > self.max_payload:
            raise PayloadTooLarge("arguments", len(body), self.max_payload)
        is_large = len(body) > LARGE
        key = opt.text("idempotency_key", idempotency_key)
        payload_hash = ""
        if key is not None:
            found = await in_thread_if(is_large, digest, call, "args", may_pickle=may_pickle)
            payload_hash = hashlib.sha256(path.encode() + b"\0" + found).hexdigest()
        retries = opt.whole("retries", retries, least=0)
        return NewJob(
            id=job_id,
            name=opt.text("name", name) or path.partition(":")[2],
            function=path,
            arguments=await in_thread_if(is_large, self.sealer.seal, "arguments", job_id, path, encoding, body),
            payload_hash=payload_hash,
            idempotency_key=key,
            timeout=opt.seconds("timeout", timeout),
            retries=retries,
            max_attempts=retries + SPARE_ATTEMPTS
            if max_attempts is None
            else opt.whole("max_attempts", max_attempts, least=1),
            keep=self.keep if keep is None else opt.seconds("keep", keep),
            priority=opt.whole("priority", priority, least=-(2**31)),
            run_at=opt.instant(run_at),
            limit_key=opt.text("limit_key", limit_key),
            limit=opt.whole("limit", limit, least=1),
            tags=opt.texts("tags", tags),
            on_done=opt.targets(on_done, may_sign=self.may_sign),
        )
