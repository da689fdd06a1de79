"""`lifepool advise`: the verdict from figures, the border found and checked, real functions measured."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.cli.advise.advisor import Advice, advise
from lifepool.cli.advise.arguments import Arguments, BadArguments, chosen_sizes
from lifepool.cli.advise.judgement import BreakEven, Mapped, Measurement, break_even, judge, least_gain, locate
from lifepool.cli.summary import Spread
from tests.cli.runner import lifepool

if TYPE_CHECKING:
    from pathlib import Path

MS, US = 1e-3, 1e-6


def spread(seconds: float) -> Spread:
    return Spread(seconds, seconds, 1.5 * seconds, 9)


def measured(inline: float, *, loop: float = 50 * US, added: float = 100 * US, **fields: Any) -> Measurement:
    defaults = {"size": None, "pickling": 1 * US, "arguments_bytes": 20, "result_bytes": 5}
    return Measurement(
        inline=spread(inline), pooled=spread(inline + added), added=added, loop=loop, **{**defaults, **fields}
    )


# --- the arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positional", "keywords", "made"),
    [
        ("", "", ((), {})),
        ("'a,b', 3", "", (("a,b", 3), {})),
        ("[1, 2]", "", (([1, 2],), {})),
        ('{"a": [true, null]}, 1', "", (({"a": [True, None]}, 1), {})),
        ("1,", "sep=',', k=2", ((1,), {"sep": ",", "k": 2})),
        ("", '{"sep": ",", "deep": false}', ((), {"sep": ",", "deep": False})),
        ("b'x' * 3", "", ((b"xxx",), {})),
    ],
)
def test_arguments_are_written_as_in_a_call(positional: str, keywords: str, made: object) -> None:
    arguments = Arguments(positional, keywords)
    assert arguments.make() == made
    assert not arguments.scales


def test_arguments_may_depend_on_a_size() -> None:
    arguments = Arguments("'a' * n, [n]", "limit=n")
    assert arguments.scales
    assert arguments.make(3) == (("aaa", [3]), {"limit": 3})


@pytest.mark.parametrize("positional", ["'open", "1) + g(2", "y", "1 / 0", "a=1, 2"])
def test_what_is_no_list_of_arguments_is_refused(positional: str) -> None:
    with pytest.raises(BadArguments):
        Arguments(positional).make()


def test_sizes_are_whole_numbers_in_order() -> None:
    assert chosen_sizes(Arguments("n"), "1e3, 10,10") == (10, 1000)
    assert chosen_sizes(Arguments("n"), "") == (10, 100, 1000, 10_000, 100_000, 1_000_000)
    assert chosen_sizes(Arguments("1"), "") is None


@pytest.mark.parametrize(("args", "sizes"), [("n", "0.5"), ("n", "many"), ("n", "1e999"), ("1", "10"), ("[][n]", "1")])
def test_sizes_that_make_no_sense_are_refused(args: str, sizes: str) -> None:
    with pytest.raises(BadArguments):
        chosen_sizes(Arguments(args), sizes)


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_a_long_call_is_offloaded_and_the_reasons_have_the_figures() -> None:
    verdict = judge(measured(20 * MS))
    assert (verdict.recommendation, verdict.close) == ("offload", False)
    assert "for 20.0 ms (longest 30.0 ms); in the pool for 50.0 µs, and the answer comes 100 µs later" in str(verdict)
    assert "full at 50.0 calls/s; sending, at 20,000 calls/s" in str(verdict)


def test_a_call_that_is_shorter_than_its_sending_stays_inline() -> None:
    verdict = judge(measured(1 * US, mapped=Mapped(1 * US, 2 * US, 1 * US)))
    assert (verdict.recommendation, verdict.close) == ("inline", False)
    assert verdict.reasons == ("sending it takes the event loop 50.0 µs, doing it 1.00 µs",)


def test_short_calls_that_get_cheap_in_chunks_are_mapped() -> None:
    verdict = judge(measured(25 * US, mapped=Mapped(20 * US, 12 * US, 1 * US)))
    assert verdict.recommendation == "map"
    assert "in chunks of about 500 an item takes 12.0 µs and the event loop 1.00 µs" in verdict.reasons[1]


@pytest.mark.parametrize(("milliseconds", "close"), [(0.1, False), (0.14, True), (0.16, True), (0.3, False)])
def test_near_the_border_it_says_that_it_is_close(milliseconds: float, close: bool) -> None:
    assert judge(measured(milliseconds * MS)).close is close


def test_a_payload_that_is_most_of_the_price_is_named() -> None:
    heavy = measured(3 * MS, loop=4 * MS, pickling=3 * MS, arguments_bytes=5 << 20)
    assert judge(heavy).recommendation == "inline"
    assert "pickling 5.00 MiB: send a path or a key instead" in str(judge(heavy))


def test_figures_that_vary_much_are_reported() -> None:
    noisy = Measurement(**{**vars_of(measured(5 * MS)), "pooled": Spread(9 * MS, 4 * MS, 30 * MS, 9)})
    assert "figures vary much" in judge(noisy).reasons[-1]


def vars_of(m: Measurement) -> dict[str, Any]:
    return {name: getattr(m, name) for name in Measurement.__slots__}


# --- from which size on -----------------------------------------------------------------------------------------------


def test_the_border_lies_on_a_line_through_the_sizes_around_it() -> None:
    found = break_even([(10, 0.01), (100, 0.1), (10_000, 10.0), (100_000, 100.0)])
    assert (found.size, found.below, found.above, found.verified) == (1000, 100, 10_000, False)


def test_the_border_is_measured_on_both_sides() -> None:
    asked: list[int] = []

    def gain(size: int) -> float:
        asked.append(size)
        return float((size / 3000) ** 1.5)  # not a power that the line through far points would meet by chance

    found = locate({10: gain(10), 1_000_000: gain(1_000_000)}, gain)
    assert found.verified
    assert found.size == pytest.approx(3000, rel=0.02)
    assert found.below is not None
    assert found.above is not None
    assert found.below < 3000 < found.above <= 4 * found.below
    assert len(asked) <= 2 + 6


def test_figures_that_contradict_each_other_verify_nothing() -> None:
    assert not break_even([(100, 2.0), (1000, 0.5), (2000, 3.0)]).verified


def test_without_time_the_estimate_is_what_there_is() -> None:
    found = locate({10: 0.1, 1000: 10.0}, lambda size: None)
    assert (found.size, found.verified) == (100, False)


@pytest.mark.parametrize(("gains", "below", "above"), [([0.1, 0.2], 100, None), ([2.0, 9.0], None, 10)])
def test_there_may_be_no_border(gains: list[float], below: int | None, above: int | None) -> None:
    found = locate(dict(zip((10, 100), gains, strict=True)), lambda size: pytest.fail("nothing to look for"))
    assert (found.size, found.below, found.above) == (None, below, above)


@pytest.mark.parametrize(("waited", "loop", "gain"), [(2.0, 0.5, 3.0), (1.0, 0.9, 1 / 9), (1.0, 0.0, 1e9)])
def test_a_call_that_was_ended_has_gained_its_time_without_that_of_the_loop(
    waited: float, loop: float, gain: float
) -> None:
    assert least_gain(waited, loop) == pytest.approx(gain)


# --- real functions ---------------------------------------------------------------------------------------------------

WORK = """
    import os
    import threading
    import time
    from lifepool import Pool

    pool = Pool()

    def block(seconds):  # as work would, but for the same time on a busy machine
        print("noise")
        time.sleep(seconds)

    def double(x, *, times=2):
        return x * times

    @pool.task
    def in_a_pool(x):
        return x

    def block_from_1000(n):  # below, nothing: the shortest sleep takes milliseconds on a busy machine
        if n >= 1000:
            time.sleep(0.25)

    def grow(items):
        items.append(1)
        assert len(items) == 1

    def hang():
        while True:
            pass

    def fail(x):
        raise ValueError("not today")

    def die():
        os._exit(4)

    def lock():
        return threading.Lock()

    async def later():
        pass

    def hang_from_10(n):
        if n >= 10:
            hang()

    number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(textwrap.dedent(WORK))
    return tmp_path


def ask(folder: Path, function: str, args: str = "", kwargs: str = "", **options: Any) -> Advice:
    return advise(f"work:{function}", Arguments(args, kwargs), cwd=folder, **{"budget": 10.0, "repeat": 5, **options})


def test_a_function_that_takes_long_is_offloaded(folder: Path) -> None:
    advice = ask(folder, "block", "0.25", repeat=3)
    assert advice.exit_code == 0
    assert [verdict.recommendation for verdict in advice.verdicts] == ["offload"]
    (m,) = advice.measurements
    assert (m.inline.rounds, m.pooled.rounds) == (3, 3)
    assert m.inline.low >= 0.25
    assert m.loop < m.inline.low


def test_a_function_that_does_next_to_nothing_stays_inline(folder: Path) -> None:
    advice = ask(folder, "double", "'ab'", "times=3", repeat=20)
    assert [verdict.recommendation for verdict in advice.verdicts] == ["inline"]
    assert advice.measurements[0].result_bytes > len("ababab")


def test_the_plain_function_of_a_pool_task_is_measured(folder: Path) -> None:
    assert ask(folder, "in_a_pool", "1", repeat=3).error is None


def test_a_function_that_changes_its_arguments_gets_fresh_ones(folder: Path) -> None:
    assert ask(folder, "grow", "[]", repeat=3).error is None


def test_the_size_from_which_it_pays_is_found(folder: Path) -> None:
    advice = ask(folder, "block_from_1000", "n", sizes=(1, 100_000), budget=20.0, repeat=3)
    found = advice.break_even
    assert found is not None
    assert found.size is not None
    assert 1 < found.size < 100_000
    assert len(advice.measurements) > 2  # it looked around the estimate
    assert [m.size for m in advice.measurements] == sorted(m.size or 0 for m in advice.measurements)


def test_a_function_that_hangs_is_ended_in_its_worker(folder: Path) -> None:
    advice = ask(folder, "hang", budget=0.5)
    assert (advice.measurements, advice.too_slow, advice.error) == ((), True, None)


def test_a_size_that_takes_too_long_is_one_at_which_it_pays(folder: Path) -> None:
    advice = ask(folder, "hang_from_10", "n", sizes=(1, 10, 100), budget=14.0)
    assert advice.too_slow == 10
    assert advice.measurements[0].size == 1
    found = advice.break_even
    assert found is not None
    assert found.size is not None
    assert found.above == 10


def test_if_the_first_size_takes_too_long_it_pays_from_there_on(folder: Path) -> None:
    advice = ask(folder, "hang_from_10", "n", sizes=(10, 100), budget=0.5)
    assert (advice.measurements, advice.too_slow) == ((), 10)
    assert advice.break_even == BreakEven(None, None, 10, verified=False)


@pytest.mark.parametrize(
    ("function", "args", "error", "hint"),
    [
        ("fail", "1", "ValueError: not today", "the function raised it"),
        ("double", "1, 2, 3", "TypeError: double() takes", "the function raised it"),
        ("die", "", "WorkerLost", "crash"),
        ("lock", "", "TaskNotPicklable", "plain data"),
        ("later", "", "work:later is async", "event loop"),
        ("number", "", "work:number is a int, not a function", "name a function"),
        ("dubble", "", "has no attribute 'dubble'", "did you mean work:double?"),
    ],
)
def test_what_can_not_be_measured_is_reported(folder: Path, function: str, args: str, error: str, hint: str) -> None:
    advice = ask(folder, function, args)
    assert advice.exit_code == 1
    assert error in (advice.error or "")
    assert hint in (advice.hint or "")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_figures_and_advice_that_fit_80_columns(folder: Path) -> None:
    done = lifepool("advise", "work:block", "--args", "0.25", "--repeat", "3", cwd=folder, COLUMNS="80")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offload it: await pool.run(...)" in done.stdout
    assert "noise" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_command_prints_json(folder: Path) -> None:
    done = lifepool("advise", "work:block", "--args", "0.25", "--repeat", "3", "--json", cwd=folder)
    report = json.loads(done.stdout)
    assert report["verdicts"][0]["recommendation"] == "offload"
    assert report["measurements"][0]["inline"]["rounds"] == 3


def test_the_command_shows_a_table_by_size(folder: Path) -> None:
    arguments = ("--args", "n", "--sizes", "1,200000", "--budget", "20", "--repeat", "3")
    done = lifepool("advise", "work:block_from_1000", *arguments, cwd=folder, COLUMNS="80")
    assert "200,000" in done.stdout
    assert "it pays from about n = " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [["work"], ["work:block", "--args", "'open"], ["work:block", "--args", "1", "--sizes", "3"], []],
)
def test_wrong_usage_is_refused_before_anything_is_done(arguments: list[str]) -> None:
    done = lifepool("advise", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
