"""What the processes of one run tell each other, beside JAX: one connection of each to process 0.

A process that dies closes its connection, whatever it died of, so the others know within
milliseconds; one whose machine dies is known by the system's probes (``DEAD_S``). JAX itself would
wait for a heartbeat, and then abort every process with a stack of C++.

JAX's own connection to its coordinator goes through here too (a relay at either end), for two
reasons: one port is enough, and when process 0 dies, the ends in the other processes stay open, so
that JAX does not abort them before they have said what happened.

Messages are lines of JSON. Needs nothing but the standard library.
"""

from snnlab.rendezvous.company import GRACE_S as GRACE_S
from snnlab.rendezvous.company import Company as Company
from snnlab.rendezvous.company import Refused as Refused
from snnlab.rendezvous.sockets import free_port as free_port
