"""The axis algebra by itself, against brute force over the indices of small products.

What may go of a dimension is what its atoms allow: a mask that is the outer product of masks of
them. Two dimensions that are one and the same allow what both allow.
"""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jprune.graph._axes.atoms import (
  Atom,
  Cause,
  counts,
  freeze,
  fresh,
  is_frozen,
  leaves,
  resolve,
  size_of,
)
from jprune.graph._axes.sizes import Sizes
from jprune.graph._axes.unify import segments, singles, sum_of, unify

WHY = Cause('a test')
SIZES = [4, 6, 8, 12]


def factorizations(size, least=2):
  """All row-major products of this size."""
  yield (size,)
  for first in range(least, size):
    if size % first == 0:
      for rest in factorizations(size // first):
        yield (first, *rest)


def made(factors):
  return tuple(Atom(n) for n in factors)


def masks(*dims):
  """For each choice of what stays of the free atoms, what stays of the dimensions."""
  atoms = list(dict.fromkeys(atom for dim in dims for atom in leaves(dim)))
  free = [atom for atom in atoms if atom.frozen is None]
  choices = itertools.product(*(itertools.product([True, False], repeat=a.size) for a in free))
  for choice in choices:
    sizes = Sizes({atom: np.array(keep) for atom, keep in zip(free, choice, strict=True)})
    yield tuple(_mask(sizes, dim) for dim in dims)


def _mask(sizes, dim):
  keep = sizes.keep(dim)
  return (True,) * size_of(dim) if keep is None else tuple(keep.tolist())


def outer(factors):
  """The masks of an axis with these factors, by index."""
  each = [list(itertools.product([True, False], repeat=n)) for n in factors]
  indices = list(itertools.product(*map(range, factors)))
  return {
    tuple(all(m[i] for m, i in zip(chosen, index, strict=True)) for index in indices)
    for chosen in itertools.product(*each)
  }


pairs = st.sampled_from(SIZES).flatmap(
  lambda n: st.tuples(*[st.sampled_from(list(factorizations(n)))] * 2)
)


def nested(a, b):
  """Whether two products have a common refinement: one's cuts divide the other's, and so on."""
  cuts = lambda factors: set(itertools.accumulate(reversed(factors), lambda x, y: x * y))
  both = sorted(cuts(a) | cuts(b))
  return all(y % x == 0 for x, y in itertools.pairwise(both))


@settings(deadline=None)
@given(pairs)
def test_unified_dimensions_allow_what_both_allow(factors):
  a, b = map(made, factors)
  unify(a, b, WHY)
  allowed = set(masks(a, b))
  assert all(one == other for one, other in allowed)
  both = outer(factors[0]) & outer(factors[1])
  mine = {one for one, _ in allowed}
  if nested(*factors):
    assert mine == both
  else:
    assert mine <= both
    assert any(atom.frozen for atom in leaves(a))
    assert any(atom.frozen for atom in leaves(b))


@settings(deadline=None)
@given(pairs)
def test_it_does_not_matter_which_comes_first_or_how_often(factors):
  once, turned, twice = ([made(f) for f in factors] for _ in range(3))
  unify(*once, WHY)
  unify(*reversed(turned), WHY)
  unify(*twice, WHY)
  unify(*twice, WHY)
  shape = lambda dims: [[(a.size, a.frozen is None) for a in resolve(dim)] for dim in dims]
  assert shape(once) == shape(turned) == shape(twice)
  assert [size_of(dim) for dim in once] == [np.prod(f) for f in factors]
  assert (resolve(once[0]) == resolve(once[1])) == nested(*factors)


@settings(deadline=None)
@given(
  st.sampled_from([8, 12]).flatmap(
    lambda n: st.lists(st.sampled_from(list(factorizations(n))), min_size=3, max_size=3)
  ),
  st.permutations([(0, 1), (1, 2), (2, 0)]),
)
def test_the_order_of_refinements_is_irrelevant(factors, order):
  one, other = ([made(f) for f in factors] for _ in range(2))
  for i, j in [(0, 1), (1, 2), (2, 0)]:
    unify(one[i], one[j], WHY)
  for i, j in order:
    unify(other[i], other[j], WHY)
  sizes = lambda dims: [[(a.size, a.frozen is None) for a in resolve(dim)] for dim in dims]
  frozen = any(a.frozen for dims in (one, other) for dim in dims for a in leaves(dim))
  assume(not frozen)  # where they don't fit, the first to meet are frozen
  assert sizes(one) == sizes(other)


@settings(deadline=None)
@given(
  st.sampled_from(SIZES).flatmap(
    lambda n: st.tuples(st.sampled_from(list(factorizations(n))), st.sets(st.integers(1, n - 1)))
  )
)
def test_segments_are_the_pieces_between_cuts(given_):
  factors, cuts = given_
  dim, cuts = made(factors), sorted(cuts)
  found = segments(dim, cuts, WHY)
  inner = np.prod(factors[1:], dtype=int)
  if any(cut % inner for cut in cuts):
    assert found is None
    return
  bounds = [0, *cuts, size_of(dim)]
  assert [size_of(part) for part in found] == [b - a for a, b in itertools.pairwise(bounds)]
  for whole, *parts in masks(dim, *found):
    assert whole == tuple(itertools.chain(*parts))
  again = segments(dim, cuts, WHY)
  assert list(map(resolve, again)) == list(map(resolve, found))


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_sum_is_its_parts_one_after_the_other(sizes):
  parts = [fresh(n) for n in sizes]
  total = sum_of(parts)
  assert size_of(total) == sum(sizes)
  for whole, *each in masks(total, *parts):
    assert whole == tuple(itertools.chain(*each))


@pytest.mark.parametrize('size', [2, 5])
def test_singles_go_by_themselves(size):
  dim = made((size,))
  atoms = singles(dim)
  assert [atom.size for atom in atoms] == [1] * size
  assert len(set(masks(dim))) == 2**size
  assert singles(dim) == atoms


@settings(deadline=None)
@given(pairs)
def test_what_is_frozen_stays(factors):
  a, b = map(made, factors)
  freeze(a[:1], WHY)
  unify(a, b, WHY)
  first = Cause('another test')
  freeze(a, first)
  assert is_frozen(a)
  assert is_frozen(b)
  assert all(atom.frozen is not None for atom in leaves(a))
  assert resolve(a)[0].frozen is WHY
  assert {mask for mask, _ in masks(a, b)} == {(True,) * size_of(a)}


@settings(deadline=None)
@given(pairs, st.integers(1, 3))
def test_counts_are_those_of_one_entry(factors, times):
  assume(nested(*factors))
  a, b = map(made, factors)
  unify(a, b, WHY)
  found = counts([a] * times + [b])
  assert found == dict.fromkeys(leaves(a), times + 1)
  assert counts([]) == {}


def of(shape):
  """A dimension of this form: a size, a product of forms (tuple), or a sum of them (list)."""
  match shape:
    case int():
      return fresh(shape)
    case tuple():
      return tuple(itertools.chain(*map(of, shape)))
    case _:
      return sum_of([of(part) for part in shape])


def total(shape):
  if isinstance(shape, int):
    return shape
  return (
    np.prod([total(each) for each in shape], dtype=int)
    if isinstance(shape, tuple)
    else sum(map(total, shape))
  )


def forms(size):
  """Forms of this size: sums of products, and products that start with a sum."""
  cuts = lambda n: (
    [[a, n - a] for a in range(1, n)]
    + [[a, b, n - a - b] for a in range(1, n - 1) for b in range(1, n - a)]
  )
  found = [size, *cuts(size)]
  for minor in range(2, size):
    if size % minor == 0:
      found += [(major, minor) for major in [size // minor, *(cuts(size // minor))]]
      found += [[(a // minor, minor), size - a] for a in range(2 * minor, size, minor)]
  return found


two_forms = st.sampled_from([4, 6]).flatmap(
  lambda n: st.tuples(st.sampled_from(forms(n)), st.sampled_from(forms(n)))
)


@settings(deadline=None, max_examples=400)
@given(two_forms, st.booleans())
def test_unified_sums_allow_no_more_than_both(shapes, turned):
  before = set(masks(of(shapes[0]))) & set(masks(of(shapes[1])))
  a, b = map(of, shapes)
  unify(*((b, a) if turned else (a, b)), WHY)
  assert size_of(a) == size_of(b) == total(shapes[0])
  allowed = set(masks(a, b))
  assert all(one == other for one, other in allowed)
  assert {(one,) for one, _ in allowed} <= before
  if all(isinstance(each, list) and all(isinstance(p, int) for p in each) for each in shapes):
    assert {(one,) for one, _ in allowed} == before


@settings(deadline=None, max_examples=200)
@given(two_forms, st.integers(0, 3))
def test_what_was_frozen_stays_in_sums(shapes, place):
  a, b = map(of, shapes)
  atoms = list(leaves(a))
  freeze((atoms[place % len(atoms)],), WHY)
  before = set(masks(a))
  unify(a, b, Cause('later'))
  assert {(one,) for one, _ in masks(a, b)} <= before
  assert all(one == other for one, other in masks(a, b))


@settings(deadline=None, max_examples=200)
@given(
  st.sampled_from([4, 6]).flatmap(
    lambda n: st.tuples(st.sampled_from(forms(n)), st.sets(st.integers(1, n - 1)))
  )
)
def test_segments_of_sums(given_):
  shape, cuts = given_
  dim, cuts = of(shape), sorted(given_[1])
  before = set(masks(dim))
  found = segments(dim, cuts, WHY)
  if found is not None:
    for whole, *parts in masks(dim, *found):
      assert whole == tuple(itertools.chain(*parts))
  assert set(masks(dim)) <= before


def test_an_index_lies_in_one_segment():
  (inner,) = fresh(3)
  assert counts([sum_of([(inner,), (inner,)])]) == {inner: 1}


def test_single_indices_are_of_one_family():
  a, b = fresh(2), fresh(3)
  singles(a)
  singles(b)
  found = singles(sum_of([a, b]))
  assert len({each.family.root() for each in found}) == 1
