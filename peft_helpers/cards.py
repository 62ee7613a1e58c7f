"""What the lesson's functions show: a widget where widgets work, else the same in text.

GitHub, a printed page and a plain terminal have no widgets. A `Card` therefore always carries its question and options
as text too, and the notebook's viewer takes the richest form that it can show.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ipywidgets

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Radio buttons have a fixed height by default, so that a long option would be printed over the next one.
STYLE = """<style>
.pf-card .widget-radio-box label {height: auto; min-height: 24px; line-height: 1.4; white-space: normal; margin: 2px 0;
  display: grid; grid-template-columns: 22px 1fr; align-items: start; text-align: left}
.pf-card .widget-radio-box label input {grid-column: 1; grid-row: 1; margin: 1px 6px 0 1px}
.pf-card .widget-html-content {line-height: 1.45; white-space: normal}
.pf-card .widget-html-content p {margin: 4px 0}
</style>"""


@dataclass(frozen=True)
class Card:
    """A thing to show in a notebook.

    Attributes:
        text: the whole of it for a terminal.
        markdown: the same for a page without widgets.
        widget: the same alive, or None.
    """

    text: str
    markdown: str
    widget: ipywidgets.DOMWidget | None = None

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """All forms at once, as IPython asks for them."""
        bundle: dict[str, Any] = {"text/plain": self.text, "text/markdown": self.markdown}
        if self.widget is not None:
            bundle[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return bundle


def as_html(markdown: str) -> str:
    """Paragraphs, `code`, **bold** and *emphasis* as HTML; everything else is escaped."""
    pieces = re.split(r"(`[^`]+`)", html.escape(markdown.strip(), quote=False))
    for i, piece in enumerate(pieces):
        if i % 2:
            pieces[i] = f"<code>{piece[1:-1]}</code>"
        else:
            piece = re.sub(r"\*\*(\S(?:.*?\S)?)\*\*", r"<b>\1</b>", piece)
            pieces[i] = re.sub(r"(?<!\w)\*(\S(?:.*?\S)?)\*(?!\w)", r"<em>\1</em>", piece)
    return "".join(f"<p>{paragraph}</p>" for paragraph in re.split(r"\n\s*\n", "".join(pieces)))


def as_plain(markdown: str) -> str:
    """The same text without marks."""
    text = markdown.strip().replace("`", "").replace("**", "")
    return re.sub(r"(?<!\w)\*(\S(?:.*?\S)?)\*(?!\w)", r"\1", text)


def list_options(options: Sequence[str]) -> str:
    """Options as indented lines of text, one circle each."""
    return "\n".join(f"  ○ {as_plain(option)}" for option in options)


# ---------------------------------------------------------------- the few widgets that cards are made of


def paragraph(markdown: str = "") -> ipywidgets.HTML:
    """A piece of text in a card."""
    import ipywidgets

    return ipywidgets.HTML(value=STYLE + as_html(markdown))


def say(place: ipywidgets.HTML, markdown: str) -> None:
    """Put feedback into `place`; screen readers read it out."""
    place.value = f'{STYLE}<div role="status" aria-live="polite">{as_html(markdown)}</div>'


def radio(options: Sequence[str]) -> ipywidgets.RadioButtons:
    """One radio button an option, none chosen; the value is the option as the author wrote it."""
    import ipywidgets

    pairs = [(as_plain(option), option) for option in options]
    return ipywidgets.RadioButtons(options=pairs, value=None, layout=ipywidgets.Layout(width="auto"))


def box(children: Sequence[ipywidgets.DOMWidget], name: str) -> ipywidgets.VBox:
    """A column of widgets, with the CSS classes `pf-card` and `pf-<name>`."""
    import ipywidgets

    made = ipywidgets.VBox(list(children), layout=ipywidgets.Layout(max_width="760px", margin="4px 0 12px 0"))
    made.add_class("pf-card")
    made.add_class(f"pf-{name}")
    return made
