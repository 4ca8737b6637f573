"""Everything that the bench measures on this device, in one run.

Absolute times change with what else the machine does; ratios of interleaved runs do not, so they are what is
reported.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from agedit.bench.choice import ChoosingResults, choosing
from agedit.bench.growth import FacesCost, SizeCost, VisitorsCost, by_faces, by_size, by_visitors
from agedit.bench.moves import MoveCosts, moves
from agedit.bench.networks import NetworkRates, networks
from agedit.bench.page import LightCosts, light
from agedit.bench.peers import PeerTimes, peers
from agedit.bench.precision import PrecisionCost, lowered
from agedit.bench.promise import PromiseRow, promise
from agedit.runtime import Engine, one_heap, runtime_name, usable_cores


class BenchResults(TypedDict):
    """What the functions of these names measured."""

    runtime: str
    threads: int
    light: LightCosts
    networks: NetworkRates
    lowered: PrecisionCost | None
    moves: MoveCosts
    by_size: list[SizeCost]
    by_faces: list[FacesCost]
    by_visitors: list[VisitorsCost]
    choosing: ChoosingResults
    promise: list[PromiseRow]
    peers: NotRequired[PeerTimes]


def bench(
    wheel: str | Path | None = None,
    with_peers: bool = True,
    tell: Callable[[str], object] | None = None,
) -> BenchResults:
    """Everything in one run.

    Args:
        wheel: path of the `random-face` wheel, for one of the peers.
        tell: called with a few words before each part.
    """
    tell = tell or _ignore
    one_heap()  # as the page has it: what a move costs is also where its arrays come from
    tell("a fresh process")
    light_costs = light()
    tell("networks and the yardstick")
    network_rates = networks()
    engine = Engine()
    tell("lowered")
    precision_cost = lowered(engine)
    tell("moves")
    move_costs = moves(engine)
    tell("by size")
    size_costs = by_size(engine)
    tell("by faces")
    faces_costs = by_faces(engine)
    tell("by visitors")
    visitors_costs = by_visitors(engine)
    tell("choosing")
    choosing_results = choosing(engine)
    tell("promise")
    promise_rows = promise(engine)
    results: BenchResults = {
        "runtime": runtime_name(),
        "threads": usable_cores(),
        "light": light_costs,
        "networks": network_rates,
        "lowered": precision_cost,
        "moves": move_costs,
        "by_size": size_costs,
        "by_faces": faces_costs,
        "by_visitors": visitors_costs,
        "choosing": choosing_results,
        "promise": promise_rows,
    }
    if with_peers:
        tell("peers")
        results["peers"] = peers(engine, wheel)
    return results


def _ignore(_words: str) -> None:
    pass
