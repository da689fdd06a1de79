"""Files out of a multipart/form-data body while it arrives; nothing is spooled to disk."""

import logging
from collections.abc import Callable, Iterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from examples.domains.decoding import Reader
from examples.domains.problems import Problem

HINT = "Send your files in the field `file`: curl -F file=@log.txt.gz http://127.0.0.1:8000/upload"

MAX_FILES = 1000  # each one costs some work beside that for its bytes
MAX_PARTS = 10_000  # and each other field a little

Headers = dict[bytes, bytes]

# A bad form is reported to its sender, not to the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Form:
    """Read the files in the field `file`, one after another, and skip all other fields.

    Args:
        boundary: The boundary named by the body's Content-Type.
        open_file: Makes the reader of one file from its name and its Content-Type.
    """

    def __init__(self, boundary: bytes, open_file: Callable[[bytes, bytes], Reader]) -> None:
        self._open_file = open_file
        self._file: Reader | None = None
        self._files = self._parts = 0
        self._complete = False
        self._name, self._value = bytearray(), bytearray()
        self._headers: Headers = {}
        # Seen by the parser, not yet handled: a part's headers, its bytes, or None for its end.
        self._seen: list[Headers | bytearray | None] = []
        self._parser = _parser(boundary, self)

    def feed(self, data: bytes) -> Iterator[list[str]]:
        """Yield chunks of text.

        Raises:
            Problem: 422, this is no multipart form, or one of its files is damaged.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem(422, f"The form cannot be read: {error}", HINT) from None
        seen, self._seen = self._seen, []
        for what in seen:
            yield from self._handle(what)

    def close(self) -> Iterator[list[str]]:
        """Check that the form was whole.

        Raises:
            Problem: 422, the form was cut short or has no file.
        """
        if not self._complete:
            raise Problem(422, "The form was cut short: its last boundary is missing.", HINT)
        if not self._files:
            raise Problem(422, "The form has no file in a field named `file`.", HINT)
        return iter(())

    def _handle(self, what: Headers | bytearray | None) -> Iterator[list[str]]:
        if isinstance(what, dict):
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise Problem(413, f"The form has more than {MAX_PARTS:,} parts.", HINT)
            self._file = self._open(what)
        elif self._file is None:
            return
        elif what is None:
            yield from self._file.close()
            self._file = None
        else:
            yield from self._file.feed(bytes(what))

    def _open(self, headers: Headers) -> Reader | None:
        _, options = parse_options_header(headers.get(b"content-disposition"))
        if options.get(b"name") != b"file":
            return None
        self._files += 1
        if self._files > MAX_FILES:
            raise Problem(413, f"The form has more than {MAX_FILES:,} files.", "Send them in several requests.")
        return self._open_file(options.get(b"filename", b""), headers.get(b"content-type", b""))

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def on_headers_finished(self) -> None:
        self._seen.append(self._headers)
        self._headers = {}

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        # The parser stops at every carriage return; joining its pieces keeps DOS files fast.
        if self._seen and isinstance(self._seen[-1], bytearray):
            self._seen[-1] += data[start:end]
        else:
            self._seen.append(bytearray(data[start:end]))

    def on_part_end(self) -> None:
        self._seen.append(None)

    def on_end(self) -> None:
        self._complete = True


def _parser(boundary: bytes, form: Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError as error:
        raise Problem(422, f"The form cannot be read: {error}", HINT) from None
