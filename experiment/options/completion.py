"""Scripts by which a shell completes commands, options and values, made of the options themselves."""

from __future__ import annotations

import pkgutil
import shlex
from collections.abc import Iterator, Mapping

import tasks
from experiment.launch import PROGRAMS
from experiment.options.fields import Option, options_of
from experiment.options.help import summary
from pretrained_configs import catalog

#: subcommand -> its options class
Commands = Mapping[str, type]

_BASH = """\
# Completion of {programs} in bash. Put this into ~/.bashrc: eval "$({program} completion bash)"
_chinese_mrc() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    if [[ $word == "=" ]]; then
        word=
    elif [[ $before == "=" ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    if ((COMP_CWORD == 1)); then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} $before" in
{values}
            *)
                case "${{COMP_WORDS[1]}}" in
{flags}
                esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _chinese_mrc {programs}
"""
_ZSH = """\
#compdef {programs}
# Completion of {programs} in zsh. Save this as _chinese-mrc in a directory of $fpath, or put into ~/.zshrc, after
# compinit: eval "$({program} completion zsh)"
_chinese_mrc() {{
    local -a candidates
    if ((CURRENT == 2)); then
        candidates=({commands})
        _describe command candidates
        return
    fi
    case "$words[2] $words[CURRENT-1]" in
{values}
        *)
            case "$words[2]" in
{flags}
            esac
            _describe -o option candidates ;;
    esac
}}
if [[ $funcstack[1] == _chinese_mrc ]]; then
    _chinese_mrc "$@"
else
    compdef _chinese_mrc {programs}
fi
"""
_FISH = """\
# Completion of {programs} in fish. Save this as ~/.config/fish/completions/{program}.fish
for program in {programs}
{lines}
end
"""


def script(shell: str, commands: Commands) -> str:
    """Return the script for "bash", "zsh" or "fish"."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _values(option: Option) -> list[str]:
    """Return the values that may be offered for an option; none where files are to be."""
    if option.choices:
        return list(option.choices)
    if option.name == "task":
        # What its module is called; importing them all would take a second.
        return [module.name for module in pkgutil.iter_modules(tasks.__path__) if not module.ispkg]
    if option.name in ("model_name_or_path", "from"):
        return list(catalog.names())
    return []


def _flags(options: type) -> Iterator[tuple[str, str]]:
    """Yield every flag with what it means."""
    for option in options_of(options):
        if not option.positional:
            yield f"--{option.name}", option.help
        if option.is_switch:
            yield f"--no_{option.name}", f"Undo --{option.name}."
    yield "--config", "Read options from a YAML file."
    yield "--help", "Explain the options."


def _branches(commands: Commands) -> Iterator[tuple[str, str, bool]]:
    """Yield patterns of a shell's `case` for "COMMAND --FLAG", the values that may follow, and whether files may."""
    patterns: dict[tuple[str, bool], list[str]] = {}
    for command, options in commands.items():
        for option in options_of(options):
            if not option.is_switch and not option.positional:
                what = " ".join(_values(option)), option.path_like
                patterns.setdefault(what, []).append(f'"{command} --{option.name}"')
        patterns.setdefault(("", True), []).append(f'"{command} --config"')
    for (values, files), names in patterns.items():
        yield "|".join(names), values, files


def _bash(commands: Commands) -> str:
    values = [f'            {pattern}) words="{words}" ;;' for pattern, words, _ in _branches(commands)]
    flags = []
    for command, options in commands.items():
        words = [flag for flag, _ in _flags(options)]
        words += [value for option in options_of(options) if option.positional for value in option.choices]
        flags.append(f'                    {command}) words="{" ".join(words)}" ;;')
    return _filled(_BASH, commands=" ".join(commands), values=values, flags=flags)


def _zsh(commands: Commands) -> str:
    values = []
    for pattern, words, files in _branches(commands):
        offered = (f"compadd -- {words}; " if words else "") + ("_files; " if files else "")
        values.append(f"        {pattern}) {offered}return ;;")
    flags = []
    for command, options in commands.items():
        described = [_described(*flag) for flag in _flags(options)]
        offered = ""
        for option in options_of(options):
            if option.positional:
                offered = f"compadd -- {' '.join(option.choices)}; " if option.choices else "_files; "
        flags.append(f"                {command}) {offered}candidates=({' '.join(described)}) ;;")
    described = [_described(command, summary(options)) for command, options in commands.items()]
    return _filled(_ZSH, commands=" ".join(described), values=values, flags=flags)


def _described(word: str, meaning: str) -> str:
    return shlex.quote(f"{word}:{meaning}")


def _fish(commands: Commands) -> str:
    lines = []
    for command, options in commands.items():
        lines.append(_fish_line("__fish_use_subcommand", f"-f -a {command}", summary(options)))
        seen = shlex.quote(f"__fish_seen_subcommand_from {command}")
        by_flag = {f"--{option.name}": option for option in options_of(options) if not option.positional}
        for flag, meaning in _flags(options):
            option = by_flag.get(flag)
            takes = ""
            if flag == "--config" or (option is not None and option.path_like):
                takes = " -r -F"
            elif option is not None and not option.is_switch:
                takes = " -x"
            if option is not None and (words := _values(option)):
                takes += f" -a {shlex.quote(' '.join(words))}"
            lines.append(_fish_line(seen, f"-l {flag[2:]}{takes}", meaning))
        for option in options_of(options):
            if option.positional and option.choices:
                lines.append(_fish_line(seen, f"-f -a {shlex.quote(' '.join(option.choices))}", option.help))
    return _filled(_FISH, lines=lines)


def _fish_line(condition: str, what: str, meaning: str) -> str:
    # fish knows no escape in single quotes but these two.
    text = meaning.replace("\\", "\\\\").replace("'", "\\'")
    return f"    complete -c $program -n {condition} {what} -d '{text}'"


def _filled(template: str, **parts: str | list[str]) -> str:
    texts = {name: part if isinstance(part, str) else "\n".join(part) for name, part in parts.items()}
    return template.format(programs=" ".join(reversed(PROGRAMS)), program=PROGRAMS[-1], **texts)
