"""What a scan of images says at its end: what was assumed, what was left out and why, and what to do about it.

tally = Tally()
tally.add("train", None, None)      # an image without a defect
tally.add("test", "blank", 12)      # one that is left out; its 16-bit values use 12 bits
tally.tell(left_out, bits=16)       # as lines of the log "dissectdb"
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from extract.defects import AVIF
from extract.folders import ENDING, OUTSIDE
from extract.texts import one_line

log = logging.getLogger("dissectdb")
SHOWN_DETAILS = 5  # endings, or folders, that a reason is followed by


class Tally:
    """Counts of a scan. sound: images without a defect in each split; bits: of the 16-bit images."""

    def __init__(self) -> None:
        self.sound: Counter[str] = Counter()
        self.defects: Counter[str] = Counter()
        self.bits: Counter[int] = Counter()

    def add(self, split: str, defect: str | None, bits: int | None) -> None:
        """Count an image."""
        if defect is None:
            self.sound[split] += 1
        else:
            kind = defect.partition(" ")[0].rstrip(":")
            self.defects["repeats" if kind == "repeat" else kind] += 1
        if bits is not None:
            self.bits[bits] += 1

    def tell(self, left_out: Mapping[tuple[str, str], int], bits: int) -> None:
        """Log what was left out. left_out: (reason, detail) → files; bits: those that 16-bit values are read as."""
        reasons = [f"{kind} {count:,}" for kind, count in sorted(self.defects.items())] + _reasons(left_out)
        if reasons:
            log.info(f"left out: {', '.join(reasons)}")
        if self.bits and max(self.bits) < bits:
            log.warning(
                f"16-bit images whose values use at most {max(self.bits)} bits: {self.bits.total():,}; they are too "
                f"dark when read as {bits} bits; set dataset.bits = {max(self.bits)} if that is their range"
            )
        if not AVIF and (count := left_out.get((ENDING, ".avif"))):
            log.warning(
                f"AVIF images left out: {count:,}; this Pillow does not read them; install pillow 11.3 or newer"
            )
        for (reason, folder), count in sorted(left_out.items()):
            if reason == OUTSIDE:
                log.warning(
                    f"images of {one_line(folder)} in no class folder, left out: {count:,}; put them into a folder for "
                    "each class, or give images without classes a study of their own"
                )


def _reasons(left_out: Mapping[tuple[str, str], int]) -> list[str]:
    """Files by reason, with the commonest details: "another ending 102 (.txt 100, .mp4 2)"."""
    by_reason: dict[str, list[tuple[str, int]]] = {}
    for (reason, detail), count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        by_reason.setdefault(reason, []).append((detail, count))
    reasons = []
    for reason, details in by_reason.items():
        shown = [f"{one_line(detail, 60)} {count:,}" for detail, count in details[:SHOWN_DETAILS] if detail]
        shown += ["…"] if len(details) > SHOWN_DETAILS else []
        name = "another ending" if reason == ENDING else reason
        reasons.append(f"{name} {sum(count for _, count in details):,}" + (f" ({', '.join(shown)})" if shown else ""))
    return reasons
