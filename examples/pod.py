"""One-shot pruning where the model lies on many hosts: what each host runs.

On a pod, start it on every host, with a path that all of them see:

    python pod.py --checkpoint dense --out sparse

On one machine, processes stand for hosts; each is told which one it is:

    python pod.py --checkpoint dense --out sparse --local 0 2 12345
"""

import argparse
import os

import jax

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--checkpoint', required=True, help='folder that jprune.save wrote')
parser.add_argument('--out', required=True, help='folder to write')
parser.add_argument('--sparsity', type=float, default=0.5)
parser.add_argument(
  '--local', type=int, nargs=3, metavar=('PROCESS', 'PROCESSES', 'PORT')
)
args = parser.parse_args()

# 1. Every process meets the others, before anything else is asked of JAX.
if args.local is None:
  jax.distributed.initialize()
else:
  process, processes, port = args.local
  os.environ['JAX_PLATFORMS'] = 'cpu'
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.config.update('jax_num_cpu_devices', 2)
  jax.distributed.initialize(f'127.0.0.1:{port}', processes, process)

import decoder
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jprune


def say(text):
  """Prints once, not once for each process."""
  if jax.process_index() == 0:
    print(text, flush=True)


# 2. A mesh over all devices: rows of a batch along 'data', features along 'model'.
devices = jax.device_count()
model = 2 if devices % 2 == 0 else 1
auto = (AxisType.Auto, AxisType.Auto)
mesh = jax.make_mesh((devices // model, model), ('data', 'model'), axis_types=auto)

# 3. Each process reads what its devices hold.
params, _ = jprune.load(args.checkpoint, like=decoder.placed(mesh))

# 4. Batches, of which each process has its own rows.
by_row = NamedSharding(mesh, P('data'))
codes = decoder.text()


def batch(seed):
  tokens = decoder.windows(codes, seed, 32)[:, :-1]
  return jax.make_array_from_callback(tokens.shape, by_row, lambda index: tokens[index])


batches = [batch(1000 + seed) for seed in range(8)]

# 5. What it will take, before anything runs.
how = {'sparsity': args.sparsity, 'where': 'layers/.*kernel', 'sequential': True}
say(jprune.reconstruct.plan(decoder.forward, params, batches[0], **how))

# 6. Prune and repair. All processes make the same calls.
pruned, masks, report = jprune.reconstruct.prune(
  decoder.forward, params, batches, **how
)
say(report)

# 7. Look at what came out, and save it; each process writes its part.
unseen = decoder.windows(decoder.text(unseen=True), 0, 64)
unseen = jax.make_array_from_callback(unseen.shape, by_row, lambda index: unseen[index])
bits = jax.jit(decoder.bits)
before, after = (float(bits(each, unseen)) for each in (params, pruned))
tally = jprune.tally(pruned, masks)
say(f'bits for each character: {before:.3f} dense, {after:.3f} at {tally.sparsity:.0%}')
jprune.save(args.out, pruned, masks, max_shard_size='300KB')
say('\n'.join(sorted(os.listdir(args.out))))
