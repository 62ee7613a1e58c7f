"""What makes a notebook a lesson: predictions before results, questions with feedback, and the check of the set-up.

Nothing here blocks 'Run all': an open question is just left open. What the reader commits goes to `lesson_log`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peft_helpers import cards, lesson_log, question_bank
from peft_helpers.cards import Card
from peft_helpers.question_bank import Question
from peft_helpers.setup_check import SetupReport, check_setup

__all__ = [
    "Card", "SetupReport", "ask", "check_setup", "commit", "diagnose", "outcome", "predict", "retrieval", "tally",
]  # fmt: skip

CONFIDENCES = {50: "50 % · a guess", 70: "70 % · fairly sure", 90: "90 % · sure"}
_options: dict[str, tuple[str, ...]] = {}  # prediction key -> its options, as asked in this session
_on_commit: dict[str, list[Callable[[], None]]] = {}  # prediction key -> cards that change when it is committed


# ---------------------------------------------------------------- predict, then measure


def predict(key: str, question: str, options: Sequence[str]) -> Card:
    """Ask for a prediction: radio buttons, a confidence, and a button that commits. The first commit counts.

    Args:
        key: names the prediction in the log, such as "03-first-step".
        question: in simple Markdown (`code`, **bold**, *emphasis*).
        options: at least two different answers, in the same Markdown.

    Raises:
        ValueError: on an empty key or question, or fewer than two different options.
    """
    import ipywidgets as W

    options = _checked(key, question, options)
    _options[key] = options
    choice = cards.radio(options)
    confidence = W.ToggleButtons(
        options=[(label, share) for share, label in CONFIDENCES.items()],
        value=70,
        style={"button_width": "150px"},
    )
    button, feedback = W.Button(description="Commit", button_style="primary"), cards.paragraph()

    def show_committed() -> None:
        entry = lesson_log.first("prediction", key)
        if entry is None:
            return
        if entry["answer"] in options:
            choice.value = entry["answer"]
        if entry["confidence"] in CONFIDENCES:
            confidence.value = entry["confidence"]
        choice.disabled = confidence.disabled = button.disabled = True
        kept = "" if lesson_log.is_saved(entry) else " (The log can't be written here; it lasts this session.)"
        cards.say(feedback, f"Committed: **{entry['answer']}**, {entry['confidence']} % sure. Now measure it.{kept}")

    def on_click(_: W.Button) -> None:
        if choice.value is None:
            cards.say(feedback, "Choose one of the options first: a guess is fine, that is what 50 % is for.")
        else:
            commit(key, choice.value, confidence.value)

    button.on_click(on_click)
    _on_commit.setdefault(key, []).append(show_committed)
    show_committed()
    asked = f"**Predict.** {question}"
    sure = cards.paragraph("How sure are you?")
    widget = cards.box([cards.paragraph(asked), choice, sure, confidence, button, feedback], "predict")
    text = f"Predict: {cards.as_plain(question)}\n{cards.list_options(options)}"
    return Card(text, "\n".join([asked, "", *(f"- ○ {option}" for option in options)]), widget)


def commit(key: str, answer: str, confidence: int = 70) -> None:
    """Commit a prediction without the mouse: `lesson.commit("03-first-step", "about 3 η", 70)`.

    Raises:
        ValueError: the confidence is not 50, 70 or 90, or the answer is none of the options asked in this session.
    """
    if confidence not in CONFIDENCES:
        raise ValueError(f"the confidence is {', '.join(map(str, CONFIDENCES))} (percent); got {confidence!r}")
    _require_option(key, answer)
    if lesson_log.first("prediction", key) is None:
        late = lesson_log.first("outcome", key) is not None
        lesson_log.append("prediction", key, answer=answer, confidence=confidence, late=late)
    for show in _on_commit.get(key, []):
        show()


def outcome(key: str, answer: str) -> Card:
    """Say what was measured, and what the reader had predicted. Committing later still updates what is shown.

    Args:
        key: the prediction's key.
        answer: the option that the measurement turned out to be.

    Raises:
        ValueError: `answer` is none of the options that `predict` offered in this session.
    """
    _require_option(key, answer)
    earlier = lesson_log.entries("outcome", key)
    if not earlier or earlier[-1].get("answer") != answer:
        lesson_log.append("outcome", key, answer=answer)
    place = cards.paragraph()

    def verdict() -> str:
        entry = lesson_log.first("prediction", key)
        if entry is None:
            return f"**Measured: {answer}.** You did not commit a prediction."
        if entry["answer"] == answer:
            return f"**Measured: {answer}.** ✓ As you predicted, {entry['confidence']} % sure."
        return (
            f"**Measured: {answer}.** ✗ You predicted *{entry['answer']}*, {entry['confidence']} % sure. "
            "What did you assume that is not so?"
        )

    def show() -> None:
        cards.say(place, verdict())

    show()
    _on_commit.setdefault(key, []).append(show)
    return Card(cards.as_plain(verdict()), verdict(), cards.box([place], "outcome"))


def tally() -> Card:
    """How many predictions came true, how that fits the confidence, and the questions right at the first try."""
    committed, late, right = [], 0, {share: [0, 0] for share in CONFIDENCES}
    for key in dict.fromkeys(entry["key"] for entry in lesson_log.entries("prediction")):
        entry, measured = lesson_log.first("prediction", key), lesson_log.entries("outcome", key)
        committed.append(key)
        if entry.get("late"):
            late += 1
        elif measured and entry.get("confidence") in right:
            right[entry["confidence"]][0] += entry["answer"] == measured[-1]["answer"]
            right[entry["confidence"]][1] += 1
    hits, counted = (sum(counts[i] for counts in right.values()) for i in (0, 1))
    lines = [f"**Predictions:** {len(committed)} committed, {hits} of {counted} measured ones came true."]
    if late:
        lines.append(f"{late} more came after the result was shown; they don't count.")
    for share, (true, all_) in right.items():
        if all_:
            lines.append(f"{share} % sure: {true} of {all_} true ({true / all_:.0%}).")
    firsts = {entry["key"]: entry for entry in reversed(lesson_log.entries("answer"))}
    if firsts:
        good = sum(bool(entry.get("right")) for entry in firsts.values())
        lines.append(f"**Questions:** {good} of {len(firsts)} right at the first try.")
    if not committed and not firsts:
        lines = ["Nothing committed yet."]
    return Card("\n".join(map(cards.as_plain, lines)), "\n\n".join(lines))


# ---------------------------------------------------------------- questions from the bank


def ask(question_id: str) -> Card:
    """A multiple-choice question with feedback on every option; try again as often as you like.

    Raises:
        ValueError: there is no such question.
    """
    question = question_bank.find(question_id)
    return Card(_as_text(question), _as_markdown(question), _question_widget(question))


def retrieval(number: str) -> Card:
    """The three questions about earlier lessons that lesson `number` ("03") opens with.

    Raises:
        ValueError: there are no questions for that lesson.
    """
    asked = [q for q in question_bank.of_lesson(number).values() if q.kind == "retrieval"]
    widget = cards.box([_question_widget(q) for q in asked], "retrieval")
    return Card("\n\n".join(map(_as_text, asked)), "\n\n".join(map(_as_markdown, asked)), widget)


def diagnose(question_id: str) -> Card:
    """What is wrong with this run? The plot is beside it; choose the cause.

    Raises:
        ValueError: there is no such question, or it is none of the diagnoses.
    """
    question = question_bank.find(question_id)
    if question.kind != "diagnose":
        raise ValueError(f"{question_id!r} is a {question.kind} question; show it with lesson.ask")
    return ask(question_id)


def _question_widget(question: Question):
    import ipywidgets as W

    choice = cards.radio([option.text for option in question.options])
    button, feedback = W.Button(description="Check"), cards.paragraph()

    def on_click(_: W.Button) -> None:
        option = next((o for o in question.options if o.text == choice.value), None)
        if option is None:
            cards.say(feedback, "Choose one of the options first.")
            return
        lesson_log.append("answer", question.id, answer=option.text, right=option.right)
        cards.say(feedback, ("✓ **Right.** " if option.right else "✗ **No.** ") + option.why)

    button.on_click(on_click)
    return cards.box([cards.paragraph(question.text), choice, button, feedback], "question")


def _as_text(question: Question) -> str:
    return f"{cards.as_plain(question.text)}\n{cards.list_options([option.text for option in question.options])}"


def _as_markdown(question: Question) -> str:
    """The question with its answers folded, for pages that can't run a widget."""
    options = [f"- ○ {option.text}" for option in question.options]
    answers = [f"- {'✓' if option.right else '✗'} {option.text}: {option.why}" for option in question.options]
    folded = ["<details><summary>Answers</summary>", "", *answers, "", "</details>"]
    return "\n".join([question.text, "", *options, "", *folded])


# ---------------------------------------------------------------- input checks


def _checked(key: str, question: str, options: Sequence[str]) -> tuple[str, ...]:
    for name, value in (("key", key), ("question", question)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the prediction's {name} must be a text that is not empty; got {value!r}")
    if isinstance(options, str) or not all(isinstance(option, str) and option.strip() for option in options):
        raise ValueError(f"the options must be a list of texts; got {options!r}")
    if len({cards.as_plain(option) for option in options}) < max(2, len(options)):
        raise ValueError(f"a prediction needs at least two options, all different; got {list(options)}")
    return tuple(options)


def _require_option(key: str, answer: str) -> None:
    if key in _options and answer not in _options[key]:
        raise ValueError(f"{answer!r} is none of the options of {key!r}: {', '.join(map(repr, _options[key]))}")
