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
    match settings.get("does"):
        case "fail":
            put(Frame.about(DOWN, reason="it was asked to"))
            return
        case "break":
            sys.exit("it broke")
        case "hang":
            time.sleep(60)
        case "log":
            sys.stderr.write("what Ray says\n")
            put(Frame.about(LOG, level="warning", message="what we say"))
        case "live":
            put(Frame(ALIVE))
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
