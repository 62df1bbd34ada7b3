"""Chat templates come with models that anybody may have made: a sandbox in which one can neither reach Python nor go on
for ever, nor fill the memory."""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SPENT = 2**27
"""Characters that one rendering may write or make on its way; a turn of a loop counts as some."""

_TURN = 512
_LARGEST = 2**20  # an argument that is a number: widths and counts
_BITS = 2**12
_WIDE = re.compile(r"\d{6,}|%[^a-zA-Z%]*\*|\{[^{}]*\{")  # a width in a format, or one that is given beside it


def compiled(source: str) -> Template:
    """The template of `source`, with what `transformers` offers to chat templates.

    Raises:
        TemplateError: it is no template.
    """
    return _compiled(source)


@lru_cache(maxsize=32)
def _compiled(source: str) -> Template:
    environment = _Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.finalize = environment.counted
    environment.filters = {name: environment.bounded(filter, name) for name, filter in environment.filters.items()}
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment.from_string(source)


class _Bounded(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])
    spent = 0

    def count(self, cost: int) -> str:
        self.spent += cost
        if self.spent > SPENT:
            raise SecurityError("it goes on for too long, or writes too much")
        return ""

    def counted(self, value: Any) -> Any:
        if isinstance(value, str | list | tuple):
            self.count(len(value))
        return value

    def bounded(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """A filter that makes no more than may be spent."""

        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            self._foresee(name, *(given[1:] if hasattr(function, "jinja_pass_arg") else given), *named.values())
            return self.counted(function(*given, **named))

        return run

    def call(__self, __context: Any, __obj: Any, *given: Any, **named: Any) -> Any:
        method = getattr(__obj, "__wrapped__", __obj)  # the base wraps `format`
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if isinstance(owner, str):
            __self._foresee(name, owner, *given, *named.values())
        return __self.counted(super().call(__context, __obj, *given, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = [value for value in (left, right) if isinstance(value, int)]
        size = next((len(value) for value in (left, right) if isinstance(value, str | list | tuple)), 1)
        if operator == "*" and len(numbers) == 1:
            self.count(size * max(0, numbers[0]))
        elif operator == "**" and max(map(abs, numbers), default=0) > _BITS:
            raise SecurityError("a number is too large")
        elif operator == "%" and isinstance(left, str):
            self._foresee("format", left)
        if sum(number.bit_length() for number in numbers) > _BITS:
            raise SecurityError("a number is too large")
        return self.counted(super().call_binop(context, operator, left, right))

    def concat_of(self, *values: Any) -> str:
        texts = [str(value) for value in values]
        self.count(sum(map(len, texts)))
        return "".join(texts)

    def _foresee(self, name: str, value: Any = "", *given: Any) -> None:
        """Refuse what would be too much before it is made."""
        if any(isinstance(number, int) and abs(number) > _LARGEST for number in given):
            raise SecurityError("a number is too large")
        if name in ("format", "format_map") and _WIDE.search(str(value)):
            raise SecurityError("a format is too wide")
        if name == "replace" and len(given) > 1:
            self.count(str(value).count(str(given[0])) * len(str(given[1])))
        if name == "join":
            parts = next((item for item in (value, *given) if isinstance(item, list | tuple)), ())
            separator = next((item for item in (value, *given) if isinstance(item, str)), "")
            self.count(len(parts) * len(separator) + sum(len(part) for part in parts if isinstance(part, str)))

    def _generate(self, source: nodes.Template, *given: Any, **named: Any) -> Any:
        holders: list[Any] = list(source.find_all((nodes.For, nodes.Macro, nodes.CallBlock)))
        for holder in holders:
            written = sum(len(text.data) for text in holder.find_all(nodes.TemplateData))
            turn = nodes.Call(nodes.EnvironmentAttribute("count"), [nodes.Const(_TURN + written)], [], None, None)
            holder.body.insert(0, nodes.ExprStmt(turn, lineno=holder.lineno))
        _replace_concatenations(source)
        source.set_environment(self)
        return super()._generate(source, *given, **named)


def _replace_concatenations(node: nodes.Node) -> None:
    """`a ~ b` is no operator to a sandbox: make it a call."""
    for field, value in node.iter_fields():
        for place, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, nodes.Node):
                continue
            _replace_concatenations(child)
            if isinstance(child, nodes.Concat):
                joined = nodes.Call(nodes.EnvironmentAttribute("concat_of"), child.nodes, [], None, None)
                joined.set_lineno(child.lineno)
                if place is None:
                    setattr(node, field, joined)
                else:
                    value[place] = joined


class _Generation(Extension):
    """`{% generation %}`, with which some templates mark what the assistant says; decision 0016 has no need of it."""

    tags = {"generation"}  # noqa: RUF012  # as the base has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if isinstance(indent, int) and indent > 80:
        raise SecurityError("a number is too large")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def rendered(template: Template, values: Mapping[str, Any]) -> str:
    """What the template makes of `values`."""
    environment = template.environment
    assert isinstance(environment, _Bounded)
    environment.spent = 0
    return template.render(values)
