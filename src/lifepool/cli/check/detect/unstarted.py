"""LP012: a pool of lifepool's that nothing starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.cli.check.detect import mentions
from lifepool.cli.check.detect.known import APPS
from lifepool.cli.check.finding import Hit
from lifepool.cli.check.model.scopes import Value
from lifepool.cli.check.tables import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lifepool.cli.check.detect.mentions import Mention
    from lifepool.cli.check.model.module import Module
    from lifepool.cli.check.model.project import Project
    from lifepool.cli.check.model.scopes import Binding, Call

_SENDS = words("run submit map gather")
#: What may be done with a pool that does not start it. Everything else might: it is given away, entered, ...
_USES = _SENDS | words("task batch resource statistics readiness workers cancel add_hook max_workers state config")
_HOW = "no lifespan, no `install`, no `async with`"


def find(module: Module, project: Project) -> Iterator[Hit]:
    """Look at the pools that are kept in a global, a local variable or an attribute."""
    for call in module.calls:
        if call.name != "lifepool.Pool" or call.returned or call.entered:
            continue
        if name := _left_unstarted(call, module, project):
            yield Hit("LP012", call.node, f"nothing starts `{name}`: {_HOW}")


def _left_unstarted(call: Call, module: Module, project: Project) -> str | None:
    """Return what a pool is called, if all that is done with it is calling methods that start nothing."""
    variable = module.global_name(call)
    if variable and call.function is None:
        uses = mentions.of_global(_value(module.root.names[variable], call), variable, project)
        return variable if _is_served(module, project) and _used_only(uses) else None
    variable = _name_of(call, call.scope.names)
    if variable and call.function is not None:
        return variable if _used_only(mentions.of_variable(variable, call.function.node)) else None
    attribute, shown = _attribute_of(call, module)
    if attribute and _is_served(module, project):
        return shown if _used_only(mentions.of_attribute(attribute, project.sources.all_parts())) else None
    return None


def _attribute_of(call: Call, module: Module) -> tuple[str, str]:
    """Return the attribute of an object, or of an app's state, that holds the pool, and how it is written."""
    owner = call.scope.enclosing_class
    if owner is not None and (name := _name_of(call, owner.attributes)):
        return name, f"self.{name}"
    name = _name_of(call, module.parts.app_state) or ""
    return name, f"app.state.{name}"


def _name_of(call: Call, names: Mapping[str, Sequence[Binding]]) -> str | None:
    """Return the name that only this call is bound to."""
    for name, bindings in names.items():
        if any(isinstance(each, Value) and each.value is call.node for each in bindings):
            return name if len(bindings) == 1 else None
    return None


def _value(bindings: Iterable[Binding], call: Call) -> Value:
    return next(each for each in bindings if isinstance(each, Value) and each.value is call.node)


def _used_only(found: Iterable[Mention]) -> bool:
    """Tell whether something is sent to the pool, and nothing is done with it that might start it."""
    attributes = [mention.attribute for mention in found]
    return not _SENDS.isdisjoint(attributes) and _USES.issuperset(attributes)


def _is_served(module: Module, project: Project) -> bool:
    """Tell whether a file that makes an app imports the module: then all that could start a pool in it was seen."""
    here = module.path.absolute()
    return any(
        here in project.reach(each.path) for each in project.modules if any(call.name in APPS for call in each.calls)
    )
