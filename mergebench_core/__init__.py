"""mergebench: a benchmark platform for methods that merge fine-tuned language models.

Plugin authors need what is exported here. Notebooks use `mergebench_core.api`.
"""

from mergebench_core.errors import MergebenchError
from mergebench_core.hookspecs import hookimpl
from mergebench_core.hyperparameters import (
    DENSITY,
    NUM_CALIBRATION_SAMPLES,
    SCALING_COEFFICIENT,
    Config,
    Parameter,
    Stage,
    grid,
    stages,
)
from mergebench_core.methods import (
    Context,
    MergingMethod,
    MethodInfo,
    PerDomain,
    Prepared,
    PreparedView,
    TensorChunk,
)

__version__ = "0.1.0"

__all__ = [
    "DENSITY",
    "NUM_CALIBRATION_SAMPLES",
    "SCALING_COEFFICIENT",
    "Config",
    "Context",
    "MergebenchError",
    "MergingMethod",
    "MethodInfo",
    "Parameter",
    "PerDomain",
    "Prepared",
    "PreparedView",
    "Stage",
    "TensorChunk",
    "grid",
    "hookimpl",
    "stages",
]
