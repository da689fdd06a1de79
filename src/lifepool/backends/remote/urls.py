"""Read the URL of a cluster: which engine, where, and the few options; refuse what is wrong in it at once."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from lifepool.backends.remote.backend import IN_FLIGHT, RemoteBackend
from lifepool.backends.remote.messages import Signer
from lifepool.backends.remote.security import needs_secret
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.remote.transport import Transport

#: The variable with the secret that signs messages.
SECRET_VARIABLE = "LIFEPOOL_SECRET"  # noqa: S105 - its name


class Engine(NamedTuple):
    """An engine that a URL can name.

    Attributes:
        module: Has ``make_transport(url)``.
        package: What has to be installed for it.
        extra: Of lifepool, that installs it.
        has_host: Whether its URL names a machine.
        demands_secret: Whether messages pass where others could write them. Not so where whoever can write them can run
            code anyway, by means of the engine itself.
        program: The engine's own command that starts a node; None if it is ``lifepool worker``.
        node_setting: How a node is given a setting.
        options: What its URL may say beside what all may.
        also: What else has to be installed, which the extra installs as well.
    """

    module: str
    package: str
    extra: str
    has_host: bool = True
    demands_secret: bool = True
    program: str | None = None
    node_setting: str = "lifepool worker --{} ..."
    options: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


_ON_REDIS = Engine("lifepool.backends.celery.transport", "celery", "celery", options=("workers",))
_DASK = Engine(
    "lifepool.backends.dask.transport",
    "distributed",
    "dask",
    demands_secret=False,
    program="dask worker",
    node_setting="lifepool.{} in the Dask configuration of its workers",
)
_RAY = Engine(
    "lifepool.backends.ray.transport",
    "ray",
    "ray",
    demands_secret=False,
    program="ray start",
    node_setting="LIFEPOOL_{} (in capitals, with _) in the environment of 'ray start'",
    options=("cpus",),
)

#: By the scheme of the URL.
ENGINES = {
    "celery+redis": _ON_REDIS,
    "celery+rediss": _ON_REDIS,
    "celery+amqp": Engine("lifepool.backends.celery.amqp_transport", "celery", "celery"),
    "celery+amqps": Engine("lifepool.backends.celery.amqp_transport", "celery", "celery"),
    "dask+tcp": _DASK,
    "dask+tls": _DASK,
    "ray": _RAY._replace(also=("grpc",)),
    "ray+gcs": _RAY,
    "ray+local": _RAY._replace(has_host=False),
}


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,100}", text):
        raise ValueError
    return text


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise ValueError
    return number


def _workers(text: str) -> str:
    if text not in ("lifepool", "celery"):
        raise ValueError
    return text


#: The options of URLs: how each is read, and what it must be.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "queue": (_name, "a name of letters, digits, '.', '_' and '-'"),
    "in_flight": (_whole, "a whole number >= 1"),
    "ahead": (_share, "a share from 0 to 100"),
    "workers": (_workers, "'lifepool', or 'celery' for workers of an app that was given to register()"),
    "cpus": (_whole, "a whole number >= 1"),
}
#: Those that all engines have.
_COMMON = ("queue", "in_flight", "ahead")


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The URL of a cluster, read.

    Attributes:
        scheme: Names the engine and how it is reached.
        address: The rest without the options, as the engine's own library takes it; it may hold a password.
        host: The name of the machine, if it has one.
        queue: Calls of this queue are run by nodes of this queue.
        in_flight: Calls that one client has under way at most.
        ahead: Calls beyond the slots of the cluster, as a share of them, that may wait there.
        workers: What runs calls: ``"lifepool"``, nodes of our own, or ``"celery"``, the processes of Celery's workers.
        cpus: CPUs that each node takes, of those that its machine has.
    """

    scheme: str
    address: str
    host: str | None
    queue: str = "lifepool"
    in_flight: int = IN_FLIGHT
    ahead: float = 0.5
    workers: str = "lifepool"
    cpus: int | None = None

    @property
    def where(self) -> str:
        """Return the address without a user and a password, for messages."""
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def is_amqp(self) -> bool:
        """Whether its broker is RabbitMQ."""
        return self.scheme in ("celery+amqp", "celery+amqps")

    @property
    def engine(self) -> Engine:
        """Return the engine."""
        return ENGINES[self.scheme]


def is_url(backend: str) -> bool:
    """Return whether this names a cluster, right or wrong."""
    return backend.partition(":")[0] in ENGINES


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without doing so."""
    return importlib.util.find_spec(package) is not None


def parse(text: str) -> ClusterUrl:
    """Read a URL.

    Raises:
        ValueError: If there is something wrong in it.
        BackendUnsupported: If this version has no such engine, or what it needs is not installed.
    """
    parts = urlsplit(text)
    scheme = parts.scheme
    if scheme not in ENGINES:
        raise ValueError(f"backend={_shown(parts)!r}: expected the URL of a cluster, as in 'celery+redis://localhost'")
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"backend={_shown(parts)!r}: {error}") from None
    if not host and ENGINES[scheme].has_host:
        raise ValueError(f"backend={_shown(parts)!r}: expected a host, as in '{scheme}://localhost'")
    if (host or parts.path) and not ENGINES[scheme].has_host:
        raise ValueError(f"backend={_shown(parts)!r}: expected no host, as in '{scheme}://'")
    options = _options(parts.query, _shown(parts), (*_COMMON, *ENGINES[scheme].options))
    address = urlunsplit(parts._replace(scheme=scheme.partition("+")[2] or scheme, query="", fragment=""))
    url = ClusterUrl(scheme, address, host, **options)
    missing = [package for package in (url.engine.package, *url.engine.also) if not is_installed(package)]
    if missing:
        raise BackendUnsupported(
            f"backend={scheme!r} needs {missing[0]}, which is not installed",
            capability=scheme,
            hint=f"pip install 'lifepool[{url.engine.extra}]'",
        )
    return url


def _options(query: str, shown: str, known: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(f"backend={shown!r}: {error}") from None
    for name, value in given:
        if name not in known:
            raise ValueError(f"backend={shown!r}: there is no option {name!r}, expected one of {', '.join(known)}")
        if name in options:
            raise ValueError(f"backend={shown!r}: {name} is given twice")
        read, expected = _OPTIONS[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise ValueError(f"backend={shown!r}: {name}={value!r}: expected {expected}") from None
    return options


def _shown(parts: SplitResult) -> str:
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def secret_here() -> str | None:
    """Return the secret of this process, if it has one."""
    return os.environ.get(SECRET_VARIABLE, "").strip() or None


def signer_for(url: ClusterUrl) -> Signer:
    """Return what signs the messages of this cluster.

    Raises:
        BackendUnsupported: If there is no secret, and messages pass where others can write them.
    """
    secret = secret_here()
    if secret is None and url.engine.demands_secret and needs_secret(url.host):
        raise BackendUnsupported(
            f"a cluster at {url.where} needs a secret: whoever can write there could have any call run",
            capability="secret",
            hint=f"set {SECRET_VARIABLE} to the same long random text for the app and its nodes",
        )
    return Signer(secret)


def make_remote_backend(text: str, **options: Any) -> RemoteBackend:
    """Make the backend of a cluster. Only its engine is imported.

    Args:
        text: The URL.
        **options: Go to ``RemoteBackend``.
    """
    url = parse(text)
    signer = signer_for(url)
    transport: Transport = importlib.import_module(url.engine.module).make_transport(url)
    if url.workers == "celery":
        options |= {"progress": False, "shares": False}
    return RemoteBackend(transport, signer, in_flight=url.in_flight, ahead=url.ahead, **options)
