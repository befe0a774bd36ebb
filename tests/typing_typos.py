"""A user's typos: words that type checkers, and so editors, have to flag.

Each line is ignored for the error that it must give. Where it gives none, the ignore is unnecessary,
which is an error. Nothing here runs; what is said when it does stands in the tests of messages.
"""

import jax

import jprune
from jprune.typing import Masks, Params, Scores


def channels(scores: Scores, graph: jprune.graph.ChannelGraph) -> list[Masks]:
  of = jprune.masks.channels
  return [
    of(scores, graph, 0.5, scope='gobal'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    of(scores, graph, 0.5, reduce='men'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    of(scores, graph, 0.5, normalize='gauss'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
  ]


def groups(graph: jprune.graph.ChannelGraph) -> list[jprune.ChannelGroups]:
  of = jprune.ChannelGroups
  return [
    of(graph, scope='gobal'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    of(graph, reduce='men'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    of(graph, normalize='gauss'),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
  ]


def verify(fn: jprune.typing.Schedule, params: Params, masks: Masks, x: jax.Array) -> None:
  of = jprune.graph.verify
  of(fn, params, masks, x, inputs='hrad')  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
