"""The teacher is surest: the paper's rule, the share of positions with the lowest teacher entropy."""

from __future__ import annotations

from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.lowest(positions.entropy_BT))
