"""Thumbnails of pictures: ``uvicorn examples.gallery.thumbnails:app``.

::

    curl --data-binary @photo.jpg localhost:8000/thumbnail --output small.jpg

Pillow refuses pictures that would fill the memory when they are decoded; the pool ends what takes too long.
"""

from __future__ import annotations

from io import BytesIO

from fastapi import FastAPI, HTTPException, Request, Response

from lifepool import Pool
from lifepool.integrations.fastapi import install

MOST_BYTES = 20 << 20

pool = Pool(preload=["PIL.Image", "PIL.JpegImagePlugin"], max_worker_memory="1GiB")
app = FastAPI(title="Thumbnails")
install(app, pool)


def thumbnail_of(picture: bytes, size: int) -> bytes:
    """Return the picture as a JPEG file of at most ``size`` pixels in width and height."""
    from PIL import Image

    try:
        with Image.open(BytesIO(picture)) as image:
            image.draft("RGB", (size, size))  # a JPEG file is decoded at a fraction of its size right away
            small = image.convert("RGB")
            small.thumbnail((size, size))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"this is no picture that can be read: {error}") from None
    file = BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


@app.post("/thumbnail")
async def thumbnail(request: Request, size: int = 256) -> Response:
    """Return a small version of the picture that is the request's body."""
    picture = await request.body()
    if len(picture) > MOST_BYTES or not 16 <= size <= 2048:
        raise HTTPException(413, f"at most {MOST_BYTES >> 20} MiB, and a size of 16 to 2048 pixels")
    try:
        small = await pool.run(thumbnail_of, picture, size, timeout=5.0)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return Response(small, media_type="image/jpeg")


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
