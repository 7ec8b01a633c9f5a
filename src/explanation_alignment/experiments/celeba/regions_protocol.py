"""The numbers of the ranking of a face's regions: which images are drawn, and what the models are asked.

No reported numbers of it are known to us, and the published pointing game counted the last batch alone: nothing stands
beside ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.experiments.celeba.protocol import COMMON, GROUPS, Group

__all__ = [
    "NAME",
    "PUBLISHED_PER_GROUP",
    "REGIONS_TOY",
    "TEST_SETS",
    "Images",
    "KeptOut",
    "RegionsProtocol",
    "kind_of_test",
]

#: The experiment's name in run.json.
NAME: Final = "celeba-regions"
#: Unbiased test images of each group in the study; its biased ones were 2,000 of a common group and 500 of a rare one.
PUBLISHED_PER_GROUP: Final = 2000
#: The kinds of test images, as the names of the run's datasets end.
TEST_SETS: Final = ("unbiased", "biased")

Images: TypeAlias = Literal["hq", "aligned"]


@dataclass(frozen=True, slots=True)
class RegionsProtocol:
    """Every number of the experiment; the defaults are the published protocol, but for the persons kept out.

    Args:
        test_per_group: unbiased test images of each of the four groups, and biased ones of each common group. None for
            the published 2,000, or as many as the smallest group has where that is fewer.
        rare_share: biased test images of a rare group, as a share of those of a common one.
        draw_seed: decides which images are drawn.
        images: ``"hq"``, the pictures the masks were drawn on; ``"aligned"``, CelebA's aligned pictures of the same
            persons with the masks laid on their centre, about 10 px off, as the study did.
        keep_training_identities: draw also from images of persons the models were trained on, as the study did.

    Raises:
        UsageError: for a number out of range.
        UnknownNameError: for another kind of images.
    """

    test_per_group: int | None = None
    rare_share: float = 0.25
    draw_seed: int = 0
    images: Images = "hq"
    keep_training_identities: bool = False

    def __post_init__(self) -> None:
        if self.test_per_group is not None and self.test_per_group < 1:
            raise UsageError(f"test_per_group: expected at least 1, got {self.test_per_group}")
        if not 0 < self.rare_share <= 1:
            raise UsageError(f"rare_share: expected more than 0, up to 1, got {self.rare_share}")
        if self.draw_seed < 0:
            raise UsageError(f"draw_seed: expected at least 0, got {self.draw_seed}")
        if self.images not in ("hq", "aligned"):
            raise UnknownNameError("kind of images", str(self.images), ("hq", "aligned"))

    def test_counts(self, test_set: str, per_group: int) -> dict[Group, int]:
        """Test images of each group.

        Args:
            test_set: ``"unbiased"`` or ``"biased"``.
            per_group: of each group, or of each common one.

        Raises:
            UnknownNameError: for another test set.
        """
        if test_set not in TEST_SETS:
            raise UnknownNameError("test set of this experiment", test_set, TEST_SETS)
        rare = per_group if test_set == "unbiased" else max(1, round(per_group * self.rare_share))
        return {group: per_group if group in COMMON else rare for group in GROUPS}


#: For generated faces: as many as a stand-in of CelebAMask-HQ holds that suffices for the first experiment's hair.
REGIONS_TOY: Final = RegionsProtocol(test_per_group=80)


@dataclass(frozen=True, slots=True)
class KeptOut:
    """What of CelebAMask-HQ is not among the images that test images are drawn from.

    Args:
        rule: ``"persons"``, images of every person in the training images; ``"training partition"``, all images of
            CelebA's training partition, where no list of persons is there (no person is in two partitions);
            ``"nothing"``, as published; ``"unknown"``, where the models were trained elsewhere.
        images: how many of black or blond hair are left out.
        left: how many of black or blond hair are not.
        persons: in the training images; None where it is not known.
    """

    rule: str
    images: int
    left: int
    persons: int | None = None

    def sentence(self) -> str:
        """What was kept out, in words."""
        images = f"{self.images:,} image{'' if self.images == 1 else 's'} of black or blond hair"
        if self.rule == "persons":
            return (
                f"Kept out of the test images: {images} that show one of the {self.persons:,} persons the models were "
                f"trained on; {self.left:,} were left to draw from."
            )
        if self.rule == "training partition":
            return (
                f"Kept out of the test images: {images} of the training partition, since there is no list of persons; "
                f"{self.left:,} were left to draw from."
            )
        if self.rule == "nothing":
            return (
                "Nothing was kept out of the test images, as published: they may show persons, and be images, that the "
                "models were trained on."
            )
        return "What the models were trained on is not known here: nothing was kept out of the test images."


def kind_of_test(dataset: str) -> str:
    """Which kind of test images a dataset of the run is, by its name."""
    return dataset.rpartition("-")[2]
