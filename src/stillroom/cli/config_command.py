"""``stillroom config``: what every field of a configuration is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stillroom.study.described import Described

What = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE|FIELD",
        help="A recipe, whose values are shown, or a field such as [bold]training.tokens[/], [bold]alpha[/] or "
        "[bold]evaluation[/]. Default: an overview.",
    ),
]
Within = Annotated[str | None, typer.Argument(metavar="FIELD", help="Show this field of the recipe alone.")]


def config_command(what: What = None, field: Within = None) -> None:
    """Explain the fields of a configuration: what each is for, its unit, the values that it takes, its default.

    Any field is changed by [bold]--set[/] of stillroom study and stillroom train, or in a recipe.

    [bold]Example[/]:  stillroom config quickstart arms.dpt90
    """
    from stillroom.study import available_recipes

    if what is None:
        _overview()
    elif what in available_recipes() or ".py" in what or what.endswith((".yaml", ".yml")):
        _recipe(what, field)
    else:
        _field(what, field)


def _overview() -> None:
    """Recipes, and the outermost fields of a study."""
    from stillroom.config import StudyConfig
    from stillroom.console import Terminal, line
    from stillroom.study import available_recipes
    from stillroom.study.described import fields_of

    console = Terminal()
    console.print(line("Recipes: ", (", ".join(available_recipes()), "bold")), soft_wrap=True)
    for name, one in fields_of(StudyConfig).items():
        if "." not in name:
            _print(console, name, one)
    console.print("stillroom config FIELD tells what is inside; stillroom config RECIPE shows a recipe's values.")


def _field(asked: str, more: str | None) -> None:
    """Every field that a name stands for, of a study, or of a single run where a study has none."""
    from stillroom.config import RunConfig, StudyConfig
    from stillroom.console import Terminal
    from stillroom.strict import nearest
    from stillroom.study import available_recipes
    from stillroom.study.described import fields_of, found_by
    from stillroom.types import UserError

    if more is not None:
        raise UserError(f"recipe {asked!r}: there is none of this name{nearest(asked, available_recipes())}.")
    study, run = fields_of(StudyConfig), fields_of(RunConfig)
    names = [*study, *(name for name in run if name not in study)]
    found = found_by(asked, names, available_recipes())
    console = Terminal()
    for name in [name for name in found if name in study] or found:
        _print(console, name, study.get(name) or run[name])


def _recipe(recipe: str, asked: str | None) -> None:
    """The values of a recipe; each text once."""
    from stillroom.console import Terminal
    from stillroom.study import resolve_recipe
    from stillroom.study.described import fields_of, found_by, plain, valued

    config = resolve_recipe(recipe)
    known, rows = fields_of(type(config)), {name: (general, value) for name, general, value in valued(config)}
    wanted = rows if asked is None else found_by(asked, rows)
    console, told = Terminal(), set()
    for name in wanted:
        general, value = rows[name]
        shown = None if known[general].is_group and value is not None else plain(value)
        _print(console, name, known[general], shown, is_known=general in told)
        told.add(general)


def _print(console, name: str, one: Described, value: str | None = None, *, is_known: bool = False) -> None:
    """A field: its value where it has one, what it takes, its default, and its text under it."""
    from stillroom.console import line

    default = "must be given" if one.default is None else f"default {one.default}"
    takes = one.takes if one.is_group else f"{one.takes}; {default}"
    given = [] if value is None else [" = ", (value, "cyan")]
    console.print(line((name, "bold"), *given, (f"  ({takes})", "dim")), soft_wrap=True)
    if one.text and not is_known:
        console.print(f"    {one.text}", soft_wrap=True, highlight=False)
