"""Print precision and recall on the sample: `python -m examples.domains.evaluation [--errors]`."""

import argparse

from examples.domains.evaluation.scoring import FINDERS, Score, errors, load_sample, score

_ROW = "{:<22}{:>6}{:>7}   {:>9.3f}{:>8.3f}{:>7.3f}   {:>9.3f}{:>8.3f}{:>7.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.domains.evaluation")
    parser.add_argument("--errors", action="store_true", help="list what the extractor gets wrong")
    if parser.parse_args().errors:
        _print_errors()
    else:
        _print_table()


def _print_table() -> None:
    sample = load_sample()
    groups = {
        "all": sample,
        "real text": [s for s in sample if not s.made_up],
        "written for the sample": [s for s in sample if s.made_up],
    }
    for kind in sorted({s.kind for s in sample}):
        groups[f"  {kind}"] = [s for s in sample if s.kind == kind]
    print(f"{'':<22}{'rows':>6}{'names':>7}   {'extractor':<24}   {'naive pattern':<24}")
    print(f"{'':<35}" + "   ".join(["precision  recall     F1"] * 2))
    for title, snippets in groups.items():
        ours, naive = (score(find, snippets) for find in FINDERS.values())
        names = sum(len(s.names) for s in snippets)
        print(_ROW.format(title, len(snippets), names, *_figures(ours), *_figures(naive)))


def _figures(score: Score) -> tuple[float, float, float]:
    return score.precision, score.recall, score.f1


def _print_errors() -> None:
    for snippet, invented, missed in errors(FINDERS["extractor"], load_sample()):
        signs = [f"+{name}" for name in invented] + [f"-{name}" for name in missed]
        print(f"{' '.join(signs)}\n    {snippet.source} ({snippet.kind}): {snippet.text}")


if __name__ == "__main__":
    main()
