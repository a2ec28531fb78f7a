"""Where a part of the text of a corpus comes from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillroom.corpora.sources.source_kinds import source_kind, source_names
from stillroom.strict import ADDED_LATER, MANY, Factor, Strict


class SourceConfig(Strict):
    """Where a part of the text comes from."""

    kind: str
    """``python-library``: the installed Python library's source. ``files``: files under ``path``. ``hub``: a
    Hugging Face dataset named by ``path`` (extra ``hub``). ``facts``, ``problems``, ``copying``: synthetic worlds.
    Other packages may add more (entry points ``stillroom.sources`` and ``stillroom.worlds``)."""
    share: Factor = 1.0
    """Part of the training tokens, relative to the other sources."""
    path: str | None = None
    """Folder or file (``files``), dataset id or folder (``hub``)."""
    pattern: str = "**/*"
    """Which files under ``path`` (``files``); hidden ones only where the pattern names their dot."""
    exclude: Annotated[tuple[str, ...], ADDED_LATER] = ()
    """Patterns of files and folders under ``path`` that are left out (``files``)."""
    format: Annotated[Literal["auto", "text", "rows"], ADDED_LATER] = "auto"
    """``text``: files are text as they stand. ``rows``: they hold rows with a text in ``field`` (JSON, JSON lines, CSV,
    Parquet, Arrow). ``auto``: what their names say (``files``)."""
    field: str = "text"
    """Column that holds the text (``hub``, and ``files`` of rows); ``a.b`` is field b of field a."""
    name: Annotated[str | None, ADDED_LATER] = None
    """Configuration of the dataset (``hub``); None means its only one."""
    split: Annotated[str | None, ADDED_LATER] = None
    """Split of the dataset that is read (``hub``); None means train. Held-out text is set apart within it."""
    max_document_chars: Annotated[int, Field(ge=100, le=MANY)] = 4000
    """Longer texts are cut into documents of at most this many characters, at line ends."""
    epochs: Annotated[Factor, ADDED_LATER] = 1.0
    """Most times that its text is used where its share asks for more than there is."""
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """Knobs of a world, by name; the world refuses those that it does not know."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        names = source_names()
        if kind not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return kind

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        kind = source_kind(self.kind)
        for name, field in type(self).model_fields.items():
            if name in ("kind", "share", "epochs", *kind.takes):
                continue
            if getattr(self, name) != field.get_default(call_default_factory=True):
                raise ValueError(
                    f"{name} has no effect on kind {self.kind}, which takes {', '.join(kind.takes)}; remove it"
                )
        if kind.path and not self.path:
            raise ValueError(f"kind {self.kind} has no path; set it to {kind.path}")
        return self
