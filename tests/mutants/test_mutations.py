"""Each mutation is one small change, and gives a module that compiles."""

from __future__ import annotations

import ast

from tests.mutants.__main__ import AREAS, ROOT
from tests.mutants.mutations import mutations

SOURCE = """
def work(file, a, b):
    if a < b and b:
        file.flush()
    with held:
        return a + b
"""


def test_calls_conditions_comparisons_operators_and_contexts_are_changed():
    changed = {mutation.what: mutation.applied(SOURCE) for mutation in mutations(SOURCE)}
    assert "        pass\n" in changed["without the call of flush"]
    assert "if not (a < b and b):" in changed["the condition turned round"]
    assert "if ((a) <= (b)) and b:" in changed["another comparison"]
    assert "if ((a < b) or (b)):" in changed["joined by or"]
    assert "return ((a) - (b))" in changed["another operator"]
    assert "with __import__('contextlib').nullcontext():" in changed["without its context"]
    assert [mutation.guards for mutation in mutations(SOURCE)].count(True) == 1


def test_every_module_is_there_and_every_change_of_it_compiles():
    for modules, tests in AREAS.values():
        assert all((ROOT / words.split()[0]).exists() for words in tests)
        for module in modules:
            source = (ROOT / "src/cowherd" / f"{module}.py").read_text()
            for mutation in list(mutations(source))[::12]:
                changed = mutation.applied(source)
                assert changed != source
                ast.parse(changed)
