"""A CSV file, summed up with pandas: ``uvicorn examples.gallery.aggregation:app``.

::

    curl --data-binary @sales.csv 'localhost:8000/sums?by=shop&of=price'

pandas holds the interpreter's lock for most of such a request, so threads do not help. Here only workers import it: the
server stays small.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from lifepool import Pool
from lifepool.integrations.fastapi import install

MOST_BYTES = 50 << 20

pool = Pool(preload=["pandas"], max_worker_memory="2GiB")
app = FastAPI(title="Sums")
install(app, pool)


def sums_of(csv: bytes, by: str, of: str) -> list[dict[str, Any]]:
    """Return count, sum and mean of a column for each value of another one, the largest sum first."""
    import pandas

    try:
        table = pandas.read_csv(BytesIO(csv))
    except (ValueError, pandas.errors.ParserError) as error:
        raise ValueError(f"this is no CSV file: {error}") from None
    missing = {by, of} - set(table.columns)
    if missing or not pandas.api.types.is_numeric_dtype(table[of]):
        raise ValueError(f"expected the columns {by!r} and {of!r}, and numbers in {of!r}; there are {list(table)}")
    sums = table.groupby(by)[of].agg(["count", "sum", "mean"]).sort_values("sum", ascending=False)
    rows: list[dict[str, Any]] = sums.reset_index().to_dict("records")
    return rows


@app.post("/sums")
async def sums(request: Request, by: str, of: str) -> list[dict[str, Any]]:
    """Sum up the CSV file that is the request's body."""
    csv = await request.body()
    if len(csv) > MOST_BYTES:
        raise HTTPException(413, f"at most {MOST_BYTES >> 20} MiB")
    try:
        return await pool.run(sums_of, csv, by, of, timeout=10.0)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
