"""Errors of the command line, with a hint that can be followed as it is written."""

import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import typer

from ratectl.errors import UsageError
from ratectl.runtime.closest import closest
from ratectl_cli.framework.other_commands import (
    EXAMPLE_VALUES,
    OTHER_COMMANDS,
    OTHER_OPTIONS,
    PATH_OPTIONS,
    READING,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["clearer"]

_EXAMPLES: Final = {
    "PATH": "policies/",
    "PATH|PLAN": "policies/",
    "SCOPE": "/payments",
    "CODE": "RC201",
    "NAME": "my-key",
}
_LIMITS: Final = (
    (re.compile(r"Input should be a valid integer.*"), "must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "must be a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be at least \1"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be at most \1"),
)

_NO_CHECK_SKIPPED: Final = (
    "use --yes, which asks no question but skips no check (guards take a reason: "
    "`ratectl help guards`)"
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
        return message, f"write the folder without an option: {_line(_without(words, name))}"
    if name in PATH_OPTIONS and "--policies" in options:
        return message, f"use --policies: {_line(_renamed(words, name, '--policies'))}"
    for instead in OTHER_OPTIONS.get(name, ()):
        if instead.split()[0] in options:
            return message, _NO_CHECK_SKIPPED if instead == "--yes" else f"use {instead}"
    close = _close(name, options)
    if close:
        return message, f"did you mean {close}?"
    if (hint := _not_needed(name, ctx, words)) is not None:
        return message, hint
    others = _commands_with(name, ctx)
    if len(others) == 1 and _is_unnamed(ctx, words):
        return _for_the_named(name, others[0], ctx, words)
    if others:
        return message, f"{name} is an option of {' and '.join(f'`{each}`' for each in others)}"
    if "--attr" in options and name.startswith("--"):
        value = _value_of(words, name) or "VALUE"
        return message, f"attributes are given with --attr, like --attr {name[2:]}={value}"
    return message, None


def _not_needed(name: str, ctx: Any, words: "Sequence[str]") -> str | None:
    """Return the hint for an option that the command works without; None for other options."""
    command = ctx.info_name
    if name in ("--yes", "-y"):
        changes = "changes nothing and " if command in READING else ""
        without = [word for word in words if word != name]
        return f"leave out {name}: {_line(without)} ({command} {changes}asks nothing)"
    if name in ("--watch", "-w", "--follow") and command in READING:
        return f"{command} prints once: run {command} again"
    return None


def _is_unnamed(ctx: Any, words: "Sequence[str]") -> bool:
    """Return True if the command runs because its group was named alone."""
    return ctx.parent is not None and ctx.parent.info_name in words and ctx.info_name not in words


def _for_the_named(name: str, path: str, ctx: Any, words: "Sequence[str]") -> _Texts:
    """Return the texts for an option of another command of a group that was named alone."""
    group = ctx.parent
    message = f"`{group.command_path}` alone is `{ctx.command_path}` and takes no {name}"
    other = path.rpartition(" ")[2]
    params = group.command.get_command(group, other).params
    missing = " ".join(_with_example(each) for each in params if _lacks(each, words))
    line = _line(_renamed(words, group.info_name, f"{group.info_name} {other} {missing}"))
    return message, f"write the command that takes {name}: {line}"


def _close(name: str, options: "Iterable[str]") -> str | None:
    """Return the option that was probably meant, or None."""
    if not name.startswith("--"):
        return None
    longer = [option for option in options if option.startswith(name)]
    return next(iter(longer), None) or closest(name, options, 0.75)


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
        example = EXAMPLE_VALUES.get(option[1], "VALUE")
        return (
            f"{option[1]} has no value",
            f"write the value after {option[1]}: {option[1]} {example}",
        )
    return _lower(message), None


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _bad_value(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:
    reason = error.message.removeprefix("Value error, ").rstrip(".")
    if error.param is None:
        return reason, None
    name = _name_of(error.param)
    for pattern, text in _LIMITS:
        if match := pattern.fullmatch(reason):
            return _bad_number(error.param, match.expand(text), ctx, words)
    return f"{name}: {reason}", None


def _bad_number(param: Any, must: str, ctx: Any, words: "Sequence[str]") -> _Texts:
    """Return the texts for a value that is no number in the bounds; ``must`` says which ones."""
    name = _name_of(param)
    if param.param_type_name == "argument":
        of_the_path = ctx.command_path.split()
        given = next((each for each in words if each not in of_the_path and each[:1] != "-"), None)
        if name != "GEN" or given is None or "a whole" not in must or _is_secret(given):
            return f"{name} {must}", None
        example = _line(_renamed(words, given, "1"))
        unless = "" if param.required else " (without a number: the live one)"
        return f"{given!r} is not a generation", f"write its number, like {example}{unless}"
    name, given = next(
        ((each, value) for each in param.opts if (value := _value_of(words, each))), (name, None)
    )
    if given is None or _is_secret(given):
        return f"{name} {must}", None
    least = re.search(r"(at least|at most) (\S+)", must)
    shown = given if re.fullmatch(r"[\d.]+", given) else f"'{given.strip(chr(39))}'"
    return f"{name} {must}, not {shown}", f"write a number, like {name} {least[2] if least else 3}"


def _missing(error: Any, ctx: Any, words: "Sequence[str]") -> _Texts:
    param = error.param
    if param is None:
        return _lower(error.format_message()), None
    name = _name_of(param)
    if param.param_type_name != "argument":
        return _missing_options([each for each in ctx.command.params if _lacks(each, words)])
    example = _EXAMPLES.get(name)
    if name == "NAME" and example:
        message = f"the {ctx.parent.info_name} has no name" if ctx.parent else f"{name} is missing"
        return message, f"write one, like {_line([*words, example])}"
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
    verb = "is" if len(names) == 1 else "are"
    examples = " ".join(map(_with_example, params))
    return f"{' and '.join(names)} {verb} missing", f"add {' and '.join(names)}, like {examples}"


def _with_example(param: Any) -> str:
    """Return an option with a value that it may have."""
    name = _name_of(param)
    return f"{name} {EXAMPLE_VALUES.get(name) or param.metavar or 'VALUE'}"


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
    other = OTHER_COMMANDS.get(name)
    if ctx.parent is not None:
        group, _, other = (other or "").partition(" ")
        other = other if group == ctx.info_name else None
    meant = other or closest(name, known, 0.75)
    if meant is None:
        return message, f"`{ctx.command_path} --help` lists the commands"
    return message, f"did you mean {_line(_renamed(words, name, meant))}?"


def _extra(extra: str, ctx: Any, words: "Sequence[str]") -> _Texts:
    further = "further argument" if _arguments(ctx) else "argument"
    message = f"`{ctx.command_path}` takes no {further}: {extra}"
    options, first = _options(ctx.command), extra.split(maxsplit=1)[0]
    for option, what, fits in _MEANT:
        if option in options and fits(first):
            line = _line(_renamed(words, first, f"{option} {first}"))
            return message, f"write {what} with {option}: {line}"
    if any(each.startswith("PATH") for each in _arguments(ctx)):
        return message, "name one PATH only: all files of a folder are read"
    return message, None


_MEANT: Final["tuple[tuple[str, str, Callable[[str], bool]], ...]"] = (
    ("--attr", "an attribute", lambda word: "=" in word),
    ("--to", "the generation", str.isdigit),
    ("--policies", "the folder", lambda word: not word.startswith("-")),
)
"""Options whose value is often written as an argument, what it is, and how to tell."""


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
    shown = ("…" if _is_secret(word) else shlex.quote(word) for word in words)
    return f"ratectl {' '.join(shown)}"


def _is_secret(word: str) -> bool:
    """Return True for a word that may hold a password, as a URL does."""
    return "@" in word or "%40" in word


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
    return [*_renamed(words, name, ""), *(["policies"] if words[-1] == name else [])]


_EXPLANATIONS: Final["Mapping[str, Callable[[Any, Any, Sequence[str]], _Texts]]"] = {
    "NoSuchOption": _no_option,
    "BadParameter": _bad_value,
    "MissingParameter": _missing,
    "UsageError": _other,
}
"""By the name of Typer's exception; its classes are not public."""
