"""The job of a big upload: runs in a worker, and says how far it is."""

from typing import Any

from examples.domains.counting import Tally, count_domains
from examples.domains.decoding import Budget
from examples.domains.kept import path_of
from examples.domains.limits import Limits
from examples.domains.problems import Problem
from examples.domains.uploads import PIECE, reader_of
from lifepool.jobs import report_progress


def count_kept(name: str, content_type: str, content_encoding: str) -> dict[str, Any]:
    """Count the names in an upload.

    Args:
        name: Of the upload, as it is kept.
        content_type: As it was sent.
        content_encoding: As it was sent.

    Returns:
        What `/upload` answers; or, if the upload can't be read, why: that is an answer, and no failure of ours.
    """
    limits = Limits.from_environment()
    tally = Tally(limits.max_names)
    path = path_of(name)
    total, done = path.stat().st_size, 0
    try:
        reader = reader_of(content_type, content_encoding, Budget(limits))
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                for texts in reader.feed(piece):
                    for text in texts:
                        tally.add(count_domains(text))
                done += len(piece)
                report_progress(done, total, unit="bytes")
        for texts in reader.close():
            for text in texts:
                tally.add(count_domains(text))
    except Problem as problem:
        return {"status": "refused", "detail": problem.detail, "hint": problem.members.get("hint")}
    counts = tally.most_common()
    return {"status": "success", "count": tally.count, "counts": counts, "truncated": tally.truncated}
