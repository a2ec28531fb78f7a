"""Words of the worlds: attributes with values and sentence patterns, made-up names, animals, common pieces of text.

Imports the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


def words(text: str) -> tuple[str, ...]:
    """The words of a text, split at spaces."""
    return tuple(text.split())


@dataclass(frozen=True)
class Attribute:
    """Something that every entity has: ``values`` it can take, and sentence patterns over {e} (entity) and {v} (value).

    Every pattern of ``ending`` ends in the value, so that cutting the value off leaves a question to be completed;
    ``other`` patterns put the value elsewhere.
    """

    name: str
    values: tuple[str, ...]
    ending: tuple[str, ...]
    other: tuple[str, ...]


ATTRIBUTES = (
    Attribute(
        "colour",
        words("red blue green black white pink brown grey gold purple orange silver violet yellow"),
        ("{e} likes the colour {v}", "The favourite colour of {e} is {v}", "{e} wears {v}"),
        ("A coat in {v} belongs to {e}",),
    ),
    Attribute(
        "city",
        words("Rome Paris London Cairo Lima Oslo Delhi Tokyo Berlin Madrid Lisbon Boston Vienna Dublin"),
        ("{e} lives in {v}", "The home of {e} is in {v}", "{e} was born in {v}"),
        ("In {v} one can meet {e}",),
    ),
    Attribute(
        "animal",
        words("cat dog horse goat fox bear wolf sheep mouse tiger lion duck snake camel"),
        ("{e} has a pet {v}", "The pet of {e} is a {v}", "{e} walks with a {v}"),
        ("A {v} sleeps beside {e}",),
    ),
    Attribute(
        "food",
        words("bread rice soup cheese fish honey beans cake salad pasta fruit nuts corn eggs"),
        ("{e} eats {v}", "The favourite food of {e} is {v}", "{e} asks for {v}"),
        ("A plate of {v} is ready for {e}",),
    ),
    Attribute(
        "job",
        words("baker farmer nurse pilot sailor singer teacher doctor judge miner painter tailor guard cook"),
        ("{e} works as a {v}", "The job of {e} is {v}", "{e} is a good {v}"),
        ("As a {v} we know {e}",),
    ),
    Attribute(
        "thing",
        words("lamp drum boat clock knife sword piano violin hammer camera mirror basket ladder rope"),
        ("{e} carries a {v}", "The best thing of {e} is a {v}", "{e} bought a {v}"),
        ("There is a {v} that {e} made",),
    ),
)
"""Every attribute; no value belongs to two of them."""

ANIMALS = words(
    "ant bat bee cat cow crab deer dog dove duck eel elk fish fly fox frog goat gull hare hawk hen jay kite lamb "
    "lark lion lynx mole moth mouse mule newt owl ox pig pike pony puma rat ray rook seal shark sheep slug snail "
    "snake swan toad trout wasp whale wolf worm wren yak"
)
"""Short names of animals, for problems about words."""

PIECES = words(
    "self return def if not in is None for import the to of and a with class from else True False raise as or "
    "elif try except name value len str int list dict set object type key path file data line args kwargs error "
    "test assert print open read write get add append pop index count size start end first last next result func "
    "method string bytes code module system time date year month day hour text word number point state left right "
    "up down old new all any each other this that these those which when where while what who how can may must "
    "will would should one two three four five six seven eight nine ten zero red blue green black white big small "
    "long short high low close begin stop true false yes no none some more less most least many few before after "
    "over under into out on off by at be been are was were has have had do does did made make take give find "
    "found call called use used using sets map item items node tree root leaf graph edge table row column field "
    "user group host port socket server client request response message header body parse format encode decode "
    "buffer stream event loop task thread lock wait run exit status signal process memory cache default option "
    "config version build package"
)
"""Common words and identifiers, to be copied."""

SYMBOLS = words(". , : ; = ( ) [ ] { } + - * / < > _ # @ ! ? % & | ~ ^ $")
"""Marks, to be copied."""

_ONSETS = words("b d f g h j k l m n p r s t v w z br dr fl gr kl pr st tr")
_VOWELS = words("a e i o u")
_CODAS = words("l n r s m x th")


def made_up_name(random: Random) -> str:
    """A short name such as Bola or Drathu, one of 4,375, so that a small vocabulary spells it in few tokens."""
    parts = (_ONSETS, _VOWELS, _CODAS, _VOWELS)
    return "".join(random.choice(part) for part in parts).capitalize()
