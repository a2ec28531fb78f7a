"""Soft labels: a teacher run once, its labels kept small, looked up by content for any number of students."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.labels.dataset import LabelCollator, LabelDataset, batch_of, soft_labels_of
    from stillroom.labels.exchange.importing import import_kd
    from stillroom.labels.exchange.maxtext import export_maxtext, import_maxtext
    from stillroom.labels.exchange.megatron_logits import import_megatron
    from stillroom.labels.exchange.parquet import export_parquet, import_distillkit, import_parquet
    from stillroom.labels.exchange.topk_writers import export_distillkit, export_kd, export_llamakd
    from stillroom.labels.format.layout import Damaged
    from stillroom.labels.format.manifest import Identity, Manifest
    from stillroom.labels.from_scores import label, label_part
    from stillroom.labels.inspection import Inspection, inspect_store
    from stillroom.labels.pricing import Price, price
    from stillroom.labels.reading import Scores
    from stillroom.labels.settings import LabelSettings
    from stillroom.labels.store import LabelStore, keys_of

__all__ = [
    "Damaged",
    "Identity",
    "Inspection",
    "LabelCollator",
    "LabelDataset",
    "LabelSettings",
    "LabelStore",
    "Manifest",
    "Price",
    "Scores",
    "batch_of",
    "export_distillkit",
    "export_kd",
    "export_llamakd",
    "export_maxtext",
    "export_parquet",
    "import_distillkit",
    "import_kd",
    "import_maxtext",
    "import_megatron",
    "import_parquet",
    "inspect_store",
    "keys_of",
    "label",
    "label_part",
    "price",
    "soft_labels_of",
]

__getattr__ = names_of(__name__)
