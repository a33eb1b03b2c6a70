"""Which version of a prompt is live, or how it is split, and what was before: `live.toml`."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rotina.errors import PromptError

FILE = "live.toml"
KEPT = 50
"""Earlier states that are remembered."""

Version = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
State = Version | dict[Version, Weight]
"""A version, or the weights of some."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    live: Version | None = None
    split: dict[Version, Weight] | None = Field(default=None, min_length=1)
    previous: list[State] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_one_thing(self) -> "_File":
        if (self.live is None) == (self.split is None):
            raise ValueError("must have either live or split")
        return self


@dataclass(frozen=True)
class Live:
    """What is live now, and what was before, the latest last."""

    now: State
    previous: tuple[State, ...] = ()

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> "Live":
        """From a parsed file. Raises `PromptError`."""
        try:
            found = _File.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in problem["loc"][:1])
            told = problem["msg"].removeprefix("Value error, ")
            raise PromptError(
                f'{where} {key}: {told}; write live = "v2" or split = {{ v1 = 90, v2 = 10 }}'
            ) from None
        now: State | None = found.live if found.split is None else found.split
        assert now is not None, "checked"
        return cls(now, tuple(found.previous))

    @property
    def weights(self) -> dict[str, float]:
        """Each live version's weight, in the order of the file."""
        return {self.now: 1.0} if isinstance(self.now, str) else dict(self.now)

    def changed(self, now: State) -> "Live":
        """Another state; this one is remembered."""
        return self if now == self.now else Live(now, (*self.previous, self.now)[-KEPT:])

    def rolled_back(self, name: str) -> "Live":
        """The state before this one. Raises `PromptError` where there was none."""
        if not self.previous:
            raise PromptError(
                f"Prompt {name!r} has no earlier state to go back to: `rotina prompts use {name} "
                "VERSION` makes a version live"
            )
        return Live(self.previous[-1], self.previous[:-1])

    def choose(self, name: str, key: str | None) -> str:
        """The version for a key: the same one for the same key, as often as its weight says.

        When weights change, only keys of the share that moves see another version. Raises
        `PromptError` for a split without a key.
        """
        if isinstance(self.now, str):
            return self.now
        if key is None:
            raise PromptError(
                f"Prompt {name!r} is split between {', '.join(self.now)}: give a key (of the "
                "thread, run or customer), so that the same one sees the same version"
            )
        digest = hashlib.blake2b(f"{name}\0{key}".encode(errors="replace"), digest_size=8)
        left = int.from_bytes(digest.digest()) / 2**64 * sum(self.now.values())
        for version, weight in self.now.items():
            left -= weight
            if left < 0:
                return version
        return list(self.now)[-1]  # a rounding's breadth

    def write(self, folder: Path) -> None:
        """Put it in place at once: a reader sees the old file or the new one."""
        split = not isinstance(self.now, str)
        lines = [f"{'split' if split else 'live'} = {_toml(self.now)}"]
        lines += ["previous = [", *(f"    {_toml(one)}," for one in self.previous), "]"]
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(folder / FILE)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def shown(state: State) -> str:
    """`v2`, or `v1 90, v2 10`."""
    if isinstance(state, str):
        return state
    return ", ".join(f"{version} {weight:g}" for version, weight in state.items())


def _toml(state: State) -> str:
    # Names are of letters, digits, _ and -, which TOML takes as they are.
    if isinstance(state, str):
        return f'"{state}"'
    return "{ " + ", ".join(f"{name} = {_number(one)}" for name, one in state.items()) + " }"


def _number(weight: float) -> str:
    return repr(int(weight) if weight == int(weight) else float(weight))
