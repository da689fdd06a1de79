"""One experiment with one pool: ``python -m benchmarks.survival.cell CONTENDER EXPERIMENT FOLDER``; prints JSON."""

import asyncio
import json
import os
import sys
from dataclasses import asdict

from benchmarks.contenders import make_contender
from benchmarks.survival import deeds
from benchmarks.survival.experiments import EXPERIMENTS

WORKERS = 2


async def measure(contender_name: str, experiment_name: str, folder: str) -> None:
    contender = make_contender(contender_name, WORKERS)
    await contender.start()
    await asyncio.gather(*(contender.run(deeds.double, number) for number in range(16)))  # every worker is up
    verdict = await EXPERIMENTS[experiment_name][1](contender, folder)
    print(json.dumps(asdict(verdict)), flush=True)
    os._exit(0)  # closing is another experiment; whoever started us ends what is left


if __name__ == "__main__":
    asyncio.run(measure(*sys.argv[1:4]))
