"""Kills saves of several files at every call of the system that changes something.

Run by itself, so that it forks a process in which JAX has no threads yet: what children do to files
is looked at through :func:`jprune.io.open`, which needs none. Prints what stood after each kill,
how many leaves and their value: a line for each number of leaves of an old set, from none to three.
"""

import os
import signal
import sys

import numpy as np

import jprune

NAMES = ('open', 'mkdir', 'replace', 'fsync', 'link', 'unlink')


def save(folder, value, leaves):
  leaf = np.full(9, value, np.float32)
  jprune.save(folder, {f'w{i}': leaf for i in range(leaves)}, None, 36)


def kill_at(moment):
  """Makes this process kill itself before the call of that number, counted from 1."""
  calls = []

  def counted(real):
    def call(*args, **kwargs):
      calls.append(args)
      if len(calls) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
      return real(*args, **kwargs)

    return call

  for name in NAMES:
    setattr(os, name, counted(getattr(os, name)))


def killed(folder, moment):
  """Saves in a child that is killed at a moment; whether it was."""
  child = os.fork()
  if not child:
    kill_at(moment)
    save(folder, 2, 2)
    os._exit(0)
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def standing(folder):
  """How many leaves the checkpoint has, and the one value in all of them."""
  if not os.path.isdir(folder) or 'model.safetensors.index.json' not in os.listdir(folder):
    return '0 0'  # without its index a set is none
  with jprune.io.open(folder) as opened:
    values = {float(x) for leaf in opened.params.values() for x in leaf.read()}
    return f'{len(opened.params)} {" ".join(map(str, sorted(values)))}'


def killed_everywhere(folder, before):
  """What stood after each kill; ``before`` is the number of leaves of the old set, 0 for none."""
  moment, go_on, states = 0, True, []
  while go_on:
    moment += 1
    here = f'{folder}/{before}.{moment}'
    if before:
      save(here, 1, before)
      with open(f'{here}/config.json', 'w') as file:
        file.write('{}')
    go_on = killed(here, moment)
    states.append(standing(here))
    save(here, 3, 1)  # clears up
    rest = {'config.json'} if before else set()
    new = {'model-00001-of-00001.safetensors', 'model.safetensors.index.json'}
    if set(os.listdir(here)) != rest | new or standing(here) != '1 3.0':
      sys.exit(f'after a kill at {moment} a save leaves {os.listdir(here)}')
  return states


if __name__ == '__main__':
  os.fsync = lambda handle: None  # what a process has written outlives it
  for before in (0, 2, 3):
    print(', '.join(killed_everywhere(sys.argv[1], before)))
