"""Half Way (no paper): half of the mean task vector."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl
from mergebench_example.means import mean


class HalfWay(MergingMethod):
    info = MethodInfo(name="half_way", title="Half Way", paper_url="https://example.org/half-way")

    def update(self, tensor, config, prepared):
        return mean(tensor.task_vectors) / 2


@hookimpl
def mergebench_register_methods(register):
    register(HalfWay())
