"""``python -m benchmarks``: choose, measure, write the result, print the tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import environment, goals, harness, page, report
from benchmarks.cases import CASES
from benchmarks.cases.base import Case
from benchmarks.harness import Plan, Sample
from benchmarks.regressions import command as regressions
from benchmarks.result import RESULTS, Result
from benchmarks.sizing import available_cpus

LOOPS = ("asyncio", "uvloop")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; what is not given depends on ``--quick``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("case", nargs="*", help=f"one of {', '.join(CASES)}; if none is named, the default set")
    parser.add_argument("--full", action="store_true", help="every case: more than an hour")
    parser.add_argument("--quick", action="store_true", help="smoke run: no meaningful figures")
    parser.add_argument("--rounds", type=positive, help="rounds (default: the case's own, 5 or more; quick 1)")
    parser.add_argument(
        "--loop",
        choices=(*LOOPS, "both"),
        help="event loop (default: both for no-ops, else asyncio; quick: asyncio)",
    )
    parser.add_argument("--contender", action="append", help="only these (may be repeated)")
    parser.add_argument("--workers", type=positive, default=available_cpus(), help="in each pool")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--name", help="of the result files (default bench, quick: quick)")
    parser.add_argument("--add", action="store_true", help="keep the other cases of an existing result file")
    parser.add_argument(
        "--more", action="store_true", help="as --add, and add these rounds to those of the same cases in the file"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result files")
    options = parser.parse_args(arguments)
    for name in options.case:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; choose from {', '.join(CASES)}")
    if options.quick:
        options.rounds = options.rounds or 1
        options.loop = options.loop or "asyncio"
    options.name = options.name or ("quick" if options.quick else "bench")
    return options


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def setting(text: str) -> tuple[str, float]:
    """Return the name and the value of ``name=number``."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def plans_of(options: argparse.Namespace) -> list[Plan]:
    """Return a plan for each chosen case and event loop."""
    given = dict(options.set)
    plans = []
    for case in chosen_cases(options):
        contenders = chosen_contenders(case, options)
        own = case.quick if options.quick else case.full
        parameters = {"workers": options.workers, **own, **given}
        loops = chosen_loops(case, options)
        rounds = options.rounds or case.rounds
        plans += [Plan(case, loop, contenders, parameters, rounds) for loop in loops if contenders]
    return plans


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that are named, or all, or those of the default set."""
    if options.case:
        return [CASES[name] for name in options.case]
    return [case for case in CASES.values() if case.default or (options.full and not case.opt_in)]


def chosen_loops(case: Case, options: argparse.Namespace) -> tuple[str, ...]:
    """Return the event loops for a case: those asked for, or those of the default set."""
    wanted = case.default or ("asyncio",)
    if options.loop:
        wanted = LOOPS if options.loop == "both" else (options.loop,)
    return wanted if case.loops else wanted[:1]


def chosen_contenders(case: Case, options: argparse.Namespace) -> tuple[str, ...]:
    """Return the contenders asked for that are installed; say who is left out."""
    names = case.quick_contenders if options.quick else case.contenders
    if options.contender:
        names = tuple(name for name in case.contenders if name in options.contender)
    for name in names:
        if missing := case.missing(name):
            print(f"{case.name}: {name} left out, not installed: {', '.join(missing)}")
    return tuple(name for name in names if not case.missing(name))


def announce(sample: Sample) -> None:
    """Print one line about a measurement, so that a long run shows where it is."""
    position = f"{sample.case} {sample.loop} round {sample.round + 1} {sample.contender}"
    figures = ", ".join(f"{name} {report.number(v)}" for name, v in sample.metrics.items())
    print(f"{position}: {sample.error or figures}", file=sys.stderr, flush=True)


def measure_all(plans: Sequence[Plan]) -> list[Sample]:
    """Return every sample of every plan; an interrupted run returns what it has."""
    samples: list[Sample] = []
    try:
        for plan in plans:
            samples += harness.run(plan, announce)
    except KeyboardInterrupt:
        print("interrupted: the result holds what was measured so far", file=sys.stderr)
    return samples


def write(options: argparse.Namespace, plans: Sequence[Plan], samples: Sequence[Sample], busy: float) -> Path:
    """Write the JSON and the Markdown file, print the tables, and return the JSON file's path."""
    about = {**environment.describe(), "busy before, percent": busy}
    target = target_of(options)
    result = harness.to_json(about, plans, samples)
    result["quick"] = options.quick
    earlier = harness.read(target) if options.add or options.more else None
    if earlier and options.more:
        harness.add_earlier_rounds(result, earlier)
        samples = [Sample(**sample) for sample in result["samples"]]
    tables = {(plan.case.name, plan.loop): report.rows_of(plan, samples) for plan in plans}
    tables_md = []
    for plan in plans:
        rows = tables[plan.case.name, plan.loop]
        print(report.text_table(plan, rows))
        tables_md.append(report.markdown_table(plan, rows))
    options.output.mkdir(parents=True, exist_ok=True)
    if earlier:
        harness.keep_other_cases(result, earlier)
        tables_md = [page.cases_block(Result(result))]
    target.write_text(harness.to_text(result), encoding="utf-8")
    target.with_suffix(".md").write_text(report.markdown_page(about, tables_md), encoding="utf-8")
    return target


def target_of(options: argparse.Namespace) -> Path:
    """Return the JSON file of the result."""
    target: Path = options.output / f"{options.name}.json"
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 if a measurement failed, 0 otherwise."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["goals"]:
        return goals.main(arguments[1:])
    if arguments[:1] == ["check"]:
        return regressions.main(arguments[1:])
    if arguments[:1] == ["page"]:
        return page.main(arguments[1:])
    options = parse(arguments)
    plans = plans_of(options)
    if options.more and (earlier := harness.read(target_of(options))):
        plans = [harness.after(plan, earlier) for plan in plans]
    if (busy := environment.busy_percent()) > environment.MOST_BUSY and not options.quick:
        print(f"WARNING: the CPUs are {busy:.0f} % busy: something else runs, and the figures will show it")
    environment.compile_sources()
    samples = measure_all(plans)
    print(f"written to {write(options, plans, samples, busy)} and .md beside it")
    if options.quick:
        print("This was a smoke run: it shows that the harness works, its figures mean nothing.")
    return 1 if any(sample.error for sample in samples) else 0


if __name__ == "__main__":
    sys.exit(main())
