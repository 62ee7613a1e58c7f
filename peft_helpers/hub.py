"""Local copies first, then the Hugging Face Hub; and when the Hub can't help, an error that says why and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def local_copy(variable: str, name: str) -> Path | None:
    """The folder that stands for `name`: a path as it is, or `$variable/name` ("/" in a Hub name may be "--" there).

    Args:
        variable: "PEFT_MODELS" or "PEFT_DATA".
        name: a registered name, a Hub name or a path.

    Raises:
        ValueError: if the environment variable is set but points to no folder.
    """
    if Path(name).is_dir():
        return Path(name)
    root = os.environ.get(variable)
    if not root:
        return None
    if not Path(root).is_dir():
        raise ValueError(f"{variable} is set to {root!r}, which is no folder; correct it or unset it")
    for spelling in (name, name.replace("/", "--"), name.rsplit("/", 1)[-1]):
        if (Path(root) / spelling).is_dir():
            return Path(root) / spelling
    return None


def check_reachable(name: str, kind: str) -> None:
    """One short question before the many of a download: is there such a repository, and does the Hub answer at all?

    Without it, a silent Hub would be waited for once a file. What is in the local cache already is not asked for.

    Args:
        name: the repository's name on the Hub.
        kind: "model" or "dataset".

    Raises:
        Exception: whatever huggingface_hub raises; `explain` puts it into words.
    """
    import huggingface_hub
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE) / constants.REPO_ID_SEPARATOR.join([f"{kind}s", *name.split("/")])
    if cached.is_dir() or Path(name).is_dir():
        return
    huggingface_hub.HfApi().repo_info(name, repo_type=kind, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def explain(error: BaseException, what: str, name: str, variable: str, known: list[str]) -> Exception:
    """Turn what transformers or datasets raised into one of two errors that name the cause and the way out.

    Returns:
        ValueError if the Hub answered that there is no such thing, ConnectionError if it could not be asked.
    """
    causes = list(_chain(error))
    names = {cls.__name__ for cause in causes for cls in type(cause).__mro__}
    folder = f"${variable}/{name.replace('/', '--')}"
    ways_out = f"Use the pocket profile (PEFT_PROFILE=pocket), or put a local copy into {folder}."
    if names & {
        "RepositoryNotFoundError",
        "HFValidationError",
        "DatasetNotFoundError",
        "RevisionNotFoundError",
    } and not (names & {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectError", "TimeoutException"}):
        return ValueError(
            f"the Hugging Face Hub has no {what} {name!r} that you may read. Is it spelled right? "
            f"{what.capitalize()}s that the course knows: {', '.join(known)}."
        )
    if "OfflineModeIsEnabled" in names or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        cause = "the Hub may not be asked (HF_HUB_OFFLINE is set)"
    elif any("Timeout" in n for n in names):
        cause = "the Hub did not answer in time"
    else:
        last = str(causes[-1]).strip().splitlines()
        answer = f"{type(causes[-1]).__name__}: {last[0][:200] if last else ''}"
        cause = f"the Hub can't be reached or answers with an error ({answer})"
    return ConnectionError(
        f"the {what} {name!r} is not on this machine, and {cause}. {ways_out} Known {what}s: {', '.join(known)}."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
