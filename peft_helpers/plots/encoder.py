"""Figures of an encoder (lesson 04): its anatomy, where its parameters are, who looks at whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from peft_helpers.plots.style import COLORS, LINES, panels, require_items, sentence, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from peft_helpers.backbones import Anatomy, Layer, Site

SUMS = ("attention_output", "cross_output", "ffn_out")  # the projections back to width D: a residual sum comes next
MOST_MAPS = 16
LONGEST_PATH = 27  # letters in a box

# ---------------------------------------------------------------- anatomy


@dataclass(frozen=True)
class _Row:
    """One box: what is written on it, where it is, and the name that a method calls it by."""

    name: str
    path: str
    parameters: int
    kind: str


@styled
def anatomy(parts: Anatomy, methods: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """The parts of a model from top to bottom, in the order in which they run, and where each method attaches.

    Of every stack of equal layers the first is drawn. Everything comes from the anatomy: names, paths, parameters; the
    order is measured by running the model on two tokens.

    Args:
        parts: as `backbones.anatomy(model)` gives it.
        methods: name of a method -> the names of the parts that it works on ("query", "norm", "head" …).

    Raises:
        ValueError: a method names a part that the model does not have.
    """
    methods = dict(methods or {})
    groups = _groups(parts)
    rows = [row for _, group in groups for row in group]
    known = {row.kind for row in rows}
    for method, names in methods.items():
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{method}: there is no {', '.join(unknown)}; there is {', '.join(sorted(known))}")
    figure, (axes,) = panels(width=7.4, height=0.9 + 0.36 * len(rows) + 0.1 * len(groups))
    axes.set_axis_off()
    at, places = 0.0, {}
    for stack, group in groups:
        top = at
        for row in group:
            places[id(row)] = at
            _draw_box(axes, row, at)
            at += 1.0
        if stack is not None:
            count = sum(layer.stack == stack for layer in parts.layers)
            axes.add_patch(Rectangle((-0.62, top - 0.52), 6.74, len(group) + 0.04, fill=False, linewidth=1.2,
                                     edgecolor=COLORS["gray"], linestyle=(0, (4, 2))))  # fmt: skip
            axes.text(-0.68, top - 0.4, f"{stack}: {count} such layers", rotation=90, ha="right", va="top", fontsize=10)
            _draw_bypasses(axes, group, top)
        at += 0.25
    for column, (method, names) in enumerate(methods.items()):
        x, look = 6.6 + 0.62 * column, LINES[column % len(LINES)]
        axes.text(x, -0.75, method, rotation=50, ha="left", va="bottom", fontsize=10.5)
        axes.plot([x, x], [-0.45, at - 0.75], color="#dddddd", linewidth=0.8, zorder=0)
        ys = [places[id(row)] for row in rows if row.kind in names]
        axes.plot([x] * len(ys), ys, linestyle="none", marker=look["marker"], markersize=8, color=look["color"])
    axes.set(xlim=(-1.1, 6.6 + 0.62 * max(1, len(methods)) + 0.5), ylim=(at - 0.4, -3.2 if methods else -0.9))
    told = [f"{row.name}, {row.path}: {row.parameters:,}".replace(", :", ":") for row in rows]
    told += [f"{method} attaches at {', '.join(names)}" for method, names in methods.items()]
    figure.alt = f"The parts of {parts.architecture} with their parameters, from input to output: {sentence(told)}"
    return figure


def _groups(parts: Anatomy) -> list[tuple[str | None, list[_Row]]]:
    """(None, rows outside the layers) and (stack, rows of its first layer), from input to output."""
    order = _running_order(parts)

    def rows(sites: Sequence[Site], within: str = "") -> list[_Row]:
        made = []
        for site in sorted(sites, key=lambda site: order[site.path]):
            count = sum(p.numel() for p in site.module.parameters()) // (1 if site.third is None else 3)
            path = site.path.removeprefix(within)
            if site.name == "embedding":
                made.append(_Row(path.rsplit(".", 1)[-1].replace("_", " "), "", count, site.name))
            else:
                made.append(_Row(site.name.replace("_", " "), path, count, site.name))
        return made

    firsts: dict[str, Layer] = {}
    for layer in parts.layers:
        firsts.setdefault(layer.stack, layer)
    waiting = [*parts.embeddings, *parts.norms, *([parts.pooler] if parts.pooler else []), *parts.head]
    groups: list[tuple[str | None, list[_Row]]] = []
    for name, layer in firsts.items():
        sites = [*layer.sites.values(), *layer.norms]
        start = min(order[site.path] for site in sites)
        early = [site for site in waiting if order[site.path] < start]
        waiting = [site for site in waiting if site not in early]
        path = sites[0].path.split(".")
        groups += [(None, rows(early)), (name, rows(sites, ".".join(path[: path.index(str(layer.index)) + 1]) + "."))]
    return [*groups, (None, rows(waiting))]


def _running_order(parts: Anatomy) -> dict[str, int]:
    """Path of a site -> when it first runs; the head comes last, what never runs (a tied table) first."""
    import torch

    layers = [site for layer in parts.layers for site in [*layer.sites.values(), *layer.norms]]
    inside = [*parts.embeddings, *parts.norms, *layers, *([parts.pooler] if parts.pooler else [])]
    seen: dict[str, int] = {}
    paths: dict[int, list[str]] = {}
    for site in inside:
        paths.setdefault(id(site.module), []).append(site.path)

    def note(module: Any, *_: Any) -> None:
        for path in paths[id(module)]:
            seen.setdefault(path, len(seen))

    hooks = [site.module.register_forward_pre_hook(note) for site in {id(s.module): s for s in inside}.values()]
    base, mode = parts.model.base_model, parts.model.training
    try:
        with torch.no_grad():
            base.eval()(torch.ones(1, 2, dtype=torch.long, device=next(base.parameters()).device))
    finally:
        base.train(mode)
        for hook in hooks:
            hook.remove()
    return {site.path: seen.get(site.path, -1) for site in inside} | {
        site.path: len(seen) + i for i, site in enumerate(parts.head)
    }


def _draw_box(axes: Axes, row: _Row, y: float) -> None:
    color = {"norm": "#f3e6ee", "embedding": "#e5eef5", "pooler": "#fdf1dc", "head": "#fdf1dc"}.get(row.kind, "#dff0ea")
    box = FancyBboxPatch((0, y - 0.38), 6.0, 0.76, boxstyle="round,pad=0,rounding_size=0.12", facecolor=color,
                         edgecolor=COLORS["gray"], linewidth=0.8)  # fmt: skip
    axes.add_patch(box)
    axes.text(0.12, y, row.name, va="center", fontsize=11)
    path = row.path if len(row.path) <= LONGEST_PATH else f"…{row.path[-LONGEST_PATH:]}"
    axes.text(2.5, y, path, va="center", fontsize=8, color="#555555")
    axes.text(5.9, y, f"{row.parameters:,}", va="center", ha="right", fontsize=10.5)


def _draw_bypasses(axes: Axes, group: Sequence[_Row], top: float) -> None:
    """The residual connections: around every block, into the sum behind its last projection."""
    norm_first, start = group[0].kind == "norm", 0
    for i, row in enumerate(group):
        if row.kind not in SUMS:
            continue
        y, end = top + start - 0.44, top + i + 0.44
        axes.plot([-0.02, -0.32, -0.32, -0.14], [y, y, end, end], color=COLORS["orange"], linewidth=1.6)
        look = {"color": COLORS["orange"], "zorder": 3}
        axes.plot(-0.02, end, marker="o", markersize=11, markerfacecolor="white", **look)
        axes.plot(-0.02, end, marker="+", markersize=8, **look)
        start = i + 1 if norm_first else i + 2  # behind the norm that follows the sum, or right behind the sum


# ---------------------------------------------------------------- parameters


@styled
def parameter_shares(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """Where the parameters of several models are: one bar a model, its parts as shares.

    Args:
        models: name -> part -> parameters; the first model says the order of the parts.

    Raises:
        ValueError: no models, no parts, more parts than styles, or a count that is not positive.
    """
    require_items("models", models)
    parts = list(dict.fromkeys(part for counts in models.values() for part in counts))
    if not parts or len(parts) > len(LINES) or any(n <= 0 for counts in models.values() for n in counts.values()):
        raise ValueError(
            f"parameter_shares draws 1 to {len(LINES)} parts with positive counts; got {dict(models)!r:.90}"
        )
    figure, (axes,) = panels(height=1.2 + 0.5 * len(models))
    hatches, names = ("", "///", "", "...", "xxx", "\\\\\\"), list(models)
    left = np.zeros(len(names))
    totals = np.array([sum(models[name].values()) for name in names], dtype=float)
    for k, part in enumerate(parts):
        shares = np.array([models[name].get(part, 0) for name in names]) / totals
        light = k in (1, 3)
        axes.barh(range(len(names)), shares, 0.66, left=left, label=part, hatch=hatches[k], linewidth=0.8,
                  color="white" if light else LINES[k]["color"], edgecolor=LINES[k]["color"])  # fmt: skip
        for row, share in enumerate(shares):
            if share > 0.07:
                axes.text(left[row] + share / 2, row, f"{share:.0%}", ha="center", va="center", fontsize=10.5,
                          color=COLORS["black"] if light else "white",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if light else None)  # fmt: skip
        left += shares
    axes.set(xlim=(0, 1), xticks=[], ylim=(len(names) - 0.5, -0.5), xlabel="share of the parameters")
    axes.set_yticks(range(len(names)), [f"{name}\n{_short(total)}" for name, total in zip(names, totals, strict=True)])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    figure.legend(loc="outside upper center", ncols=len(parts), handlelength=1.4, columnspacing=1.2)
    told = (
        f"{name}, {total:,.0f} parameters: " + ", ".join(f"{part} {n / total:.1%}" for part, n in models[name].items())
        for name, total in zip(names, totals, strict=True)
    )
    figure.alt = f"Shares of the parameters. {sentence(told)}"
    return figure


def _short(count: float) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,.0f}"


# ---------------------------------------------------------------- attention


@styled
def attention_maps(weights: Any, tokens: Sequence[str], names: Sequence[str] | None = None) -> Figure:
    """One square a head: row, the token that looks; column, the token that is looked at; the darker, the more.

    Args:
        weights: (L, H, T, T) for a grid of layers and heads, or (H, T, T) for a single row; every row adds up to 1.
        tokens: the T tokens.
        names: of the layers; by default "layer 1" …

    Raises:
        ValueError: shapes that do not fit, more than 16 maps, or rows that do not add up to 1.
    """
    maps = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=float)
    maps = maps[None] if maps.ndim == 3 else maps
    if maps.ndim != 4 or maps.shape[2:] != (len(tokens),) * 2 or not 0 < maps.shape[0] * maps.shape[1] <= MOST_MAPS:
        raise ValueError(
            f"attention_maps takes at most {MOST_MAPS} maps (L, H, T, T) for T tokens; got {maps.shape} for "
            f"{len(tokens)} tokens"
        )
    if not np.allclose(maps.sum(axis=-1), 1, atol=1e-3):
        raise ValueError("every row of an attention map adds up to 1; these do not")
    layers, heads, size = maps.shape[:3]
    names = [f"layer {i + 1}" for i in range(layers)] if names is None else list(names)
    figure, cells = panels(heads, layers, width=7.4, height=0.9 + 1.62 * layers)
    for i, axes in enumerate(cells):
        layer, head = divmod(i, heads)
        axes.imshow(maps[layer, head], vmin=0, vmax=1, cmap="Blues", aspect="equal")
        axes.grid(visible=False)
        axes.set_xticks(range(size), tokens if layer == layers - 1 else [], rotation=90, fontsize=8)
        axes.set_yticks(range(size), tokens if head == 0 else [], fontsize=8)
        axes.tick_params(length=0)
        axes.set_title(f"{names[layer]}, head {head + 1}", fontsize=9.5)
    told = []
    for layer in range(layers):
        favorites = [tokens[int(k)] for k in maps[layer].mean(axis=1).argmax(axis=-1)]
        told.append(f"{names[layer]}: most looked at, head by head: {', '.join(favorites)}")
    figure.alt = f"Attention maps of {layers} × {heads} heads over: {' '.join(tokens)}. {sentence(told)}"
    return figure
