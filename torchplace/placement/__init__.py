"""Placement wing: where each op goes, and what that costs. Nothing in here executes an op."""
