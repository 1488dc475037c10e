"""The planted bugs can still be planted."""

from __future__ import annotations

import pytest

from tests.chaos.mutants import MUTANTS, Mutant
from tests.chaos.processes import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_line_that_a_mutant_replaces_is_there_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
