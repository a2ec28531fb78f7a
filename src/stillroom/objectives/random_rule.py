"""The control: a random share of the positions."""

from __future__ import annotations

from stillroom.objectives.routing import random_scores
from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.lowest(random_scores(positions.batch.tokens_BT, positions.seed)))
