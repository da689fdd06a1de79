"""The cases, by name. A new one is a file here and a line below."""

from benchmarks.cases.base import Case
from benchmarks.cases.calls import MEBIBYTE, echo_case, latency_case, throughput_case
from benchmarks.cases.service import service_case
from benchmarks.cases.starting import cold_start_case, import_case

_ALL = (
    latency_case(),
    *(throughput_case(in_flight) for in_flight in (1, 8, 64, 512)),
    echo_case("1MiB", MEBIBYTE),
    cold_start_case(),
    import_case(),
    service_case(),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
