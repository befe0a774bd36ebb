"""What a traced function does with its params: channels, multiply-adds, inputs of its products."""

from jprune._roles import Factor as Factor
from jprune._roles import Role as Role
from jprune._roles import Roles as Roles
from jprune.graph._capture import capture as capture
from jprune.graph._capture import capture_batches as capture_batches
from jprune.graph._channels import ChannelGraph as ChannelGraph
from jprune.graph._channels import channels as channels
from jprune.graph._groups import Group as Group
from jprune.graph._groups import Member as Member
from jprune.graph._groups import Position as Position
from jprune.graph._leaf_roles import roles as roles
from jprune.graph._mac_count import MacCount as MacCount
from jprune.graph._mac_count import macs as macs
from jprune.graph._moments import Moments as Moments
from jprune.graph._rows import Macs as Macs
from jprune.graph._rows import Product as Product
from jprune.graph._stats import Stats as Stats
from jprune.graph._stats import Use as Use
from jprune.graph._verify import Verification as Verification
from jprune.graph._verify import verify as verify
