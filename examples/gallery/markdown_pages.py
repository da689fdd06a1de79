"""Markdown to HTML: ``uvicorn examples.gallery.markdown_pages:app``.

::

    curl --data-binary '# Hello' localhost:8000/html

Each text takes a few milliseconds, and a hostile one much longer. In the event loop, either makes every other client
wait.
"""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from lifepool import Pool
from lifepool.integrations.fastapi import install

MOST_BYTES = 1 << 20

pool = Pool(preload=["markdown_it"])
app = FastAPI(title="Markdown")
install(app, pool)


def html_of(markdown: str) -> str:
    """Return the text as HTML; HTML in the text is shown, not obeyed."""
    from markdown_it import MarkdownIt

    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return html


@app.post("/html", response_class=HTMLResponse)
async def html(request: Request) -> str:
    """Return the Markdown text that is the request's body as HTML."""
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise HTTPException(413, f"at most {MOST_BYTES >> 20} MiB")
    return await pool.run(html_of, body.decode(errors="replace"), timeout=10.0)


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
