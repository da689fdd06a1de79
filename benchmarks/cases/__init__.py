"""The cases, by name. A new one is a file here and a line below."""

from benchmarks.cases.base import Case
from benchmarks.cases.calls import (
    KIBIBYTE,
    MEBIBYTE,
    argument_case,
    echo_case,
    latency_case,
    random_bytearray,
    random_text,
    result_case,
    throughput_case,
)
from benchmarks.cases.overload import overload_case
from benchmarks.cases.service import service_case
from benchmarks.cases.starting import cold_start_case, import_case

SIZES = (("1MiB", MEBIBYTE), ("16MiB", 16 * MEBIBYTE))

_ALL = (
    latency_case(),
    *(throughput_case(in_flight) for in_flight in (1, 8, 64, 512)),
    echo_case("64KiB", 64 * KIBIBYTE),
    echo_case("1MiB", MEBIBYTE),
    echo_case("16MiB", 16 * MEBIBYTE),
    echo_case("64MiB", 64 * MEBIBYTE),
    echo_case("1MiB", MEBIBYTE, "str", random_text),
    echo_case("1MiB", MEBIBYTE, "bytearray", random_bytearray),
    *(case(name, size) for case in (argument_case, result_case) for name, size in SIZES),
    cold_start_case(),
    import_case(),
    service_case(),
    *(overload_case(factor) for factor in (2, 5, 10)),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
