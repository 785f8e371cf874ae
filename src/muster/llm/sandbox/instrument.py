"""What is put into a template's syntax tree, so that its rendering accounts for what it spends."""

from __future__ import annotations

from typing import Any

import jinja2.visitor
from jinja2 import Environment, nodes, pass_context
from jinja2.runtime import Context

from muster.llm.sandbox.budget import check_nesting

__all__ = ["BUDGET", "JOIN", "TICK", "account", "instrument", "tick"]

BUDGET = "muster_budget"
"""The variable of a rendering that holds its ``Budget``."""
TICK = "muster_tick"
"""The filter that ``tick`` is to be known as."""
JOIN = "muster_join"
"""The filter that gets the list of the operands of ``~``."""


def instrument(tree: nodes.Template, environment: Environment) -> None:
    """Let every pass of a loop and every call of a macro tick, and ``a ~ b`` go through a filter."""
    for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
        if isinstance(block, nodes.For | nodes.Macro | nodes.CallBlock):  # for the type checker
            block.body.insert(0, _tick_node(block, environment))
    _Rewriter().visit(tree)


def _tick_node(block: nodes.Node, environment: Environment) -> nodes.Node:
    literal = sum(len(data.data) for data in block.find_all(nodes.TemplateData))
    call = nodes.Filter(nodes.Const(literal), TICK, [], [], None, None)
    return nodes.ExprStmt(call, lineno=block.lineno).set_environment(environment)


class _Rewriter(jinja2.visitor.NodeTransformer):
    """Sends ``a ~ b`` through a filter, where its size can be looked at."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's spelling
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        call = nodes.Filter(parts, JOIN, [], [], None, None, lineno=node.lineno)
        if node.environment is not None:  # the parser has set it
            call.set_environment(node.environment)
        return call


@pass_context
def tick(context: Context, literal: int) -> None:
    """Account for a pass of a block that prints so many characters of the template's own."""
    context.parent[BUDGET].spend(literal)


@pass_context
def account(context: Context, value: Any) -> Any:
    """Account for a value that ``{{ }}`` prints, and return what is to be printed."""
    if isinstance(value, str):
        context.parent[BUDGET].spend(len(value))
        return value
    check_nesting(value, context.parent[BUDGET].characters)
    text = str(value)
    context.parent[BUDGET].spend(len(text))
    return text
