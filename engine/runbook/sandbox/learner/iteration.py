"""One iteration of the learner: train, measure, ask for sites, map (docs/labeller.md 5)."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from runbook.sandbox.landscape import SIZE, Landscape
from runbook.sandbox.learner import images, model
from runbook.sandbox.learner.storage import fault, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runbook.sandbox.learner.storage import Name, Storage

#: Pixels that are looked at in a cell.
TRAINING_PIXELS, VALIDATION_PIXELS, TEST_PIXELS = 40, 100, 50

#: Of the pool that is looked at, and of that the least certain part that names come from.
SHARE, UNSURE = 0.10, 0.05

#: Cells of the pool that are looked at, unless more names are asked for.
MOST = 300

#: Cells of the pool that the real one needs to ask for any.
FEWEST = 11

#: Cells along the side of a probability image, and pixels along the side of a cell in it.
TILE, TILE_PIXELS = 10, 4

Array = NDArray[np.float64]
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Cell:
    """A cell of the pool, or one with a label."""

    name: str
    column: int
    row: int


def spread(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """``function`` of each item: by Spark when spark-submit runs this, else one after another."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return [function(item) for item in items]
    from pyspark import SparkContext

    found: list[Out] = SparkContext.getOrCreate().parallelize(list(items)).map(function).collect()
    return found


def run(
    storage: Storage, landscape: Landscape, run_id: int, images_wanted: int, seed: int
) -> dict[str, object]:
    """Train on the labels of the configured run; writes metrics, names and images of ``run_id``.

    Fails where the real one fails (docs/labeller.md 5.3), with a message instead of a traceback.
    """
    kept = storage.names(storage.learner["runid"])
    cells = {row["name"]: _cell(row) for row in storage.rows(storage.planet("pool"))}
    seasons = _seasons(storage)
    train = _data(landscape, _labelled(storage, kept, "train", cells, seasons), TRAINING_PIXELS)
    if len(set(train[1].tolist())) < len((True, False)):
        raise KeyError("all training pixels are of one class")
    trained = model.train(*train, seed)
    checked = _labelled(storage, kept, "validate", cells, seasons)
    metrics = _metrics(trained, *_data(landscape, checked, VALIDATION_PIXELS))
    iteration = max(name.iteration or 0 for name in kept) + 1
    row: dict[str, object] = {
        "run": run_id,
        "iteration": iteration,
        **metrics,
        "aoi": storage.learner["aoiid"],
        "iteration_time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if fault() != "no-metrics":
        storage.write_rows(storage.planet("metrics"), [row])
    if images_wanted > 0:  # the real learner leaves old names in place otherwise
        known = {name.name for name in kept}
        pool = [cell for name, cell in cells.items() if name not in known]
        if len(pool) < FEWEST:
            raise ValueError(f"{len(pool)} cells are left, of which 5 % are none")
        _ask(storage, landscape, trained, pool, run_id, iteration, seed)
        _map(storage, landscape, trained, pool[:: TILE * TILE][:images_wanted], row)
    return row


def _cell(row: Mapping[str, str]) -> Cell:
    return Cell(row["name"], int(row["col"]), int(row["row"]))


def _seasons(storage: Storage) -> Counter[tuple[str, str, str]]:
    """How many images the catalogue has of a cell (column and row) and season."""
    rows = storage.rows(storage.learner["image_catalog"])
    return Counter((row["col"], row["row"], row["season"]) for row in rows)


def _labelled(
    storage: Storage,
    kept: Sequence[Name],
    usage: str,
    cells: Mapping[str, Cell],
    seasons: Mapping[tuple[str, str, str], int],
) -> list[tuple[Cell, NDArray[np.bool_]]]:
    """The label images of one usage.

    A name outside the pool and a cell without both seasons are skipped without a message; one with
    several rows has as many labels and features, joined with each other.
    """
    names = Counter(name.name for name in kept if name.usage == usage and name.name in cells)
    wanted = [cells[name] for name in names]
    with ThreadPoolExecutor(4) as pool:
        contents = pool.map(
            storage.label, [f"{cell.name}_{cell.column}_{cell.row}" for cell in wanted]
        )
        found = [
            (cell, images.read(content) > 0)
            for cell, content in zip(wanted, contents, strict=True)
            for _ in range(_copies(cell, names[cell.name], seasons))
        ]
    if not found:
        raise IndexError(f"there are no labelled names to {usage}")
    return found


def _copies(cell: Cell, rows: int, seasons: Mapping[tuple[str, str, str], int]) -> int:
    place = (str(cell.column), str(cell.row))
    return rows**3 * seasons[*place, "GS"] * seasons[*place, "OS"]


def _sample(cell: Cell, count: int) -> NDArray[np.int64]:
    """The pixels that are looked at in a cell: always the same."""
    return np.random.default_rng([7, cell.column, cell.row]).integers(0, SIZE * SIZE, count)


def _data(
    landscape: Landscape, cells: list[tuple[Cell, NDArray[np.bool_]]], count: int
) -> tuple[Array, NDArray[np.bool_]]:
    def one(item: tuple[Cell, NDArray[np.bool_]]) -> tuple[Array, NDArray[np.bool_]]:
        cell, label = item
        pixels = _sample(cell, count)
        return landscape.features(cell.column, cell.row, pixels), label.reshape(-1)[pixels]

    features, labels = zip(*spread(one, cells), strict=True)
    return np.vstack(features), np.concatenate(labels)


def _metrics(trained: model.Model, features: Array, labels: NDArray[np.bool_]) -> dict[str, float]:
    """The learner's measures, of the cells to validate."""
    probability = trained.probability(features)
    said = probability > 0.5
    right = {
        (truth, answer): int(np.count_nonzero((labels == truth) & (said == answer)))
        for truth in (True, False)
        for answer in (True, False)
    }
    tpr = _ratio(right[True, True], right[True, True] + right[True, False])
    fpr = _ratio(right[False, True], right[False, True] + right[False, False])
    measures = {
        "tss": tpr - fpr,
        "accuracy": _ratio(right[True, True] + right[False, False], len(labels)),
        "precision": _ratio(right[True, True], right[True, True] + right[False, True]),
        "recall": tpr,
        "fpr": fpr,
        "tpr": tpr,
        "AUC": _area_under_curve(probability, labels),
    }
    return {name: round(value, 6) for name, value in measures.items()}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _area_under_curve(probability: Array, labels: NDArray[np.bool_]) -> float:
    """Chance that a field pixel gets a higher probability than another one."""
    ranks = np.empty(len(probability))
    ranks[np.argsort(probability, kind="stable")] = np.arange(1, len(probability) + 1)
    fields, others = int(labels.sum()), int((~labels).sum())
    return _ratio(float(ranks[labels].sum()) - fields * (fields + 1) / 2, fields * others)


def _ask(
    storage: Storage,
    landscape: Landscape,
    trained: model.Model,
    pool: list[Cell],
    run_id: int,
    iteration: int,
    seed: int,
) -> None:
    """Write the names of cells that the model is least certain of, drawn with the seed."""
    count = int(storage.learner["number_outgoing_names"])
    random = np.random.default_rng([seed, iteration])
    looked_at = min(len(pool), max(min(int(len(pool) * SHARE), MOST), 4 * count))
    cells = [pool[index] for index in random.permutation(len(pool))[:looked_at]]

    def certainty(cell: Cell) -> float:
        features = landscape.features(cell.column, cell.row, _sample(cell, TEST_PIXELS))
        return float(np.mean((trained.probability(features) - 0.5) ** 2))

    order = np.argsort(spread(certainty, cells), kind="stable")
    candidates = order[: max(int(looked_at * UNSURE), count)]
    chosen = sorted(cells[index].name for index in random.permutation(candidates)[:count])
    rows: list[dict[str, object]] = [
        {"name": name, "run": run_id, "iteration": iteration, "processed": False, "usage": "train"}
        for name in chosen
    ]
    key = key_of(storage.learner["outgoing"])
    match fault():
        case "no-names":
            return
        case "empty-file":
            storage.write(key, b"")
            return
        case "other-run":
            rows = [{**row, "run": run_id + 1} for row in rows]
        case "names-twice":
            rows = rows + rows
        case "unknown-names":
            rows = [{**row, "name": f"XX{number:07}"} for number, row in enumerate(rows)]
    storage.write_rows(key, rows)


def _map(
    storage: Storage,
    landscape: Landscape,
    trained: model.Model,
    corners: list[Cell],
    metrics: dict[str, object],
) -> None:
    """Write probability images, in hundredths, of the tiles that hold the given cells."""
    steps = (np.arange(TILE_PIXELS) + 0.5) * SIZE / TILE_PIXELS
    pixels = (steps[:, None].astype(int) * SIZE + steps[None, :].astype(int)).reshape(-1)
    tiles = sorted({(cell.column // TILE * TILE, cell.row // TILE * TILE) for cell in corners})
    for left, top in tiles:
        picture = np.zeros((TILE * TILE_PIXELS,) * 2, dtype=np.int8)
        for down in range(TILE):
            for right in range(TILE):
                features = landscape.features(left + right, top + down, pixels)
                part = (trained.probability(features) * 100).reshape((TILE_PIXELS,) * 2)
                y, x = down * TILE_PIXELS, right * TILE_PIXELS
                picture[y : y + TILE_PIXELS, x : x + TILE_PIXELS] = part.astype(np.int8)
        pattern = storage.learner["image_output_pattern"]
        values = (left // TILE, top // TILE, metrics["aoi"], metrics["run"], metrics["iteration"])
        storage.write(key_of(pattern.format(*values)), images.write(picture, left, top, TILE))
