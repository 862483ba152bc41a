"""Where a run can be followed beside its folder: ``--log``."""

from snnlab.experiment.loggers.base import Logger as Logger
from snnlab.experiment.loggers.base import LoggerKind as LoggerKind
from snnlab.experiment.loggers.base import Started as Started
from snnlab.experiment.loggers.registry import LOGGERS as LOGGERS
