"""How XLA is told to compile what tests run: in little time."""

import jaxlib.version

# XLA's older emitters of loops make the same programs in half of the time; jaxlib 0.11.1 no longer
# has them, and ends a process that sets this flag.
OLDER_EMITTERS = (
  {'xla_cpu_use_fusion_emitters': False} if jaxlib.version.__version_info__ < (0, 11, 1) else {}
)


def flags(options):
  """Options of the compiler as ``XLA_FLAGS`` has them."""
  return ' '.join(f'--{name}={str(value).lower()}' for name, value in options.items())
