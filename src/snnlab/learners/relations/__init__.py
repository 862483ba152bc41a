"""What a parameter enters the step through: one class for each kind of relation."""

from snnlab.learners.relations.base import InputBlock as InputBlock
from snnlab.learners.relations.base import Relation as Relation
from snnlab.learners.relations.elementwise import Elementwise as Elementwise
from snnlab.learners.relations.matmul import MatMul as MatMul
from snnlab.learners.relations.sparse import Sparse as Sparse
