"""What a traced function does with its params: channels, multiply-adds, inputs of its products.

- channels that can only go together: ``channels`` gives a ``ChannelGraph`` of ``Group`` objects
- what each leaf is: ``roles`` gives ``Roles``, a ``Role`` for each leaf
- multiply-adds: ``macs`` gives a ``MacCount``
- statistics of what leaves are multiplied by: ``capture``, ``capture_batches`` give ``Stats``
- whether a smaller function does the same: ``verify`` gives a ``Verification``
"""

# The words that are used in here, and one function followed through all passes, are explained in
# `docs/guides/axis_algebra.md`; `CONTRIBUTING.md` has a map of the rooms.

from jprune._roles import Factor as Factor
from jprune._roles import Role as Role
from jprune._roles import Roles as Roles
from jprune.graph._capture.capture import capture as capture
from jprune.graph._capture.capture import capture_batches as capture_batches
from jprune.graph._channels.graph import ChannelGraph as ChannelGraph
from jprune.graph._channels.graph import channels as channels
from jprune.graph._channels.groups import Group as Group
from jprune.graph._channels.groups import Member as Member
from jprune.graph._channels.groups import Position as Position
from jprune.graph._macs.count import MacCount as MacCount
from jprune.graph._macs.count import macs as macs
from jprune.graph._macs.products import Macs as Macs
from jprune.graph._macs.products import Product as Product
from jprune.graph._roles.leaf_roles import roles as roles
from jprune.graph._shrunk.verify import Verification as Verification
from jprune.graph._shrunk.verify import verify as verify
from jprune.graph._statistics.moments import Moments as Moments
from jprune.graph._statistics.stats import Stats as Stats
from jprune.graph._statistics.stats import Use as Use

__all__ = [
  'ChannelGraph',
  'Factor',
  'Group',
  'MacCount',
  'Macs',
  'Member',
  'Moments',
  'Position',
  'Product',
  'Role',
  'Roles',
  'Stats',
  'Use',
  'Verification',
  'capture',
  'capture_batches',
  'channels',
  'macs',
  'roles',
  'verify',
]
