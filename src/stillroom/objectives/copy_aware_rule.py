"""What the context already says: copyable positions, those of the least gold probability first."""

from __future__ import annotations

from stillroom.objectives.routing import copyable
from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.lowest(positions.gold_logprob_BT, copyable(positions.batch)))
