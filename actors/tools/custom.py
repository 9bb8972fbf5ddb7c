"""Tools of one's own: a typed function becomes what a model can ask for."""

import copy
import importlib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints, overload

import msgspec
from msgspec import Struct

from actors.models.base import ToolSpec
from actors.session.messages import Text
from actors.tools.base import EFFECTS, Effect, Tool, ToolContext, ToolError, ToolResult, said
from actors.tools.schema import ToolConfigError

ENTRY_POINTS = "sessiond.tools"

P = ParamSpec("P")
R = TypeVar("R")


class FunctionTool(Generic[P, R]):
    """A function as a tool; calling it calls the function. Implements actors.tools.base.Tool."""

    def __init__(self, function: Callable[P, R], *, name: str, effect: Effect) -> None:
        self._function = function
        self._parameters, self._context_name = _parameters_of(function, name)
        self.spec = ToolSpec(name, _description_of(function, name), _schema_of(self._parameters))
        self.effect: Effect = effect

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as its tests do."""
        return self._function(*args, **kwargs)

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        try:
            given = msgspec.convert(arguments, self._parameters)
        except msgspec.ValidationError as error:
            raise ToolError(f"The arguments of {self.spec.name} do not fit: {error}") from error
        values = {name: getattr(given, name) for name in self._parameters.__struct_fields__}
        if self._context_name:
            values[self._context_name] = context
        function: Callable[..., object] = self._function
        return _result_of(function(**values))


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(
    *, effect: Effect = ..., name: str | None = ...
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    effect: Effect = "execute",
    name: str | None = None,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool of a function, with or without parentheses.

    The model is told the function's name, its docstring and its annotated parameters; one that is
    annotated ToolContext is filled in. What it returns is told as text, or as JSON; ToolError is
    told too. Without an ``effect`` it is taken to do anything. Raises ToolConfigError.
    """

    def make(function: Callable[P, R]) -> FunctionTool[P, R]:
        return FunctionTool(function, name=name or _name_of(function), effect=effect)

    if effect not in EFFECTS:
        raise ToolConfigError(f"The effect of a tool must be one of {', '.join(EFFECTS)}.")
    return make if function is None else make(function)


def load_custom_tools(modules: Sequence[str]) -> list[Tool]:
    """Import the tools of installed packages, then those of the modules, each once.

    A package offers modules, tools or lists of tools as entry points of the group
    ``sessiond.tools``. A module is named as ``package.module`` or ``package.module:attribute``.
    Raises ToolConfigError.
    """
    from importlib.metadata import entry_points

    found: dict[int, Tool] = {}
    for point in entry_points(group=ENTRY_POINTS):
        where = f"entry point {point.name} = {point.value}"
        found.update({id(each): each for each in _tools_in(_imported(point.load, where), where)})
    for module in modules:
        value = _imported(partial(_named, module), module)
        found.update({id(each): each for each in _tools_in(value, module)})
    return list(found.values())


def _named(module: str) -> object:
    name, _, attribute = module.partition(":")
    imported = importlib.import_module(name)
    return getattr(imported, attribute) if attribute else imported


def _imported(load: Callable[[], object], where: str) -> object:
    try:
        return load()
    except ToolConfigError as error:
        raise ToolConfigError(f"The tools of {where}: {error}") from error
    except Exception as error:
        raise ToolConfigError(
            f"The tools of {where} can't be imported: {type(error).__name__}: {error}. "
            "Is it installed where sessiond runs, or its folder in PYTHONPATH?"
        ) from error


def _tools_in(value: object, where: str) -> list[Tool]:
    if isinstance(value, ModuleType):
        tools = [each for each in vars(value).values() if _is_tool(each)]
    else:
        every = value if isinstance(value, list | tuple) else [value]
        tools = [each for each in every if _is_tool(each)]
        if len(tools) < len(every):
            tools = []
    if not tools:
        raise ToolConfigError(f"There are no tools in {where}: decorate a function with @tool.")
    return tools


def _is_tool(value: Any) -> bool:  # noqa: ANN401 - whatever a module holds
    return isinstance(getattr(value, "spec", None), ToolSpec) and callable(
        getattr(value, "run", None)
    )


def _name_of(function: Callable[..., object]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _description_of(function: Callable[..., object], name: str) -> str:
    description = inspect.getdoc(function)
    if not description:
        raise ToolConfigError(f"The tool {name} needs a docstring: models are told it.")
    return description


def _parameters_of(function: Callable[..., object], name: str) -> tuple[type[Struct], str]:
    """Return what the arguments are made into, and which parameter is the context."""
    if inspect.iscoroutinefunction(function):
        raise ToolConfigError(f"The tool {name} must be a plain function, not an async one.")
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolConfigError(
            f"The annotations of the tool {name} make no sense: {error}"
        ) from error
    fields: list[tuple[str, Any, Any]] = []
    context_name = ""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints or parameter.kind not in _BY_NAME:
            raise ToolConfigError(
                f"The parameter {parameter} of the tool {name} needs an annotation, and a name to "
                "be called by."
            )
        if hints[parameter.name] is ToolContext:
            context_name = parameter.name
        else:
            fields.append((parameter.name, hints[parameter.name], _field_of(parameter.default)))
    made = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    return made, context_name


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _field_of(default: object) -> Any:  # noqa: ANN401 - what msgspec declares a field to be
    if default is inspect.Parameter.empty:
        return msgspec.field()
    if isinstance(default, list | dict | set):
        return msgspec.field(default_factory=lambda: copy.deepcopy(default))
    return msgspec.field(default=default)


def _schema_of(parameters: type[Struct]) -> dict[str, Any]:
    """Return the schema itself where msgspec refers to it."""
    name = parameters.__name__
    try:
        schema = msgspec.json.schema(parameters)
    except (TypeError, ValueError) as error:
        raise ToolConfigError(f"The parameters of the tool {name} are no JSON: {error}") from error
    definitions = schema["$defs"]
    own: dict[str, Any] = definitions.pop(schema["$ref"].rpartition("/")[2])
    del own["title"]
    return {**own, "$defs": definitions} if definitions else own


def _result_of(value: object) -> ToolResult:
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, str):
        return said(value)
    encoded = msgspec.json.encode(value)
    text = msgspec.json.format(encoded, indent=2).decode()
    return ToolResult((Text(text),), msgspec.json.decode(encoded))
