"""Measure, or write the page."""

import sys

if __name__ == "__main__":
    what = sys.argv[1:]
    if what == ["measure"]:
        from benchmarks.scale.measure import measure

        measure()
    elif what == ["page"]:
        from benchmarks.scale.page import write

        write()
    else:
        sys.exit("python -m benchmarks.scale measure|page")
