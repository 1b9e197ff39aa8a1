"""submitit's Slurm executor with a command of ours: no pickle is written, and no Slurm is needed to write a script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Base = Any
else:
    from submitit import SlurmExecutor as Base


class ArrayExecutor(Base):  # type: ignore[misc]
    """Writes the script of an array, or of a single job, whose command is the text that it is given."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, python="python3")

    @classmethod
    def affinity(cls) -> int:
        """Say that it can be used: a laptop writes scripts that are submitted elsewhere."""
        return 2

    def script(self, command: str, tasks: int | None) -> str:
        """Return the script of an array of so many tasks; None is a single job."""
        if tasks is not None:
            self.parameters["map_count"] = tasks
        return str(self._make_submission_file_text(command, "")) + "\n"

    def _make_submission_command(self, submission_file_path: Path, *further: str) -> list[str]:
        return ["sbatch", "--parsable", *further, str(submission_file_path)]
