"""`ray`, as its own command has it, on loopback alone: by itself it binds every interface of the machine."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"  # with 0 nodes may not join; it is read when Ray is imported

import ray._private.services as services
from ray.scripts.scripts import main

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for what this one starts


def on_loopback(*_: Any, **__: Any) -> str:
    return "127.0.0.1"


def no_addresses() -> frozenset[str]:
    return frozenset()


services.resolve_ip_for_localhost = services.get_node_ip_address = on_loopback
services.find_gcs_addresses = no_addresses  # a head that is started again takes its nodes for another, on this machine

if __name__ == "__main__":
    sys.argv[0] = "ray"
    main()
