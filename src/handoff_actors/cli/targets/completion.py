"""Shell completion of MODULE:DAG: files, and the names in a module, which is read and not imported."""

import ast
from pathlib import Path

import click
from click.shell_completion import CompletionItem


class TargetType(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """MODULE:DAG."""

    name = "target"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See click.ParamType."""
        del ctx, param
        module, colon, beginning = incomplete.rpartition(":")
        if not colon:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(f"{module}:{name}") for name in _names(module) if name.startswith(beginning)]


class ArgumentType(click.ParamType):  # type: ignore[type-arg]  # as above
    """VALUE or NAME=VALUE."""

    name = "argument"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the DAG for bash, which takes MODULE:DAG for three words. See click.ParamType."""
        del param
        if ctx.params.get("arguments") != (":",):
            return []
        return [CompletionItem(name) for name in _names(ctx.params["target"]) if name.startswith(incomplete)]


def _names(module: str) -> list[str]:
    """List the public names that a module, or a .py file, defines."""
    folder = Path(*module.split("."))
    places = [Path(module)] if module.endswith(".py") else [folder.with_suffix(".py"), folder / "__init__.py"]
    try:
        text = next(place for place in places if place.is_file()).read_text(encoding="utf-8")
        parsed = ast.parse(text)
    except (StopIteration, OSError, ValueError, SyntaxError):
        return []
    names = dict.fromkeys(name for statement in parsed.body for name in _defined_by(statement))
    return [name for name in names if not name.startswith("_")]


def _defined_by(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
            return [name]
        case ast.Assign(targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(ast.Name(name)):
            return [name]
        case _:
            return []
