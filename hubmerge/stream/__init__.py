"""From a recipe to a checkpoint: planned from headers alone, then streamed one tensor at a time."""

from .executor import MergeResult, merge
from .plan import SHARD_SIZE, Plan, make_plan
from .problems import Problem
from .shards import ShardPlan
from .tensors import TensorPlan

__all__ = ["SHARD_SIZE", "MergeResult", "Plan", "Problem", "ShardPlan", "TensorPlan", "make_plan", "merge"]
