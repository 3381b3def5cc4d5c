"""
What newer Pythons reject in dffml 0.4.0.post2, replaced in the syntax tree

=================================== ======= ======================================
what                                since   becomes
=================================== ======= ======================================
``class X(NamedTuple, Other)``      3.9     ``class X(NamedTuple)``: others were
                                            ignored before
``cls._field_types``                3.9     ``cls.__annotations__``
``type(name, (NamedTuple,), ...)``  3.9     ``shims.new_class(...)``
``dataclasses.dataclass`` with an   3.11    ``shims.dataclass``
unhashable default
``import distutils``                3.12    ``shims.distutils``
``asyncio.get_event_loop()`` where  3.12    ``shims.get_event_loop()``
none runs
``import pkg_resources``            3.12 *  ``shims.pkg_resources``
=================================== ======= ======================================

``*`` not in virtual environments of Python 3.12, nor in setuptools 82.

And one defect that has nothing to do with Python's version: a flow whose last running
operation ends while the result of another is being looked at is taken for finished,
and what depends on it never runs. See `Rewriter.visit_If`.
"""

import ast

SHIMS = __package__ + ".shims"

CALLS = {
    "asyncio.get_event_loop": "get_event_loop",
    "dataclasses.dataclass": "dataclass",
}

MODULES = ("distutils", "pkg_resources")

# MemoryOrchestratorContext.run_operations_for_ctx
FINISHED = "not more and len(tasks) == 1 and (input_set_enters_network in tasks)"
NOTHING_WAITS = (
    "not input_set_enters_network.done() and "
    "not self.ictx.input_notification_set[ctx_str].notification_items"
)


class Rewriter(ast.NodeTransformer):
    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        named = [base for base in node.bases if _dotted(base) == "NamedTuple"]
        node.bases = named or node.bases
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        top = node.names[0].name.partition(".")[0]
        if top in MODULES:
            shim = ast.ImportFrom(SHIMS, [ast.alias(top, None)], 0)
            return ast.copy_location(shim, node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """Results which nobody has looked at are no end of a flow"""
        self.generic_visit(node)
        if ast.unparse(node.test) == FINISHED:
            source = f"{FINISHED} and {NOTHING_WAITS}"
            test = ast.parse(source, mode="eval").body
            for inner in ast.walk(test):
                ast.copy_location(inner, node.test)
            node.test = test
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "_field_types":
            node.attr = "__annotations__"
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = CALLS.get(_dotted(node.func))
        if _is_named_tuple_made_by_type(node):
            name = "new_class"
        if name is not None:
            node.func = _shim(name, node.func)
        return node


def rewrite(source: bytes) -> ast.Module:
    """The tree of ``source`` with everything replaced that the table above lists."""
    return ast.fix_missing_locations(Rewriter().visit(ast.parse(source)))


def _dotted(node: ast.AST) -> str:
    """``a.b.c``, or nothing for what is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        value = _dotted(node.value)
        return value and f"{value}.{node.attr}"
    return ""


def _is_named_tuple_made_by_type(node: ast.Call) -> bool:
    return (
        _dotted(node.func) == "type"
        and len(node.args) == 3
        and isinstance(node.args[1], ast.Tuple)
        and "NamedTuple" in map(_dotted, node.args[1].elts)
    )


def _shim(name: str, replaced: ast.expr) -> ast.expr:
    # An expression, not an import: it binds no name in the module
    source = f"__import__({SHIMS!r}, fromlist=['_']).{name}"
    shim = ast.parse(source, mode="eval").body
    for node in ast.walk(shim):
        ast.copy_location(node, replaced)
    return shim
