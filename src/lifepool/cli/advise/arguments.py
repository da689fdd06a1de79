"""The arguments that the user writes on the command line: Python expressions or JSON, with ``n`` for the size."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

DEFAULT_SIZES = tuple(10**power for power in range(1, 7))
_JSON_NAMES = {"true": True, "false": False, "null": None}


class BadArguments(ValueError):
    """Raised for text that is no list of arguments; the message says why."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What is passed to the function: the text between the parentheses of a call.

    Attributes:
        positional: As in ``'a,b', 3`` or ``'a' * n``.
        keywords: As in ``sep=',', limit=n``, or a JSON object.
    """

    positional: str = ""
    keywords: str = ""

    @property
    def scales(self) -> bool:
        """Whether they depend on ``n``."""
        names = [node.id for node in ast.walk(self._call()) if isinstance(node, ast.Name)]
        return "n" in names

    def make(self, n: int | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make the arguments for a size.

        Raises:
            BadArguments: If they can't be made; the message has the reason.
        """
        call = self._call()
        collect = ast.Expression(ast.Call(ast.Name("collect", ast.Load()), call.args, call.keywords))
        names = {"collect": lambda *args, **kwargs: (args, kwargs), "n": n}
        try:
            # The user's own expression, on the user's own command line, beside the user's own function.
            code = compile(ast.fix_missing_locations(collect), "--args", "eval")
            made: tuple[tuple[Any, ...], dict[str, Any]] = eval(code, names)  # noqa: S307 - see above
        except Exception as error:
            raise BadArguments(f"{ast.unparse(call)[1:]}: {error}") from None
        return made

    def _call(self) -> ast.Call:
        keywords = self.keywords
        if keywords.lstrip().startswith("{"):
            keywords = f"**{keywords}"
        text = ", ".join(part for part in (self.positional.strip().rstrip(","), keywords) if part.strip())
        try:
            tree = ast.parse(f"f({text})", mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise BadArguments(f"{text}: {getattr(error, 'msg', error)}") from None
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise BadArguments(f"{text}: this is more than arguments")
        return _JsonNames().visit(tree)  # type: ignore[no-any-return]


class _JsonNames(ast.NodeTransformer):
    """Replace the three names in which JSON differs from Python's literals."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node


def chosen_sizes(arguments: Arguments, text: str) -> tuple[int, ...] | None:
    """Return the sizes to measure; None if the arguments do not depend on one.

    Args:
        arguments: They are made once for the smallest size, so that a mistake in them is found before anything starts.
        text: As in ``1e3,1e4``; empty for 10 to 1e6.

    Raises:
        BadArguments: If a size is no whole number above 0, or the arguments can't be made.
    """
    if not arguments.scales:
        arguments.make()
        if text:
            raise BadArguments("sizes were given, but the arguments do not use n")
        return None
    sizes = tuple(sorted({_size(part) for part in text.split(",")})) if text else DEFAULT_SIZES
    arguments.make(sizes[0])
    return sizes


def _size(text: str) -> int:
    try:
        number = float(text)
        if number < 1 or number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise BadArguments(f"size {text.strip()!r}: expected a whole number above 0, as in 1e3") from None
    return int(number)
