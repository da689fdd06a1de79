"""What the service takes. Each limit is a setting: ``DOMAINS_MAX_BODY=2000000 make serve``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Sizes are bytes, times are seconds. Each field reads ``DOMAINS_<NAME>``."""

    max_body: int = 1_000_000  # one JSON request: parsed and answered at once, which blocks others for some ms a MB
    max_buffered: int = 100_000_000  # all JSON requests under way; in memory a text takes several times its size
    max_upload: int = 1 << 30  # one upload as it comes over the wire: streamed, never buffered
    max_uploads: int = 100  # at a time: each takes a megabyte or two
    max_kept: int = 10 << 30  # all uploads that wait on the disk to be searched as jobs
    max_expanded: int = 4 << 30  # the same upload after gunzip
    max_ratio: int = 200  # expanded / packed; real logs reach 20 to 50, a gzip bomb 1030
    max_names: int = 100_000  # different names counted in one upload: the answer stays bounded
    task_timeout: int = 10  # a text, its wait in the queue included; a large one gets more: see SECONDS_PER_CHARACTER
    read_timeout: int = 30  # the next piece of a body from a slow client
    min_rate: int = 10_000  # bytes a second that a body must come at, on average, after `read_timeout`

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Limits":
        """Read the limits that are set; the others keep their defaults.

        Raises:
            ValueError: A setting is not a whole number above 0.
        """
        names = {field.name: f"DOMAINS_{field.name.upper()}" for field in fields(cls)}
        return cls(**{n: _positive(v, environ[v]) for n, v in names.items() if v in environ})


#: What a text's size adds to its timeout. The dearest text known (a new international name every ten characters) takes
#: 5 µs a character here; this leaves a machine a quarter as fast its time.
SECONDS_PER_CHARACTER = 20e-6


def _positive(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ValueError(f"{name}={value!r} must be a whole number above 0, such as 1000000")
    return int(value)
