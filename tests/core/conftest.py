"""The core needs no machine: while one of its tests runs, there is no network, no process and no thread to be had."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_machine() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the core did input or output")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(os, "fork", refuse)
        patch.setattr(subprocess, "Popen", refuse)
        patch.setattr(threading.Thread, "start", refuse)
        yield
