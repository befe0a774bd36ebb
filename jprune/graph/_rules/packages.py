"""Primitives that other packages bring, by name; nothing of these packages is imported.

Equinox has its own for what JAX leaves to ``vmap`` and ``while``: values that must not be batched,
choices that are made under ``vmap`` only, buffers that are written in a loop. What is not named
here is like any other unknown primitive: its operands stay whole.
"""

from __future__ import annotations

from typing import Any

import jax

from jprune.graph._axes.atoms import Dims
from jprune.graph._program.sharding import struct
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import UNIFORM, Site, Status, rule
from jprune.graph._rules.products import check_summed
from jprune.graph._rules.ranges import no_sign

# They are computed as JAX would compute them, and JAX finds their derivatives.
_CALLED = frozenset(['maybe_set', 'vprim'])


def _couple_called(site: Site, ins: list[Dims]) -> list[Dims]:
  primitive, params = site.eqn.primitive, site.params
  while primitive.name == 'vprim':  # another one under vmap
    primitive, params = params['prim'], dict(params['params'])
  if primitive.name not in _CALLED:
    raise NotImplementedError(primitive.name)
  run = lambda *xs: site.eqn.primitive.impl(*xs, **site.params)
  jaxpr = jax.make_jaxpr(run)(*(struct(var.aval) for var in site.eqn.invars))
  return site.walk.couple_child(site, 'body', jaxpr, ins, inline=True)


def _status_called(site: Site, ins: list[Status]) -> list[Status]:
  return site.walk.status_child(site, 'body', ins)


def _small_called(site: Site, xs: list[Any]) -> list[Any]:
  return site.walk.small_child(site, 'body', xs)


rule(' '.join(_CALLED), _couple_called, _status_called, _small_called, traits=Trait.INLINE)


def _couple_over_all(site: Site, ins: list[Dims]) -> list[Dims]:
  """One number of all entries, those of other examples included."""
  if site.name != 'unvmap_any':
    site.freeze_all(ins, f'{site.name} over it')
  return [()]


def _status_over_all(site: Site, ins: list[Status]) -> list[Status]:
  for atom, value in ins[0].of.items():
    check_summed(site, atom, value, ghostable=False)
  return [Status(UNIFORM, {})]


rule('unvmap_any unvmap_all', _couple_over_all, _status_over_all, ranges=no_sign)
rule('unvmap_max', _couple_over_all, _status_over_all)
