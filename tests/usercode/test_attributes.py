"""What is read of users' objects, without running their code."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import lifepool
from lifepool import Pool
from lifepool._usercode.attributes import signature_of

PACKAGE = Path(lifepool.__file__).parent


def test_a_signature_has_all_parameters() -> None:
    def function(a: int, /, b: str = "", *rest: int, c: bool, **others: object) -> None: ...

    assert list(signature_of(function).parameters) == ["a", "b", "rest", "c", "others"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when the function is defined")
def test_annotations_that_only_type_checkers_can_evaluate_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazily_annotated.py").write_text(
        "def load() -> NotThere: ...\n"
        "def work(a: NotThere, *, times: int = 1) -> NotThere: ...\n"
        "async def own(app: NotThere):\n    yield\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lazily_annotated  # type: ignore[import-not-found]  # written above

    pool = Pool(max_workers=1)
    assert list(signature_of(lazily_annotated.work).parameters) == ["a", "times"]
    pool.resource(lazily_annotated.load)
    pool.lifespan(lazily_annotated.own)


def test_nothing_else_asks_for_signatures_of_what_users_have_written() -> None:
    """``inspect.signature`` evaluates annotations since Python 3.14."""
    own = {"_usercode/attributes.py", "_usercode/callables.py"}  # the latter asks for one of lifepool's own methods
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "signature" and ast.unparse(node) == "inspect.signature"
    }
    assert found == own
