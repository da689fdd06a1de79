"""No guard around `uvicorn.run`: every import of this script starts a server."""

import os

import uvicorn
from fastapi import FastAPI

from lifepool import Pool

with open(os.environ["IMPORT_LOG"], "a") as log:
    log.write(f"{os.getpid()}\n")

pool = Pool(max_workers=2)
app = FastAPI(lifespan=pool.lifespan)

uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]))
