"""The cases, by name. A new one is a file here and a line below."""

from benchmarks.cases.base import Case
from benchmarks.cases.bulk import map_case
from benchmarks.cases.calls import latency_case, payload_cases, throughput_case
from benchmarks.cases.distributed import distributed_cases
from benchmarks.cases.hashing import hashing_case
from benchmarks.cases.lag import lag_cases
from benchmarks.cases.lengths import LENGTHS, efficiency_case
from benchmarks.cases.overload import overload_case
from benchmarks.cases.queueing import queue_case
from benchmarks.cases.restart import restart_case
from benchmarks.cases.scale import callers_case, full_queue_case, start_case
from benchmarks.cases.scaling import workers_case
from benchmarks.cases.service import service_case
from benchmarks.cases.service_overload import service_overload_case
from benchmarks.cases.starting import cold_start_case, import_case

_ALL = (
    latency_case(),
    throughput_case(1),
    throughput_case(8, default=("asyncio",)),
    throughput_case(64, default=("asyncio", "uvloop")),
    throughput_case(512, default=("asyncio",)),
    *payload_cases(),
    map_case("1e6", 10**6),
    *(efficiency_case(name, length, default=name == "1ms") for name, length in LENGTHS.items()),
    hashing_case(),
    *(queue_case(f"1e{power}", 10**power) for power in range(1, 7)),
    *(workers_case(2**power) for power in range(7)),
    *(callers_case(f"1e{power}", 10**power) for power in range(5)),
    *(full_queue_case(f"1e{power}", 10**power) for power in (4, 6)),
    *(start_case(workers) for workers in (2, 16, 64)),
    restart_case(),
    *lag_cases(),
    cold_start_case(),
    import_case(),
    service_case(),
    *(overload_case(factor) for factor in (2, 5, 10)),
    *(service_overload_case(factor) for factor in (2, 5, 10)),
    *distributed_cases(),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
