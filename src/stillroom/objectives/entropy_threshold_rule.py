"""The teacher is surer than a number of nats, whatever their share."""

from __future__ import annotations

from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.entropy_BT < (positions.routing.threshold_nats or 0.0))
