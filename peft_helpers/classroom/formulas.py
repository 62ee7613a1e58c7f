"""Formulas as pictures, so that a page needs no network: LaTeX -> SVG, by Matplotlib's own small TeX."""

from __future__ import annotations

import base64
import functools
import html
import io
import re

SIZE = 40.0  # points; the picture is scaled to the text around it, and Matplotlib rounds to whole points


def spelled_out(latex: str) -> str:
    r"""LaTeX in the words that Matplotlib knows: \tfrac12 -> \frac{1}{2}, \sqrt d -> \sqrt{d}, \big( -> (."""
    text, group = " ".join(latex.split()), r"\{((?:[^{}]|\{[^{}]*\})*)\}"
    text = re.sub(rf"\\underbrace{group}_{group}", r"\\underset{\2}{\1}", text)
    text = re.sub(r"\\tfrac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\(d?frac)([0-9])([0-9A-Za-z]|\\[a-zA-Z]+)", r"\\\1{\2}{\3}", text)
    text = re.sub(r"\\(d?frac)([0-9])\{", r"\\\1{\2}{", text)
    text = re.sub(r"\\sqrt\s*([A-Za-z0-9]|\\[a-zA-Z]+)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\([lg])e(?![a-zA-Z])", r"\\\1eq", text)
    text = re.sub(r"\\[lr]Vert(?![a-zA-Z])", r"\\|", text)
    text = re.sub(r"\\[lr]vert(?![a-zA-Z])", "|", text)
    return re.sub(r"\\[bB]ig[lr]?(?![a-zA-Z])", "", text)


@functools.cache
def picture(latex: str, display: bool = False) -> str:
    """An `<img>` of a formula, scaled to the text around it; the LaTeX itself where Matplotlib can't set it.

    Args:
        display: the formula stands on a line of its own: its fractions are as large as the text.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser, math_to_image

    plain = re.sub(r"\\frac(?![a-zA-Z])", r"\\dfrac", latex) if display else latex
    formula, buffer = f"${spelled_out(plain)}$", io.BytesIO()
    font = FontProperties(size=SIZE)
    try:
        _, height, depth, *_ = MathTextParser("path").parse(formula, dpi=72, prop=font)
        math_to_image(formula, buffer, prop=font, dpi=72, format="svg")
    except ValueError:
        return f"<code>{html.escape(latex)}</code>"
    data = base64.b64encode(buffer.getvalue()).decode()
    style = f"height:{height / SIZE:.2f}em;vertical-align:{-depth / SIZE:.2f}em"
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(latex)}" style="{style}">'
