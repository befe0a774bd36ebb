"""What a traced function does with its params: channel groups, multiply-adds, exactness."""

from jprune.graph._channels import ChannelGraph as ChannelGraph
from jprune.graph._channels import channels as channels
from jprune.graph._groups import Group as Group
from jprune.graph._groups import Member as Member
from jprune.graph._groups import Position as Position
from jprune.graph._verify import Verification as Verification
from jprune.graph._verify import verify as verify
