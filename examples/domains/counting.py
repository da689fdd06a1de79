"""What becomes of an upload's chunks: counts from the workers, added up in bounded memory."""

from collections import Counter
from collections.abc import Mapping

from examples.domains.extract import find_domains


def count_domains(text: str) -> Counter[str]:
    """Count the names in `text`. Runs in a worker: counts travel lighter than lists."""
    return Counter(find_domains(text))


class Tally:
    """Add counts up, with at most `max_names` different names.

    Every count it shows is exact. Names first seen after it is full are in `count` alone, and
    `truncated` says so.
    """

    def __init__(self, max_names: int) -> None:
        self.max_names = max_names
        self.count = 0
        self.truncated = False
        self._counts: Counter[str] = Counter()

    def add(self, found: Mapping[str, int]) -> None:
        """Add the counts of one chunk."""
        self.count += sum(found.values())
        for name, times in found.items():
            if name in self._counts or len(self._counts) < self.max_names:
                self._counts[name] += times
            else:
                self.truncated = True

    def most_common(self) -> dict[str, int]:
        """Return the names, the most frequent first, and then in order of appearance."""
        return dict(self._counts.most_common())
