"""The teacher gives the true next token the least probability."""

from __future__ import annotations

from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.lowest(positions.gold_logprob_BT))
