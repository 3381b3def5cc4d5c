"""The flow as a picture: operations, and between them the types of what flows"""

from typing import Any, Dict, List, NamedTuple

from ..errors import MissingTool
from . import Composition

FORMATS = ("mermaid", "svg", "png")
FLOW, ADDED, REPLACED = "flow", "added", "replaced"
COLOURS = {FLOW: "#eef2f7", ADDED: "#d5f0d5", REPLACED: "#fdecc8"}


class Edge(NamedTuple):
    """An artefact on its way"""

    maker: str
    user: str
    what: str


def kinds(composition: Composition) -> Dict[str, str]:
    """The operations, and whether they are the flow's, or come from overlays"""
    base = composition.base.content["operations"]
    found = {}
    for name, operation in composition.operations.items():
        if operation.get("stage") == "output":
            continue
        own = base.get(name, {}).get("name")
        found[name] = FLOW if own == operation["name"] else REPLACED if own else ADDED
    return dict(sorted(found.items()))


def edges(composition: Composition) -> List[Edge]:
    """Who takes what from whom"""
    operations = composition.operations
    found = []
    for user, flow in composition.content["flow"].items():
        for origins in (flow.get("inputs") or {}).values():
            for origin in origins:
                if isinstance(origin, dict):
                    [(maker, output)] = origin.items()
                    what = operations[maker]["outputs"][output]
                    found.append(Edge(maker, user, what))
    return sorted(found)


def mermaid(composition: Composition) -> str:
    """https://mermaid.js.org/syntax/flowchart.html"""
    lines = ["flowchart TD"]
    for name, kind in kinds(composition).items():
        lines.append(f"    {name}:::{kind}")
    for maker, user, what in edges(composition):
        lines.append(f"    {maker} -- {what} --> {user}")
    for kind, colour in COLOURS.items():
        lines.append(f"    classDef {kind} fill:{colour},stroke:#555,color:#111")
    return "\n".join(lines) + "\n"


def picture(composition: Composition, form: str) -> bytes:
    """The diagram as SVG or PNG, laid out by Graphviz; `MissingTool` without it"""
    try:
        import graphviz
    except ImportError as error:
        raise MissingTool(
            "the package graphviz is missing", remedy="pip install graphviz"
        ) from error
    graph: Any = graphviz.Digraph(
        graph_attr={"rankdir": "TB"},
        node_attr={"shape": "box", "style": "filled", "fontname": "sans-serif"},
        edge_attr={"fontname": "sans-serif", "fontsize": "10"},
    )
    for name, kind in kinds(composition).items():
        graph.node(name, fillcolor=COLOURS[kind])
    for maker, user, what in edges(composition):
        graph.edge(maker, user, label=what)
    try:
        return graph.pipe(format=form)
    except graphviz.ExecutableNotFound as error:
        raise MissingTool(
            "Graphviz's program dot is missing", remedy="apt-get install graphviz"
        ) from error
