"""Stands in for the driver process: does what its argument says."""

import json
import sys
import time
from typing import Any

from lifepool.backends.ray.frames import ALIVE, DOWN, LOG, UP, Frame


def put(frame: Frame) -> None:
    sys.stdout.buffer.write(frame.head() + frame.data)
    sys.stdout.buffer.flush()


def main(settings: dict[str, Any]) -> None:
    put(Frame(UP))
    if settings["does"] == "fail":
        put(Frame.about(DOWN, reason="it was asked to"))
    elif settings["does"] == "break":
        sys.exit("it broke")
    elif settings["does"] == "hang":
        time.sleep(60)
    elif settings["does"] == "log":
        sys.stderr.write("what Ray says\n")
        put(Frame.about(LOG, level="warning", message="what we say"))
        sys.stdin.buffer.read()
    else:
        put(Frame(ALIVE))
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
