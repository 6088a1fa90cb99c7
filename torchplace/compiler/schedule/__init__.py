"""Schedules: in which order each stage of a pipeline does forward, backward and weight gradients of micro-batches."""

from torchplace.compiler.schedule.action import Action, Table
from torchplace.compiler.schedule.registry import SCHEDULES, schedule_table

__all__ = ["SCHEDULES", "Action", "Table", "schedule_table"]
