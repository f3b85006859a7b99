"""What a toy stage does on demand besides its work."""

import os
import signal
import time
from pathlib import Path

from exporters.protocol import NOT_VERIFIED, StageError, Step, report_progress


def behave(step: Step) -> None:
    """Sleep, die or fail, where the model's settings ask this stage to."""
    report_progress(0.5, f"working on {step.step}")
    wanted = str(step.params.get("behave", "well"))
    if wanted == "sleep" and step.stage == "export":
        Path(step.out.parent / "started").touch()
        time.sleep(60)
    if wanted == "die" and step.stage == "export":
        os.kill(os.getpid(), signal.SIGKILL)
    if wanted == "differ" and step.stage == "export":
        raise StageError("words differ", "they were asked to", "nothing", exit_code=NOT_VERIFIED)
