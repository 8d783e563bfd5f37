"""Log, after a scan of images, what was left out, why, and what the user can do.

tally = Tally()
tally.add(Origin(0, "a/1.png", "train", "a"), None, None)    # an image without a defect
tally.add(Origin(1, "a/2.png", "train", "a"), "blank", 12)   # one that is left out; its 16-bit values use 12 bits
tally.tell(left_out, bits=16)                                # as lines of the log "dissectdb"
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from dissectdb.extract.images.decoding import AVIF
from dissectdb.extract.images.folders import ENDING, OUTSIDE
from dissectdb.extract.images.repeats import Origin
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.text_files import one_line

log = logging.getLogger("dissectdb")
SHOWN_DETAILS = 5  # endings or folders that are listed for a reason


class Tally:
    """Counts of a scan.

    sound: images without a defect, per split. bits: used bits → number of 16-bit images. defects: (split, kind, the
    split of a repeat's original) → images. conflicts: the number of repeats with another class than their original;
    conflict: the first of them with its original. splits_of: group → the splits of its images without a defect.
    """

    def __init__(self) -> None:
        self.sound: Counter[str] = Counter()
        self.defects: Counter[tuple[str, str, str | None]] = Counter()
        self.bits: Counter[int] = Counter()
        self.conflicts = 0
        self.conflict: tuple[Origin, Origin] | None = None
        self.splits_of: dict[str, set[str]] = {}

    def add(
        self, image: Origin, defect: str | None, bits: int | None, first: Origin | None = None, group: str | None = None
    ) -> None:
        """Count an image. first: the image that it repeats."""
        if defect is None:
            self.sound[image.split] += 1
            if group is not None:
                self.splits_of.setdefault(group, set()).add(image.split)
        elif first is None:
            self.defects[image.split, defect.partition(" ")[0].rstrip(":"), None] += 1
        else:
            self.defects[image.split, "repeats", first.split] += 1
            if image.class_name != first.class_name:
                self.conflicts += 1
                self.conflict = self.conflict or (image, first)
        if bits is not None:
            self.bits[bits] += 1

    def tell(self, left_out: Mapping[tuple[str, str], int], bits: int) -> None:
        """Log what was left out. left_out: (reason, detail) → files. bits: what 16-bit values are read with."""
        if reasons := self._defects() + _reasons(left_out):
            log.info(f"left out: {', '.join(reasons)}")
        self._warn_of_repeats()
        if groups := sorted(group for group, splits in self.splits_of.items() if len(splits) > 1):
            log.warning(
                f"groups with images in several splits: {len(groups):,}: {few(groups)}; what is chosen on one split is "
                "then judged on images of the same groups; give all images of a group one split"
            )
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
                    "each class, list their classes in a file (dataset.labels), or give images without classes a study "
                    "of their own"
                )

    def _defects(self) -> list[str]:
        """Images by defect, with repeats across splits: "repeats 10 (8 of test repeat train)"."""
        kinds: Counter[str] = Counter()
        across: dict[str, list[str]] = {}
        for (split, kind, first), count in sorted(self.defects.items(), key=str):
            kinds[kind] += count
            if first not in (None, split):
                across.setdefault(kind, []).append(f"{count:,} of {split} repeat {first}")
        return [
            f"{kind} {count:,}" + (f" ({', '.join(across[kind])})" if kind in across else "")
            for kind, count in sorted(kinds.items())
        ]

    def _warn_of_repeats(self) -> None:
        """Warn of splits that have no image left, and of repeats whose classes differ."""
        reasons: dict[str, list[str]] = {}
        for (split, kind, first), count in sorted(self.defects.items(), key=str):
            what = kind if first is None else f"repeat images of {first}"
            reasons.setdefault(split, []).append(f"{count:,} {what}")
        for split, counts in reasons.items():
            if not self.sound[split]:
                log.warning(f"split {split} has no image left: {', '.join(counts)}")
        if self.conflict:
            image, original = self.conflict
            log.warning(
                f"images that repeat an image of another class, left out: {self.conflicts:,}; the class of the first "
                f"image counts, right or not; {image} repeats {original}"
            )


def _reasons(left_out: Mapping[tuple[str, str], int]) -> list[str]:
    """Files by reason, with the most frequent details: "another ending 102 (.txt 100, .mp4 2)"."""
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
