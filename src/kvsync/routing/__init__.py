"""Match to score to pick: pure decisions, no I/O, no await."""

from __future__ import annotations

from kvsync.routing.candidate import Candidate, Choice, CostOptions, Estimate, Load, Question
from kvsync.routing.catalog import policies, policy_named
from kvsync.routing.policies import BUILT_IN, Policy
from kvsync.routing.router import Ask, Considered, Flight, Pick, Router
from kvsync.routing.score import estimate

__all__ = [
    "BUILT_IN",
    "Ask",
    "Candidate",
    "Choice",
    "Considered",
    "CostOptions",
    "Estimate",
    "Flight",
    "Load",
    "Pick",
    "Policy",
    "Question",
    "Router",
    "estimate",
    "policies",
    "policy_named",
]
