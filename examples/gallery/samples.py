"""Inputs for the examples: what their tests and their measurements send."""

from __future__ import annotations

import random
from io import BytesIO


def pdf(pages: int, lines: int = 40) -> bytes:
    """Return a PDF file with that many pages of text, written by hand: the format is not hard."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in range(1, pages + 1):
        rows = "".join(f"(Page {page}, line {line}: the quick brown fox) Tj T*\n" for line in range(1, lines + 1))
        stream = f"BT /F1 12 Tf 14 TL 50 780 Td\n{rows}ET".encode()
        content = len(objects) + 1
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % content
        )
    objects[1] = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (b" ".join(b"%d 0 R" % kid for kid in kids), pages)
    file, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size, start = len(objects) + 1, len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table)
    file += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)
    return bytes(file)


def photo(width: int, height: int) -> bytes:
    """Return a JPEG file with colours that go over into each other."""
    from PIL import Image

    red, green = Image.linear_gradient("L"), Image.radial_gradient("L")
    image = Image.merge("RGB", (red, green, red.rotate(90))).resize((width, height))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def csv(rows: int) -> bytes:
    """Return sales of some shops."""
    draw = random.Random(1)  # noqa: S311 - sales, no secrets
    lines = [f"{number},shop {draw.randrange(50)},{draw.randrange(1, 10_000) / 100}" for number in range(rows)]
    return "\n".join(["sale,shop,price", *lines]).encode()


def markdown(sections: int) -> bytes:
    """Return a document with headings, lists, tables and code."""
    section = (
        "## Section {0}\n\nSome *words* with [links](https://example.com/{0}) and `code`.\n\n"
        "- one\n- two\n  - three\n\n| a | b |\n|---|---|\n| {0} | **bold** |\n\n```python\nprint({0})\n```\n\n"
    )
    return "".join(section.format(number) for number in range(sections)).encode()


def digit() -> list[float]:
    """Return the pixels of a handwritten zero."""
    from sklearn.datasets import load_digits

    pixels: list[float] = load_digits().data[0].tolist()
    return pixels
