"""The MMoE paper's synthetic tasks: shared-bottom suffers as they part, MMoE less so.

    python benchmarks/mmoe_synthetic.py OUT [--repeats 20] [--threads 1]

Two regressions whose weights have a cosine of ``p`` (Ma et al., KDD 2018, section 3.2): inputs
x ~ N(0, I), y_k = w_k x + sum_i sin(alpha_i w_k x + beta_i) + noise. The correlation of the labels
that came out is reported, not p. Our own mixers learn them: one bottom of the size of all experts,
a mixture with one gate for both tasks, and one with a gate each. OUT gets ``mmoe_synthetic.json``,
``mmoe_synthetic.md`` and the paper's figure drawn anew, ``mmoe_synthetic.svg``.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from record import about, show
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates, GroupedLinear
from daogou.model.mixers import MIXERS, Mixer

N_INPUTS: Final = 100
N_WAVES: Final = 5
N_EXPERTS, WIDTH, TOWER = 8, 16, 8
COSINES: Final = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
N_TRAIN, N_TEST, ROWS, STEPS = 100_000, 10_000, 256, 2_000
Floats = NDArray[np.float64]


def tasks(cosine: float, seed: int, n: int) -> tuple[Floats, Floats]:
    """Inputs ``[n, 100]`` and both labels ``[n, 2]``, standardised; one generator of one seed.

    Equations 2 to 4 of the paper with c = 1. Phases, inputs and noise are drawn anew per seed and
    are the same for every cosine, so that along a line nothing but the cosine changes.
    """
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((N_INPUTS, 2)))[0]
    weights = np.stack([u[:, 0], cosine * u[:, 0] + np.sqrt(1 - cosine**2) * u[:, 1]], axis=1)
    alpha, beta = 0.5 * (1.0 + np.arange(N_WAVES)), rng.uniform(0, 2 * np.pi, N_WAVES)
    x = rng.standard_normal((n, N_INPUTS))
    along = x @ weights
    y = along + np.sin(along[..., None] * alpha + beta).sum(-1) + 0.1 * rng.standard_normal((n, 2))
    return x, (y - y.mean(0)) / y.std(0)


class OneGate(nn.Module):
    """A mixture of experts whose one gate serves all tasks (OMoE): ``[B, D] -> [T, B, H]``."""

    def __init__(self, n_inputs: int, n_tasks: int, *, widths: Sequence[int]) -> None:
        super().__init__()
        self.n_outputs, self.n_tasks = widths[-1], n_tasks
        self.experts = Experts(N_EXPERTS, n_inputs, widths)
        self.gates = Gates(n_inputs, torch.ones(1, N_EXPERTS, dtype=torch.bool), dropout=0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        mixed: Tensor = self.gates(inputs, self.experts(inputs))
        return mixed.expand(self.n_tasks, *mixed.shape[1:])


class Regressor(nn.Module):
    """A mixer and a tower per task: ``[B, D] -> [T, B]``."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        assert isinstance(mixer, nn.Module)
        self.mixer = mixer
        self.hidden = GroupedLinear(2, mixer.n_outputs, TOWER)
        self.out = GroupedLinear(2, TOWER, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        said: Tensor = self.out(torch.relu(self.hidden(self.mixer(inputs))))
        return said[..., 0]


def contenders() -> Mapping[str, Mixer]:
    """Three mixers of nearly one size, their weights at their start."""
    made: dict[str, Mixer] = {
        # As wide as all experts side by side, as in the paper.
        "shared_bottom": MIXERS["shared_bottom"](
            N_INPUTS, 2, widths=[N_EXPERTS * WIDTH, WIDTH], dropout=0.0
        ),
        "one gate": OneGate(N_INPUTS, 2, widths=[WIDTH, WIDTH]),
        "mmoe": MIXERS["mmoe"](
            N_INPUTS, 2, widths=[WIDTH, WIDTH], dropout=0.0, n_experts=N_EXPERTS, gate_dropout=0.0
        ),
    }
    return made


def final_loss(name: str, cosine: float, seed: int) -> float:
    """Mean squared error of both tasks on fresh rows, after a fixed number of steps of Adam."""
    x, y = (torch.from_numpy(array).float() for array in tasks(cosine, seed, N_TRAIN + N_TEST))
    torch.manual_seed(seed)
    model = Regressor(contenders()[name])
    adam = torch.optim.Adam(model.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randint(N_TRAIN, (ROWS,), generator=generator)
        loss = (model(x[rows]) - y[rows].T).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.inference_mode():
        return float((model.eval()(x[N_TRAIN:]) - y[N_TRAIN:].T).square().mean())


def correlation(cosine: float, seeds: Sequence[int]) -> float:
    """Of the two labels, mean over seeds."""
    labels = [tasks(cosine, seed, N_TRAIN)[1] for seed in seeds]  # [n, 2], standardised
    return float(np.mean([(y[:, 0] * y[:, 1]).mean() for y in labels]))


def figure(
    found: Mapping[str, Mapping[float, Sequence[float]]], labels: Mapping[float, float]
) -> str:
    """Mean loss against label correlation as an SVG, one line a model with its standard errors."""
    width, height, left, bottom = 560, 340, 64, 48
    values = [float(np.mean(losses)) for line in found.values() for losses in line.values()]
    low, high = min(values) * 0.9, max(values) * 1.08

    def at(cosine: float, loss: float) -> tuple[float, float]:
        x = left + (width - left - 130) * labels[cosine]
        return x, 16 + (height - bottom - 16) * (high - loss) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>Test loss of two synthetic tasks against the correlation of their labels</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for tick in np.linspace(low, high, 5):
        y = at(COSINES[0], float(tick))[1]
        parts.append(f'<path d="M{left} {y:.1f}H{width - 130}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    for cosine in COSINES:
        x = at(cosine, low)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">'
            f"{labels[cosine]:.2f}</text>"
        )
    parts.append(
        f'<text x="{(left + width - 130) / 2}" y="{height - 8}" text-anchor="middle">'
        "correlation of the labels</text>"
    )
    parts.append(
        f'<text transform="translate(14 {height / 2}) rotate(-90)" text-anchor="middle">'
        "mean squared error, fresh rows</text>"
    )
    dashes = {"shared_bottom": "", "one gate": "6 4", "mmoe": "2 3"}
    for name, line in found.items():
        points = [(*at(c, float(np.mean(v))), np.std(v) / np.sqrt(len(v))) for c, v in line.items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="black" stroke-width="2" '
            f'stroke-dasharray="{dashes[name]}"/>'
        )
        for x, y, error in points:
            half = error * (height - bottom - 16) / (high - low)
            parts.append(f'<path d="M{x:.1f} {y - half:.1f}V{y + half:.1f}" stroke="black"/>')
        x, y, _ = points[0]
        parts.append(f'<text x="{width - 122}" y="{points[-1][1] + 4:.1f}">{name}</text>')
    return "\n".join([*parts, "</svg>"])


def main(arguments: Sequence[str]) -> int:
    """Train, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    seeds = range(given.repeats)
    found: dict[str, dict[float, list[float]]] = {name: {} for name in contenders()}
    for cosine in COSINES:
        for name, line in found.items():
            line[cosine] = [final_loss(name, cosine, seed) for seed in seeds]
        told = {name: round(float(np.mean(line[cosine])), 4) for name, line in found.items()}
        print(f"cosine {cosine}: {told}", file=sys.stderr)
    labels = {cosine: correlation(cosine, seeds) for cosine in COSINES}
    rows = []
    for cosine in COSINES:
        cells = [f"{labels[cosine]:.2f}"]
        for line in found.values():
            error = np.std(line[cosine]) / np.sqrt(given.repeats)
            cells.append(f"{np.mean(line[cosine]):.4f} ± {error:.4f}")
        rows.append(cells)
    heading = ["label correlation", *found]
    show(given.out / "mmoe_synthetic.md", {"Test loss": (heading, rows)}, width=110)
    (given.out / "mmoe_synthetic.svg").write_text(figure(found, labels), encoding="utf-8")
    document = {
        **about("mmoe_synthetic.py", arguments),
        "seconds": round(time.perf_counter() - started),
        "repeats": given.repeats,
        "correlation": labels,
        "losses": found,
    }
    (given.out / "mmoe_synthetic.json").write_text(json.dumps(document, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
