"""Makes docs/service-rules.md from the rules: `python -m cowherd.service.policy.reference > docs/service-rules.md`."""

from __future__ import annotations

from cowherd.service.policy.personas import Persona
from cowherd.service.policy.rules import RULES, Grant, Rule, Scope

_HEAD = """\
# Who may do what

The rules of `cowherd serve`, made from `src/cowherd/service/policy/rules.py`. Actions have the names of the Image API's policies.

A caller acts for a project, with roles there: `admin` may all that `manager` may, that one all that `member` may, and that one
all that `reader` may. `service` is the role of OpenStack's other services, and includes none of these. An admin's role counts for
the images of all projects.

Who is refused is told so (403) if they may see the image or the namespace, by `get_image` or `get_metadef_namespace`. Else it is
for them as if it weren't there (404). A project sees an image that is lent to it whether it has accepted, rejected or not
answered.

| action | who may, with what | except what is |
| --- | --- | --- |
"""


def reference() -> str:
    """Returns the page: a row for each rule, with the actions that it is for."""
    actions: dict[Rule, list[str]] = {}
    for action, rule in RULES.items():
        actions.setdefault(rule, []).append(action)
    return _HEAD + "".join(_row(names, rule) for rule, names in actions.items())


def _row(names: list[str], rule: Rule) -> str:
    cells = (", ".join(f"`{name}`" for name in names), "; ".join(map(_words, rule.grants)), ", ".join(rule.exceptions))
    return f"| {' | '.join(cells)} |\n"


def _words(grant: Grant) -> str:
    if Scope.ALL in grant.scopes:
        return f"`{grant.role}`" if grant.role in (Persona.ADMIN, Persona.SERVICE) else f"`{grant.role}` of any project"
    return f"`{grant.role}`: " + " or ".join(scope for scope in Scope if scope in grant.scopes)


if __name__ == "__main__":
    print(reference(), end="")
