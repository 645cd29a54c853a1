"""Draws the house from its imports and writes docs/architecture.md: `make architecture`.

A room is a folder of a package; what stands beside the rooms is drawn as one box. An arrow means
*imports*. Arrows that follow from others are left out of the picture and stand in the table.
Needs Python only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("common", "client", "server", "simulations")
BESIDE = "*.py"  # the files of a package that stand in no room
PAGE = Path(__file__).with_suffix(".md")
TEXT = """\
# Architecture: packages, rooms, and what imports what

This page is written by `make architecture` from the imports of the code; change
[architecture.py](architecture.py), not this page. A test compares the two.

Four packages hold the product. `common` is what both sides must agree on, `client` is one hospital,
`server` is the consortium's side, and `simulations` runs the same client and server on one machine.
Client and server never import each other. A *room* is a folder of a package: it says what a line in
it may touch. No room imports itself by a detour: each package can be read room by room, beginning
with those that import nothing.

- Patients are in the hands of the client's `compute`, `run`, `study_book` and `worker`. `compute`
  knows no ledger, no disk and no network.
- A release is drawn, charged, stored and recorded in one place,
  `client/polyclinic_client/run/stored_release.py`, and leaves through one function,
  `client/polyclinic_client/gate/gate.py`.
- Only the client's `node`, `consortium` and `backup` reach the network. The node's process holds
  neither patients nor the ledger; the worker, which does, has nothing but a pipe to the node.
- `common/polyclinic_common/bedside` listens on loopback and keeps nothing of what it is asked; a
  model is verified and asked (`common/polyclinic_common/bundle`) without any network.
- `common/polyclinic_common/privacy` takes numbers and returns numbers: it knows no study, no data
  and no model. Which releases a study makes, when and at what price, is
  `common/polyclinic_common/releases`, and is asked nowhere else.
- Flower beyond `flwr.app`, `flwr.clientapp` and `flwr.serverapp` is touched in adapters only:
  `client/polyclinic_client/node/fleet.py`, `server/polyclinic_server/superlink/flower_link.py` and
  `simulations/polyclinic_simulations/engines/`. One benchmark does so too.

`tests/unit/test_house.py` holds packages, circles and Flower to this, and
`tests/privacy/test_nothing_else_leaves.py` says, folder by folder, what the client may touch.
[data-model.md](data-model.md) says what is written where, [glossary.md](glossary.md) what the words
mean.

## The picture

An arrow means *imports*. An arrow that others imply is left out. `*.py` are the files of a package
that stand in no room.
"""
ROOMS = """
## The rooms

What a room is, is the first line of its docstring. Nothing is left out of its imports.
"""


@dataclass
class Room:
    """A folder of a package.

    Attributes
    ----------
    package, name : str
        Where it is.
    says : str
        First line of its docstring; of files beside the rooms, their names.
    imports : set of (str, str)
        The other rooms that it imports, as (package, name).
    """

    package: str
    name: str
    says: str = ""
    imports: set[tuple[str, str]] = field(default_factory=set)


House = Mapping[tuple[str, str], Room]


def read_house(root: Path) -> House:
    """Return all rooms of the packages below `root`, with what they import."""
    trees: dict[tuple[str, str], dict[str, ast.Module]] = {}
    for package in PACKAGES:
        top = root / package / f"polyclinic_{package}"
        for path in sorted(top.rglob("*.py")):
            parts = path.relative_to(top).parts
            if parts != ("__init__.py",):
                room = package, parts[0] if parts[1:] else BESIDE
                name = "/".join(parts[1:]) or parts[0]
                trees.setdefault(room, {})[name] = ast.parse(path.read_text("utf-8"))
    ordered = sorted(trees, key=lambda key: (PACKAGES.index(key[0]), key[1]))
    return {key: _room(key, trees[key], ordered) for key in ordered}


def _room(
    key: tuple[str, str], files: Mapping[str, ast.Module], rooms: Iterable[tuple[str, str]]
) -> Room:
    known, found = set(rooms), set[tuple[str, str]]()
    for module in (each for tree in files.values() for each in _imported(tree)):
        first, _, rest = module.partition(".")
        package, name = first.removeprefix("polyclinic_"), rest.partition(".")[0]
        room = package, name if (package, name) in known else BESIDE
        if package != first and rest and room in known:
            found.add(room)
    says = ", ".join(f"`{name}`" for name in files)
    if key[1] != BESIDE:
        says = (ast.get_docstring(files["__init__.py"]) or "").partition("\n")[0]
    return Room(*key, says, found - {key})


def _imported(tree: ast.Module) -> Iterable[str]:
    """Yield every imported module, also where only types are looked at."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = "." not in node.module  # from polyclinic_common import errors
            yield from (
                f"{node.module}.{each.name}" if whole else node.module for each in node.names
            )


def arrows(house: House, package: str) -> list[tuple[str, str]]:
    """Return the arrows within a package that do not follow from others."""
    to = {
        room.name: {name for other, name in room.imports if other == package}
        for room in house.values()
        if room.package == package
    }

    def reached(name: str) -> set[str]:
        return {far for near in to[name] for far in {near} | reached(near)}

    return [
        (name, near)
        for name in sorted(to)
        for near in sorted(to[name] - {far for each in to[name] for far in reached(each)})
    ]


def picture(house: House) -> str:
    """Return the house as a Mermaid flowchart."""
    lines = ["```mermaid", "flowchart TB"]
    for package in reversed(PACKAGES):
        lines.append(f'  subgraph {package}["<b>{package}</b>"]')
        for room in house.values():
            if room.package == package:
                lines.append(f'    {_id(package, room.name)}["{room.name}"]')
        lines += [
            f"    {_id(package, one)} --> {_id(package, other)}"
            for one, other in arrows(house, package)
        ]
        lines.append("  end")
    lines += [f"  {one} ==> {other}" for one, other in _between(house)]
    return "\n".join([*lines, "```", ""])


def _between(house: House) -> list[tuple[str, str]]:
    """Return which packages import which, what follows from others left out."""
    to = {
        package: {p for room in house.values() if room.package == package for p, _ in room.imports}
        - {package}
        for package in PACKAGES
    }
    return [
        (one, other)
        for one in reversed(PACKAGES)
        for other in sorted(to[one] - {far for near in to[one] for far in to[near]})
    ]


def _id(package: str, name: str) -> str:
    return f"{package}_{'beside' if name == BESIDE else name}"


def table(house: House) -> str:
    """Return the table of rooms."""
    lines = ["| room | is | imports |", "| --- | --- | --- |"]
    for (package, name), room in house.items():
        lines.append(f"| **{package}** `{name}` | {room.says} | {_told(room)} |")
    return "\n".join([*lines, ""])


def _told(room: Room) -> str:
    """Return what a room imports in words: its own package first."""
    said = []
    for package in (room.package, *(each for each in PACKAGES if each != room.package)):
        names = sorted(f"`{name}`" for other, name in room.imports if other == package)
        if names:
            said.append(("" if package == room.package else f"{package}: ") + " ".join(names))
    return "; ".join(said)


def page(root: Path) -> str:
    """Return the page for the code below `root`."""
    house = read_house(root)
    return "\n".join([TEXT, picture(house)]) + "\n".join([ROOMS, table(house)])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.parents[1]), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
