"""Print a completion script for bash, zsh or fish.

source <(modelworks completion bash)
"""

from __future__ import annotations

import argparse

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.kinds import names
from modelworks.core.stage import load

SHELLS = ("bash", "zsh", "fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks completion`."""
    parser.add_argument("shell", metavar="|".join(SHELLS), help="the shell that asks")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if args.shell not in SHELLS:
        raise UserError(
            f"completion: there is no script for {args.shell!r}; {did_you_mean(args.shell, SHELLS)}"
        )
    verbs = {name: _flags(name) for name in names("stages")}
    print(_fish(verbs) if args.shell == "fish" else _bash(verbs, args.shell))
    return 0


def _flags(verb: str) -> list[str]:
    parser = argparse.ArgumentParser(add_help=True)
    load(verb).arguments(parser)
    return sorted(
        flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")
    )


def _bash(verbs: dict[str, list[str]], shell: str) -> str:
    kinds = (
        " ".join(f"--model={name}" for name in names("models"))
        + " "
        + " ".join(f"--task={name}" for name in names("tasks"))
    )
    cases = "\n".join(
        f"    {verb}) words='{' '.join(flags)}{' ' + kinds if verb == 'train' else ''}' ;;"
        for verb, flags in verbs.items()
    )
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{head}_modelworks() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(verbs)}'
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    case "$current" in -*) ;; *) words="$words $(ls -d runs/*/ 2>/dev/null)" ;; esac
  fi
  COMPREPLY=( $(compgen -W "$words" -- "$current") $(compgen -f -- "$current") )
}}
complete -o filenames -F _modelworks modelworks"""


def _fish(verbs: dict[str, list[str]]) -> str:
    lines = [f"complete -c modelworks -n __fish_use_subcommand -a '{' '.join(verbs)}'"]
    for verb, flags in verbs.items():
        lines += [
            f"complete -c modelworks -n '__fish_seen_subcommand_from {verb}' -l {flag[2:]}" for flag in flags
        ]
    return "\n".join(lines)
