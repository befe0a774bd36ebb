"""Names that every doctest may use."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

import jprune

# a decorated function counts as one of the module in which it is defined
_from_module = doctest.DocTestFinder._from_module
doctest.DocTestFinder._from_module = lambda self, module, value: _from_module(
  self, module, inspect.unwrap(value) if callable(value) else value
)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
  doctest_namespace.update(jax=jax, jnp=jnp, optax=optax, jprune=jprune)
