"""Compiler wing: imperative code becomes a graph; a graph, a placement and a schedule become a program."""
