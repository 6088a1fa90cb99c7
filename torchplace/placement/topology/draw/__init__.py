"""A topology for people: a tree and a matrix in plain text, and a graph for Graphviz."""

from __future__ import annotations

from torchplace.placement.topology.draw.dot import dot_text
from torchplace.placement.topology.draw.matrix import matrix_text
from torchplace.placement.topology.draw.tree import draw_text

__all__ = ["dot_text", "draw_text", "matrix_text"]
