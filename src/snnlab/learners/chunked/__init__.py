"""The suite's own learners: chunked D-RTRL and ES-D-RTRL, and BPTT in blocks."""

from snnlab.learners.chunked.backprop import BlockBPTT as BlockBPTT
from snnlab.learners.chunked.build import make_own as make_own
from snnlab.learners.chunked.learner import ChunkedDRTRL as ChunkedDRTRL
from snnlab.learners.chunked.learner import ChunkedESDRTRL as ChunkedESDRTRL
