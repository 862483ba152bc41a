"""How often the connections of a network act."""

from snnlab.learners.counting.base import Counts as Counts
from snnlab.learners.counting.base import counts as counts
from snnlab.learners.counting.base import over_shards as over_shards
from snnlab.learners.counting.base import whole as whole
from snnlab.learners.counting.base import zeros as zeros
from snnlab.learners.counting.sequence import counted_sequence as counted_sequence
from snnlab.learners.counting.step import StepCounter as StepCounter
