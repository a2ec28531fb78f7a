"""Choosing a teacher before a student is trained: measure the candidates, compare them, say which to take and why."""

from stillroom.choosing.price import print_rank_plan
from stillroom.choosing.rank import Prepared, RankRequest, prepare_ranking, rank_teachers
from stillroom.choosing.request import Candidate, RankSettings
from stillroom.choosing.table import ranking_table

__all__ = [
    "Candidate",
    "Prepared",
    "RankRequest",
    "RankSettings",
    "prepare_ranking",
    "print_rank_plan",
    "rank_teachers",
    "ranking_table",
]
