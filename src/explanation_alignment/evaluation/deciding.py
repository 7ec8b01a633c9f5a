"""Decides, explains and scores batches: where classifier, saliency methods and metrics meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from explanation_alignment.batches import Batch
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.evaluation.fitting import label_without_output
from explanation_alignment.evaluation.reading import Reading
from explanation_alignment.interventions import elsewhere, exchanged, partners
from explanation_alignment.metrics.scoring import MapScores, score_maps
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.saliency.single_pass import PassResult

__all__ = ["Decider", "Scored", "undecided_among_errors"]

_OK, _ERROR = STATUSES.index("ok"), STATUSES.index("error")
_UNDECIDED: Final = "its outputs make no finite probabilities (NaN or infinite)"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a batch came to, for M methods, R regions and B samples; no map is kept."""

    ids: Sequence[str]
    labels: torch.Tensor  # (B,) int64, -1 for none
    given: torch.Tensor  # (R, B) int64, the annotations' status
    errors: Mapping[int, str]
    size: tuple[int, int]
    decisions: torch.Tensor  # (2, B) int64: prediction, rank of the label
    confidence: torch.Tensor  # (B,) float32
    scores: Sequence[MapScores]  # M
    flips: torch.Tensor  # (2, R, B) float32: by the region's exchange, by one elsewhere; NaN where not tried


@dataclass(frozen=True, slots=True)
class Decider:
    """Explains and scores samples.

    Args:
        classifier: whose decisions.
        reading: of which samples.
        explainer: by which methods, entered.
        requests: the same methods, in the explainer's order.
        metrics: names of alignment metrics.
        target: the explained class, as asked.
        seed: decides partners and places of interventions.
        labels: of the whole dataset; None unless the evaluation intervenes.
        accepted: for every sample of the dataset the classes of which any is a correct prediction; None where it is the
            label alone.
        keep: called with every batch and what its pass gave.
    """

    classifier: Classifier
    reading: Reading
    explainer: Explainer
    requests: Sequence[MethodRequest]
    metrics: Sequence[str]
    target: str
    seed: int
    labels: Sequence[int | None] | None
    accepted: Sequence[Sequence[int]] | None = None
    keep: Callable[[Batch, PassResult], None] | None = None

    def scored(self, places: Sequence[int]) -> Iterator[Scored]:
        """One scored batch after another for samples at these places of the dataset."""
        batches = self.reading.batches(places, self.classifier)
        if self.labels is None:
            for batch in batches:
                yield self._score(batch, self._kept(batch), None)
            return
        others = partners(self.reading.ids, self.labels, places, self.seed)
        for batch, partner in zip(batches, self.reading.batches(others, self.classifier), strict=True):
            yield self._score(batch, self._kept(batch), partner)

    def _kept(self, batch: Batch) -> PassResult:
        result = self.explain(batch)
        if self.keep is not None:
            self.keep(batch, result)
        return result

    def explain(self, batch: Batch) -> PassResult:
        """The predictions and maps of a batch.

        Raises:
            UsageError: if a label is to be explained where there is none.
            ModelError: if the classifier has no such class, or cannot be explained.
        """
        device = self.classifier.device
        images = self._images(batch)
        labels = batch.labels.clamp(min=0).to(device, non_blocking=True)  # a sample that failed has none
        if self.target == "label" and (batch.labels < 0).sum() > len(batch.errors):
            raise UsageError(f"target label: {self.reading.dataset.name} has samples without a label")
        result = self.explainer(images, labels, batch.ids)
        classes = result.logits.shape[1]
        if int(batch.labels.max()) >= classes:
            raise label_without_output(
                self.classifier.name, classes, self.reading.dataset.name, int(batch.labels.max())
            )
        return result

    def _images(self, batch: Batch) -> torch.Tensor:
        return self.classifier.preprocessing.normalise(batch.images.to(self.classifier.device, non_blocking=True))

    def _flips(self, batch: Batch, prediction: torch.Tensor, partner: Batch | None) -> torch.Tensor:
        """Whether exchanging each region's content, or as much elsewhere, changes the prediction: (2, R, B)."""
        flips = torch.full((2, *batch.annotation_status.shape), torch.nan, device=prediction.device)
        if partner is None:
            return flips
        images, others = self._images(batch), self._images(partner)
        regions = batch.annotations.to(prediction.device)
        dataset = self.reading.dataset
        is_evidence = torch.tensor([region in dataset.evidence for region in dataset.regions], device=regions.device)
        evidence = (regions & is_evidence[:, None, None, None]).any(dim=0)
        avoid = evidence & ~is_evidence[:, None, None, None]
        for arm, masks in enumerate((regions, elsewhere(regions, avoid, batch.ids, self.seed))):
            for region, mask in enumerate(masks):
                changed = self.explainer.predict(exchanged(images, others, mask)) != prediction
                flips[arm, region] = changed.to(flips.dtype)
        unread = torch.tensor([place in partner.errors for place in range(len(batch.ids))])
        tried = (batch.annotation_status == _OK) & ~unread & (batch.labels >= 0)
        return flips.masked_fill(~tried.to(flips.device), torch.nan)

    def _score(self, batch: Batch, result: PassResult, partner: Batch | None) -> Scored:
        device = self.classifier.device
        annotations = batch.annotations.to(device, non_blocking=True)
        strengths = None if batch.strengths is None else batch.strengths.to(device, non_blocking=True)
        per_method = [
            score_maps(maps, request.binarization, annotations, self.metrics, strengths)
            for request, maps in zip(self.requests, result.maps, strict=True)
        ]
        own = result.logits.gather(1, batch.labels.clamp(min=0).to(device)[:, None])
        rank = (result.logits > own).sum(dim=1) + 1
        return Scored(
            ids=batch.ids,
            labels=batch.labels.clone(),  # of a process that decodes ahead: an open file each, kept for the unit
            given=batch.annotation_status.clone(),
            errors=batch.errors,
            size=(batch.images.shape[2], batch.images.shape[3]),
            decisions=torch.stack([result.prediction, rank]),
            confidence=self.classifier.probabilities(result.logits).amax(dim=1),
            scores=per_method,
            flips=self._flips(batch, result.prediction, partner),
        )


def undecided_among_errors(scored: Sequence[Scored], name: str) -> list[Scored]:
    """The same batches, with the images a classifier has not decided on among their errors.

    Of outputs with NaN among them the largest means nothing, so there is no prediction to score.

    Args:
        scored: batches of a unit.
        name: the classifier's.

    Raises:
        ModelError: it has decided on none of the images that were read.
    """
    finite = torch.cat([part.confidence for part in scored]).isfinite().tolist()  # waits for the device, once a unit
    found, start, read, undecided = [], 0, 0, []
    for part in scored:
        places = [at for at in range(len(part.ids)) if at not in part.errors and not finite[start + at]]
        start, read = start + len(part.ids), read + len(part.ids) - len(part.errors)
        undecided += [part.ids[at] for at in places]
        if places:
            given = part.given.clone()
            given[:, places] = _ERROR
            found.append(replace(part, given=given, errors={**part.errors, **dict.fromkeys(places, _UNDECIDED)}))
        else:
            found.append(part)
    if undecided and len(undecided) == read:
        raise ModelError(
            f"{name}: {_UNDECIDED}, for each of {read} images, first {undecided[0]}; look at its weights and "
            "preprocessing, or use precision fp32"
        )
    return found
