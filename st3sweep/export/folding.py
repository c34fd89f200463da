"""Fold batch norms into the convolutions before them."""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from st3sweep.util.errors import UserError


def traced(model: nn.Module) -> fx.GraphModule:
    """Return a copy of ``model`` in evaluation mode as a graph of operations. Raises UserError where it has none."""
    try:
        return fx.symbolic_trace(copy.deepcopy(model).eval())
    except Exception as error:  # tracing runs the model's own code, which may raise anything on symbolic values
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{type(model).__name__} cannot be traced by torch.fx ({reason})") from None


def fold_batch_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold, in place, each batch norm of a convolution's output that nothing else uses; return ``graph``."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv, norm = modules[str(source.target)], modules[str(node.target)]
        shared = sum(other.target in (source.target, node.target) for other in graph.graph.nodes) > 2
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and not shared:
            modules[str(source.target)] = fused = fuse_conv_bn_eval(conv, norm)
            graph.set_submodule(str(source.target), fused)
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
