"""Choosing a teacher before a student is trained: measure the candidates, compare them, say which to take and why."""

from stillroom.study.ranking.plan import print_rank_plan
from stillroom.study.ranking.rank import Prepared, RankRequest, prepare, rank_teachers
from stillroom.study.ranking.request import Candidate, RankSettings
from stillroom.study.ranking.table import ranking_table

__all__ = [
    "Candidate",
    "Prepared",
    "RankRequest",
    "RankSettings",
    "prepare",
    "print_rank_plan",
    "rank_teachers",
    "ranking_table",
]
