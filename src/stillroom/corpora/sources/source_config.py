"""Where a part of the text of a corpus comes from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillroom.corpora.sources.source_kinds import source_kind, source_names
from stillroom.corpora.sources.table_rows import Condition, template_parts
from stillroom.strict import ADDED_LATER, MANY, Factor, Strict


class SourceConfig(Strict):
    """Where a part of the text comes from."""

    kind: str
    """``python-library``: the installed Python library's source. ``files``: files under ``path``. ``hub``: a
    Hugging Face dataset named by ``path`` (extra ``hub``). ``facts``, ``problems``, ``copying``: synthetic worlds.
    Other packages may add more (entry points ``stillroom.sources`` and ``stillroom.worlds``)."""
    share: Factor = 1.0
    """Part of the training tokens, relative to the other sources."""
    epochs: Annotated[Factor, ADDED_LATER] = 1.0
    """How often its text may be used at most where the training tokens need more than there is."""
    path: str | None = None
    """Folder, file, pattern of files or address such as ``s3://bucket/folder`` (``files``); dataset id or folder
    (``hub``)."""
    pattern: str = "**/*"
    """Which files under ``path`` (``files``); hidden ones only where the pattern names their dot."""
    exclude: Annotated[tuple[str, ...], ADDED_LATER] = ()
    """Patterns of files and folders under ``path`` that are left out (``files``)."""
    format: Annotated[Literal["auto", "text", "rows"], ADDED_LATER] = "auto"
    """``text``: files are text as they stand. ``rows``: they hold rows with a text in ``field`` (JSON, JSON lines, CSV,
    Parquet, Arrow). ``auto``: what their names and first bytes say (``files``)."""
    field: str = "text"
    """Column that holds the text (``hub``, and ``files`` of rows); ``a.b`` is field b of field a."""
    template: Annotated[str | None, ADDED_LATER] = None
    """Text with columns in braces, ``{title}\\n\\n{body.text}``, in place of ``field``; braces of the text twice."""
    where: Annotated[tuple[str, ...], ADDED_LATER] = ()
    """Conditions that rows must meet, all of them: ``score >= 3``, ``lang == en``; signs are == != >= <= > <. A row
    without the column is left out."""
    errors: Annotated[Literal["refuse", "skip"], ADDED_LATER] = "refuse"
    """``skip``: rows, sections of text and rests of files that are damaged are left out and counted."""
    name: Annotated[str | None, ADDED_LATER] = None
    """Configuration of the dataset (``hub``); None means its only one."""
    split: Annotated[str | None, ADDED_LATER] = None
    """Split of the dataset that is read (``hub``); None means train. Held-out text is set apart within it."""
    max_document_chars: Annotated[int, Field(ge=100, le=MANY)] = 4000
    """Longer texts are cut into documents of at most this many characters, at line ends."""
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """Knobs of a world, by name; the world refuses those that it does not know."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        names = source_names()
        if kind not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return kind

    @field_validator("template")
    @classmethod
    def _is_template(cls, template: str | None) -> str | None:
        if template is not None:
            template_parts(template)
        return template

    @field_validator("where")
    @classmethod
    def _are_conditions(cls, where: tuple[str, ...]) -> tuple[str, ...]:
        for text in where:
            Condition.of(text)
        return where

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        kind = source_kind(self.kind)
        for name, field in type(self).model_fields.items():
            if name in ("kind", "share", *kind.takes):
                continue
            if getattr(self, name) != field.get_default(call_default_factory=True):
                raise ValueError(
                    f"{name} has no effect on kind {self.kind}, which takes {', '.join(kind.takes)}; remove it"
                )
        if self.template is not None and self.field != "text":
            raise ValueError("field has no effect beside template; remove one of the two")
        if kind.path and not self.path:
            raise ValueError(f"kind {self.kind} has no path; set it to {kind.path}")
        return self
