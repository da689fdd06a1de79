"""One experiment with one pool: ``python -m benchmarks.survival.cell CONTENDER EXPERIMENT FOLDER``.

The verdict is written to a file: a pipe would stay open as long as any orphan lives.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict

from benchmarks.survival import probes
from benchmarks.survival.clusters import make_contender
from benchmarks.survival.experiments import EXPERIMENTS, Verdict

WORKERS = 2
VERDICT = "verdict.json"


async def measure(contender_name: str, experiment_name: str, folder: str) -> None:
    contender = make_contender(contender_name, WORKERS)
    await contender.start()
    await asyncio.gather(*(contender.run(probes.double, number) for number in range(16)))  # every worker is up
    verdict = await EXPERIMENTS[experiment_name][1](contender, folder)
    write_down(verdict, folder)
    os._exit(0)  # closing is another experiment; whoever started us ends what is left


def write_down(verdict: Verdict, folder: str) -> None:
    with open(os.path.join(folder, VERDICT), "w") as file:
        json.dump(asdict(verdict), file)


if __name__ == "__main__":
    asyncio.run(measure(*sys.argv[1:4]))
