"""Options that take several values."""

from __future__ import annotations

import click
from typer.core import TyperCommand


class ManyValues(TyperCommand):
    """A command whose repeatable options take several values: ``--epsilon 0.5 1 2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite ``--epsilon 0.5 1`` (or ``--epsilon=0.5 1``) as one ``--epsilon`` a value."""
        repeatable = {
            name: option.type
            for option in self.get_params(ctx)
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        rewritten: list[str] = []
        current: str | None = None
        for position, word in enumerate(args):
            after_option = position > 0 and args[position - 1] == current
            if word.startswith("-"):
                name = word.partition("=")[0]
                current = name if name in repeatable else None
            elif current is not None and not after_option:
                if _fits(repeatable[current], word):
                    rewritten.append(current)
                else:
                    current = None
            rewritten.append(word)
        return super().parse_args(ctx, rewritten)


def _fits(kind: click.ParamType[object], word: str) -> bool:
    try:
        kind.convert(word, None, None)
    except click.UsageError:
        return False
    return True
