"""Errors of the command line, with a hint that can be followed as it is written."""

import difflib
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.other_commands import OTHER_COMMANDS, OTHER_OPTIONS, PATH_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["clearer"]

_EXAMPLES: Final = {
    "PATH": "policies/",
    "PATH|PLAN": "policies/",
    "SCOPE": "/payments",
    "CODE": "RC201",
    "NAME": "deploy",
}
_LIMITS: Final = (
    (re.compile(r"Input should be a valid integer.*"), "must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "must be a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be at least \1"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be at most \1"),
)

_Texts = tuple[str, str | None]
"""Message, and hint if there is a better one than the help."""


def clearer(error: BaseException, words: "Sequence[str]") -> BaseException:
    """Return the error for a wrong command line in our words; other errors as they are.

    ``words`` are the arguments of the program.
    """
    if not isinstance(error, typer.TyperException):
        return error
    ctx = getattr(error, "ctx", None)
    explain = _EXPLANATIONS.get(type(error).__name__)
    if ctx is not None and explain is not None:
        message, hint = explain(error, ctx, words)
    else:
        message, hint = _without_context(error)
    usage = UsageError(message)
    if hint is None and ctx is not None:
        hint = f"see `{ctx.command_path} --help`"
    if hint is not None:
        usage.add_note(hint)
    return usage


# Options ----------------------------------------------------------------------------------------


def _no_option(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:
    name = error.option_name
    message = f"`{ctx.command_path}` has no option {name}"
    arguments, options = _arguments(ctx), _options(ctx.command)
    if name in PATH_OPTIONS and any(each.startswith("PATH") for each in arguments):
        return message, f"PATH is an argument: {_line(_without(words, name))}"
    if name in PATH_OPTIONS and "--policies" in options:
        return message, f"use --policies: {_line(_renamed(words, name, '--policies'))}"
    for instead in OTHER_OPTIONS.get(name, ()):
        if instead.split()[0] in options:
            return message, f"use {instead}"
    close = _close(name, options)
    if close:
        return message, f"did you mean {close}?"
    others = _commands_with(name, ctx)
    if others:
        return message, f"{name} is an option of {' and '.join(f'`{each}`' for each in others)}"
    if "--attr" in options and name.startswith("--"):
        value = _value_of(words, name) or "VALUE"
        return message, f"attributes are given with --attr, like --attr {name[2:]}={value}"
    return message, None


def _close(name: str, options: "Iterable[str]") -> str | None:
    """Return the option that was probably meant, or None."""
    if not name.startswith("--"):
        return None
    longer = [option for option in options if option.startswith(name)]
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.75)
    return next(iter([*longer, *close]), None)


def _commands_with(name: str, ctx: Any) -> list[str]:
    """Return the commands that have an option of this name: of the same group, or of any.

    Return none if more than two have it.
    """
    for group in (ctx.parent, ctx.find_root()):
        if group is None:
            continue
        commands = [
            (f"{group.command_path} {each}", group.command.get_command(group, each))
            for each in group.command.list_commands(group)
        ]
        having = [path for path, command in commands if name in _options(command)]
        if 0 < len(having) <= 2:
            return having
    return []


def _without_context(error: Any) -> _Texts:
    """Return the texts of an error that does not tell its command."""
    message = error.format_message()
    option = re.fullmatch(r"Option '(.*)' requires an argument\.", message)
    if option is not None:
        return f"{option[1]} has no value", f"write the value after it: {option[1]} VALUE"
    return _lower(message), None


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _bad_value(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:  # noqa: ARG001
    reason = error.message.removeprefix("Value error, ").rstrip(".")
    if error.param is None:
        return reason, None
    name = _name_of(error.param)
    for pattern, text in _LIMITS:
        if match := pattern.fullmatch(reason):
            return f"{name} {match.expand(text)}", None
    return f"{name}: {reason}", None


def _missing(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:
    param = error.param
    if param is None:
        return _lower(error.format_message()), None
    name = _name_of(param)
    if param.param_type_name != "argument":
        return _missing_options([each for each in ctx.command.params if _lacks(each, words)])
    example = _EXAMPLES.get(name)
    hint = example and f"write it after the command, like {_line([*words, example])}"
    return f"{name} is missing", hint


def _lacks(param: Any, words: "Sequence[str]") -> bool:
    """Return True for a required option that is not among the words."""
    given = [word.partition("=")[0] for word in words]
    return bool(
        param.required and param.param_type_name == "option" and not {*param.opts} & {*given}
    )


def _missing_options(params: "Sequence[Any]") -> _Texts:
    names = [_name_of(param) for param in params]
    forms = [
        f"{name} {param.metavar or 'VALUE'}" for name, param in zip(names, params, strict=True)
    ]
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {verb} missing", f"add {' '.join(forms)}"


# Arguments and commands -------------------------------------------------------------------------


def _other(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:
    message = error.format_message()
    command = re.match(r"No such command '(.*?)'\.", message)
    if command is not None:
        return _no_command(command[1], ctx, words)
    extra = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message)
    if extra is not None:
        return _extra(extra[1], ctx, words)
    return _lower(message), None


def _no_command(name: str, ctx: Any, words: "Sequence[str]") -> _Texts:
    message = f"there is no command `{ctx.command_path} {name}`"
    known = ctx.command.list_commands(ctx)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    other = OTHER_COMMANDS.get(name) if ctx.parent is None else None
    meant = other or next(iter(close), None)
    if meant is None:
        return message, f"`{ctx.command_path} --help` lists the commands"
    return message, f"did you mean {_line(_renamed(words, name, meant))}?"


def _extra(extra: str, ctx: Any, words: "Sequence[str]") -> _Texts:
    message = f"`{ctx.command_path}` takes no further argument: {extra}"
    options, first = _options(ctx.command), extra.split(maxsplit=1)[0]
    for option, fits in _MEANT:
        if option in options and fits(first):
            return message, f"use {option}: {_line(_renamed(words, first, f'{option} {first}'))}"
    if any(each.startswith("PATH") for each in _arguments(ctx)):
        return message, "name one PATH only: all files of a folder are read"
    return message, None


_MEANT: Final["tuple[tuple[str, Callable[[str], bool]], ...]"] = (
    ("--attr", lambda word: "=" in word),
    ("--to", str.isdigit),
    ("--policies", lambda word: not word.startswith("-")),
)
"""Options whose value is often written as an argument, and how to tell."""


# Words of the command line ----------------------------------------------------------------------


def _arguments(ctx: Any) -> list[str]:
    params = ctx.command.params
    return [_name_of(param) for param in params if param.param_type_name == "argument"]


def _options(command: Any) -> list[str]:
    return [
        option
        for param in command.params
        if param.param_type_name == "option"
        for option in param.opts
        if option.startswith("--")
    ]


def _name_of(param: Any) -> str:
    """Return ``PATH`` for an argument, and the long name of an option."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).upper()
    return str(next((each for each in param.opts if each.startswith("--")), param.opts[0]))


def _line(words: "Sequence[str]") -> str:
    """Return a command line that can be typed as it is; a word with a password is left out."""
    shown = ("…" if "@" in word or "%40" in word else shlex.quote(word) for word in words)
    return f"ratectl {' '.join(shown)}"


def _renamed(words: "Sequence[str]", name: str, new: str) -> list[str]:
    """Return the words with the first ``name`` replaced; its value may follow ``=``."""
    at = next(
        (at for at, word in enumerate(words) if word == name or word.startswith(f"{name}=")), None
    )
    if at is None:
        return list(words)
    value = words[at][len(name) + 1 :]
    return [*words[:at], *new.split(), *([value] if value else []), *words[at + 1 :]]


def _value_of(words: "Sequence[str]", name: str) -> str | None:
    """Return the word after an option, or None."""
    at = words.index(name) + 1 if name in words else len(words)
    return shlex.quote(words[at]) if at < len(words) and words[at][:1] != "-" else None


def _without(words: "Sequence[str]", name: str) -> list[str]:
    """Return the words with the value of an option as an argument."""
    return [*_renamed(words, name, ""), *(["PATH"] if words[-1] == name else [])]


_EXPLANATIONS: Final["Mapping[str, Callable[[Any, Any, Sequence[str]], _Texts]]"] = {
    "NoSuchOption": _no_option,
    "BadParameter": _bad_value,
    "MissingParameter": _missing,
    "UsageError": _other,
}
"""By the name of Typer's exception; its classes are not public."""
