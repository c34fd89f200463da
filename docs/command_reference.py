"""Write docs/reference/commands.md from the program: every command, argument, option, default and help text.

    python docs/command_reference.py            write the page
    python docs/command_reference.py --check    exit with 1 if the page differs from the program

Reads only what the commands declare (their signatures), so the page does not depend on the version of Typer.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

PAGE = Path(__file__).parent / "reference" / "commands.md"
PROGRAM = "st3sweep"
METAVARS = {Path: "PATH", int: "INTEGER", float: "FLOAT", str: "TEXT"}
HEAD = f"""# Command reference

Written by `python docs/command_reference.py` from the program; do not edit. `{PROGRAM} COMMAND --help` prints the same.
How the commands work together, and their exit codes: [commands](../commands.md).
"""


def page() -> str:
    """Return the whole page as Markdown."""
    from st3sweep.cli import app

    commands = list(_commands(app, PROGRAM))
    listed = "\n".join(f"| [`{name}`](#{_anchor(name)}) | {_first_line(command)} |" for name, command in commands)
    return "\n".join(
        [HEAD, "| command | what it does |", "|---|---|", listed, "", *(_section(*one) for one in commands)]
    )


def _commands(app: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each command's full name and function, those of named groups after the others."""
    for info in app.registered_commands:
        if not info.hidden:
            yield f"{prefix} {info.name or info.callback.__name__.replace('_', '-')}", info.callback
    for named in (False, True):
        for group in app.registered_groups:
            if isinstance(group.name, str) == named:
                yield from _commands(group.typer_instance, f"{prefix} {group.name}" if named else prefix)


def _section(name: str, command: Callable[..., Any]) -> str:
    """Return a command's section: description, usage, a table of arguments and one of options."""
    hints = get_type_hints(command, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        declared = next(one for one in hint.__metadata__ if isinstance(one, ArgumentInfo | OptionInfo))
        if not declared.hidden:
            of = arguments if isinstance(declared, ArgumentInfo) else options
            of.append((parameter, declared, *_inner(get_args(hint)[0])))
    usage = [name, *(["[OPTIONS]"] if options else []), *(_argument_name(*one) for one in arguments)]
    lines = [f"## {name}", "", inspect.getdoc(command) or "", "", "```", " ".join(usage), "```", ""]
    if arguments:
        lines += ["| argument | what it is |", "|---|---|"]
        lines += [f"| `{_argument_name(*one).strip('[]')}` | {_help(*one)} |" for one in arguments] + [""]
    if options:
        lines += ["| option | what it does | default |", "|---|---|---|"]
        lines += [f"| {_option_name(*one)} | {_help(*one)} | {_default(*one)} |" for one in options] + [""]
    return "\n".join(lines)


def _inner(kind: Any) -> tuple[Any, bool]:
    """Return the type of one value, and whether several may be given: (Path, True) for ``list[Path] | None``."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    several = get_origin(kind) is list
    return (get_args(kind)[0] if several else kind), several


def _argument_name(parameter: inspect.Parameter, declared: ArgumentInfo, _kind: Any, several: bool) -> str:
    name = declared.metavar or parameter.name.strip("_").upper()
    name = f"{name}..." if several else name
    return name if parameter.default is parameter.empty else f"[{name}]"


def _option_name(parameter: inspect.Parameter, declared: OptionInfo, kind: Any, _several: bool) -> str:
    long = parameter.name.strip("_").replace("_", "-")
    # In an annotation, Typer stores the first name as the default.
    first = [declared.default] if isinstance(declared.default, str) else []
    names = [*first, *(declared.param_decls or [])] or [f"--{long}", *([f"--no-{long}"] if kind is bool else [])]
    names.sort(key=len, reverse=True)
    value = "" if kind is bool else " " + (declared.metavar or METAVARS.get(kind) or long.upper())
    return ", ".join(f"`{name}{value}`" for name in names)


def _help(parameter: inspect.Parameter, declared: ArgumentInfo | OptionInfo, kind: Any, several: bool) -> str:
    """Return the help text, followed by choices, bounds, and whether the option is required or repeatable."""
    parts = [(declared.help or "").replace("|", "\\|")]
    if isinstance(kind, type) and issubclass(kind, Enum):
        parts.append("One of " + ", ".join(f"`{choice.value}`" for choice in kind) + ".")
    if declared.min is not None:
        parts.append(f"At least {declared.min}.")
    if declared.max is not None:
        parts.append(f"At most {declared.max}.")
    if isinstance(declared, OptionInfo) and parameter.default is parameter.empty:
        parts.append("Required.")
    if isinstance(declared, OptionInfo) and several and "repeatable" not in parts[0]:
        parts.append("Repeatable.")
    return " ".join(part for part in parts if part)


def _default(parameter: inspect.Parameter, _declared: OptionInfo, _kind: Any, _several: bool) -> str:
    value = parameter.default
    if value is None or value is False or value is parameter.empty:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _first_line(command: Callable[..., Any]) -> str:
    return (inspect.getdoc(command) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE}: out of date; run: python docs/command_reference.py", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
