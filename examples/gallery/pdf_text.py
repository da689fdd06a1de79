"""The text of a PDF file: ``uvicorn examples.gallery.pdf_text:app``.

::

    curl --data-binary @paper.pdf localhost:8000/text

A PDF is somebody else's program: a small file may take minutes, or all the memory. The pool ends such a task after five
seconds, or its worker above 1 GiB; the service goes on.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from lifepool import Pool
from lifepool.integrations.fastapi import install

MOST_BYTES, MOST_PAGES = 20 << 20, 500

pool = Pool(preload=["pypdf"], max_worker_memory="1GiB")
app = FastAPI(title="PDF text")
install(app, pool)


def text_of(pdf: bytes) -> dict[str, Any]:
    """Return the text of each page."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        pages = PdfReader(BytesIO(pdf)).pages
        if len(pages) > MOST_PAGES:
            raise ValueError(f"{len(pages)} pages; at most {MOST_PAGES} are read")
        return {"pages": [page.extract_text() for page in pages]}
    except PyPdfError as error:
        raise ValueError(f"this is no PDF that can be read: {error}") from None


@app.post("/text")
async def text(request: Request) -> dict[str, Any]:
    """Return the text of the PDF that is the request's body."""
    pdf = await request.body()
    if len(pdf) > MOST_BYTES:
        raise HTTPException(413, f"at most {MOST_BYTES >> 20} MiB")
    try:
        return await pool.run(text_of, pdf, timeout=5.0)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
