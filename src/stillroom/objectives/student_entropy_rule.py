"""The student is surest: the highest student entropy keeps its term."""

from __future__ import annotations

from stillroom.objectives.routing_rules import RoutingRule

RULE = RoutingRule(lambda positions: positions.lowest(positions.student_entropy_BT), of_student=True)
