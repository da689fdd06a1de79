"""Every example in the documentation is run, and the runner notices when one does not do what its page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import PAGES, ROOT, Block, blocks
from tests.docs.runner import ExampleFailed, Runner

if TYPE_CHECKING:
    from pathlib import Path

#: Not the translations: their blocks are those of the English pages (tests/docs/test_site.py).
WITH_EXAMPLES = [
    page
    for page in PAGES
    if "zh" not in page.parts and any(block.language in ("python", "sh") for block in blocks(page))
]


@pytest.mark.timeout(400)  # a page has up to ten examples, each of which starts a Python or a server
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_work(page: Path, tmp_path: Path) -> None:
    with Runner(tmp_path) as runner:
        runner.prepare(steps_before(page))
        for block in blocks(page):
            runner.run(block)


def steps_before(page: Path) -> list[Path]:
    """The pages of the tutorial that a reader of this one has followed."""
    steps = sorted(page.parent.glob("[0-9]-*.md")) if page.parent.name == "tutorial" else []
    return [step for step in steps if step < page]


def run_all(folder: Path, text: str) -> None:
    page = folder / "page.md"
    page.write_text(text)
    with Runner(folder) as runner:
        for block in blocks(page):
            runner.run(block)


def test_an_example_that_raises_fails_and_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ExampleFailed, match=r"page\.md:3: .*(?s:.*)ZeroDivisionError"):
        run_all(tmp_path, "# Page\n\n```python\n1 / 0\n```\n")


def test_an_output_that_differs_fails(tmp_path: Path) -> None:
    page = "```python\nprint(1)\n```\n\n<!-- output -->\n```text\n%s\n```\n"
    run_all(tmp_path, page % 1)
    with pytest.raises(ExampleFailed, match="the page says\n2\nbut it is\n1"):
        run_all(tmp_path, page % 2)


def test_a_fragment_runs_in_its_context(tmp_path: Path) -> None:
    context = "<!-- context\nfor i in range(2):\n    {block}\n-->\n"
    run_all(tmp_path, f"{context}```python\nprint(i)\n```\n<!-- output -->\n```text\n0\n1\n```")


def test_code_for_a_library_that_is_not_installed_is_compiled(tmp_path: Path) -> None:
    page = "<!-- needs: %s -->\n```python\n%s\n```\n"
    run_all(tmp_path, page % ("no_such_library", "import no_such_library"))
    with pytest.raises(SyntaxError):
        run_all(tmp_path, page % ("no_such_library", "import import"))
    with pytest.raises(ExampleFailed, match="must run everywhere"):
        run_all(tmp_path, page % ("no_such_library", "import lifepool"))
    with pytest.raises(ExampleFailed, match="ZeroDivisionError"):
        run_all(tmp_path, page % ("json", "1 / 0"))


def test_a_file_that_is_only_saved_has_to_be_run_later(tmp_path: Path) -> None:
    page = "<!-- saved: one.py -->\n```python\nimport sys\nprint(sys.argv[1])\n```\n"
    run_all(tmp_path, page + "```sh\npython one.py 2\n```\n<!-- output -->\n```text\n2\n```\n")
    with pytest.raises(ExampleFailed, match=r"nobody runs .*one\.py"):
        run_all(tmp_path, page)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("rm -rf /", "nobody knows how to check"),
        ("make coffee", "no target 'coffee'"),
        ("pip install lifepool[blockchain]", "no extra"),
        ("curl localhost:8000/", "no server was started"),
    ],
)
def test_a_command_that_nobody_could_follow_fails(tmp_path: Path, command: str, message: str) -> None:
    block = Block(tmp_path / "page.md", 1, "sh", command)
    with Runner(tmp_path) as runner, pytest.raises(ExampleFailed, match=message):
        runner.run(block)


def test_a_language_that_nobody_runs_fails(tmp_path: Path) -> None:
    with Runner(tmp_path) as runner, pytest.raises(ExampleFailed, match="'ruby'"):
        runner.run(Block(tmp_path / "page.md", 1, "ruby", "puts 1"))
