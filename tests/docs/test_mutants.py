"""The mutants of the behaviour contract can still be made; that its tests notice them is seen by `make mutants`."""

from __future__ import annotations

import ast

import pytest

from tests.docs.markdown import ROOT
from tests.docs.mutants import MUTANTS, Mutant, broken, row_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_breaks_a_promise_of_the_page_in_one_place_of_the_code(mutant: Mutant) -> None:
    assert row_of(mutant)
    source = (ROOT / "src" / "lifepool" / mutant.file).read_text()
    mutated = broken(source, mutant)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))
