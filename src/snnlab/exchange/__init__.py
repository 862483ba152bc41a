"""NIR, the Neuromorphic Intermediate Representation: networks from and for other frameworks.

Source: Pedersen et al. 2024, "Neuromorphic intermediate representation: a unified instruction set
for interoperable brain-inspired computing", Nat. Commun. 15:8122; the package ``nir``, of the
extra of this name. Names are loaded when first used.
"""

from typing import TYPE_CHECKING

from snnlab.lazy import exports

if TYPE_CHECKING:
    from snnlab.exchange.files import read as read
    from snnlab.exchange.files import write as write
    from snnlab.exchange.from_graph import from_nir as from_nir
    from snnlab.exchange.labels import Label as Label
    from snnlab.exchange.readers import READERS as READERS
    from snnlab.exchange.to_graph import to_nir as to_nir
else:
    __getattr__ = exports(
        __name__,
        {
            "files": ("read", "write"),
            "from_graph": ("from_nir",),
            "labels": ("Label",),
            "readers": ("READERS",),
            "to_graph": ("to_nir",),
        },
    )
