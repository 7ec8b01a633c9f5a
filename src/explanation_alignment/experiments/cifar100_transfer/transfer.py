"""One-shot transfer: a model's features of CIFAR-100's test images, and logistic regressions on a few of them.

Both are kept below ``OUT/transfer``, each file named and stamped by what it answers, so that nothing is computed twice
and nothing is taken for something else.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.classifiers.expansion import ModelSpec, identify_weights
from explanation_alignment.datasets.base import draw_balanced, labels_of
from explanation_alignment.errors import DatasetError, ModelError, UsageError
from explanation_alignment.experiments.cifar100_transfer.protocol import Features, Protocol
from explanation_alignment.experiments.cifar100_transfer.results import SCORES, TRANSFER_SCHEMA
from explanation_alignment.progress import progress_bars
from explanation_alignment.runs.files import write_atomically, write_frame
from explanation_alignment.runs.identity import NUMERICS_VERSION, digest

if TYPE_CHECKING:
    import torch

    from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
    from explanation_alignment.decoded import DecodedCache
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["Embedding", "Transfer", "embed", "one_shot", "refuses", "transfer_preprocessing"]

_KEY: Final = "explanation_alignment"


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What a model makes of every image.

    Args:
        values: (N, F) float32, in the order of the dataset.
        model: the classifier's name.
        weights_digest: of the classifier.
        input_size: side of its images in pixels.
        own_size: whether that is its own size, since it refuses the experiment's.
    """

    values: NDArray[np.float32]
    model: str
    weights_digest: str
    input_size: int
    own_size: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """The transfer of models to one dataset, in a run folder.

    Args:
        folder: the run's.
        dataset: CIFAR-100's test split, or its stand-in.
        protocol: the numbers.
        features: logits or penultimate.
        device: where models run.
        batch_size: images at once.
        workers: processes that decode images.
    """

    folder: Path
    dataset: AnnotatedDataset
    protocol: Protocol
    features: Features
    device: torch.device
    batch_size: int = 32
    workers: int = 0

    def missing(self, model: ModelSpec, weights_digest: str | None, draws: int) -> list[int]:
        """The draws that are not there yet.

        Args:
            model: which.
            weights_digest: what its weights are known to be; what other weights gave does not count. None: not known.
            draws: how many are wanted.
        """
        kept = self._kept_scores(model)
        if weights_digest is not None and kept.height and kept["weights_digest"][0] != weights_digest:
            kept = kept.clear()
        have = set(kept["draw"])
        return [draw for draw in range(draws) if draw not in have]

    def measure(
        self,
        model: ModelSpec,
        kind: str,
        weights_digest: str | None,
        draws: int,
        decoded: DecodedCache | None,
        progress: bool,
    ) -> None:
        """Do what is missing for a model: its features, and a regression for each draw that is not there.

        Args:
            model: which.
            kind: of network.
            weights_digest: what its weights are known to be, None if they are not.
            draws: how many are wanted.
            decoded: where decoded images are kept.
            progress: show a bar on stderr, if it is a terminal.

        Raises:
            UsageError, ModelError: if the model cannot be built or run, or has no such features.
            DatasetError: if an image cannot be read.
            RunError: if the result cannot be kept.
        """
        missing = self.missing(model, weights_digest, draws)
        embedding = self.kept_embedding(model, weights_digest)
        if embedding is None:
            embedding = self._embedded(model, decoded, progress)
        self._score(model, embedding, missing, kind)

    def kept_embedding(self, model: ModelSpec, weights_digest: str | None) -> Embedding | None:
        """The model's features, where they have been computed with these weights (None: with any) and are whole."""
        try:
            with self._embedding_path(model).open("rb") as handle, np.load(handle, allow_pickle=False) as content:
                about = json.loads(str(content["about"]))
                values = content["values"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if about.pop("identity", None) != self._identity(model) or values.shape[0] != len(self.dataset):
            return None
        found = Embedding(values, **about)
        return found if weights_digest in (None, found.weights_digest) else None

    def _embedded(self, model: ModelSpec, decoded: DecodedCache | None, progress: bool) -> Embedding:
        """Embed every image and keep the features."""
        from explanation_alignment.classifiers.load import load_classifier

        classifier = load_classifier(
            model.spec, model.weights, self.device, input_size=model.input_size, preprocessing=model.preprocessing
        )
        own = classifier.preprocessing.input_size[1]
        own_size = refuses(classifier, self.protocol.crop)
        side = own if own_size else self.protocol.crop
        classifier.preprocessing = transfer_preprocessing(self.protocol, side)
        values = embed(
            classifier,
            self.dataset,
            self.features,
            batch_size=self.batch_size,
            workers=self.workers,
            cache=decoded,
            progress=progress,
        )
        found = Embedding(values, classifier.name, classifier.weights_digest(), side, own_size)
        about = {name: getattr(found, name) for name in ("model", "weights_digest", "input_size", "own_size")}
        text = json.dumps({**about, "identity": self._identity(model)}, sort_keys=True)

        def write(place: Path) -> None:
            with place.open("wb") as handle:  # given a path it would add an ending of its own
                np.savez(handle, about=np.array(text), values=found.values)

        write_atomically(self._embedding_path(model), write)
        return found

    def _score(self, model: ModelSpec, embedding: Embedding, draws: Sequence[int], kind: str) -> None:
        """Train and test one regression a draw, and keep their accuracies with those there are."""
        labels = np.array(labels_of(self.dataset), dtype=np.int64)
        place_of = {name: place for place, name in enumerate(self.dataset.ids())}
        kept = self._kept_scores(model)
        if kept.height and kept["weights_digest"][0] != embedding.weights_digest:
            kept = kept.clear()
        records = []
        for draw in draws:
            ids = draw_balanced(self.dataset, by="label", n=self.protocol.images_per_class, seed=draw)
            training = np.array([place_of[name] for name in ids], dtype=np.int64)
            accuracy, iterations = one_shot(embedding.values, labels, training, self.protocol.max_iter)
            records.append(
                {
                    "model": embedding.model,
                    "spec": model.spec,
                    "weights_digest": embedding.weights_digest,
                    "kind": kind,
                    "features": self.features,
                    "n_features": embedding.values.shape[1],
                    "input_size": embedding.input_size,
                    "own_size": embedding.own_size,
                    "draw": draw,
                    "accuracy": accuracy,
                    "n_classes": np.unique(labels).size,
                    "n_train": training.size,
                    "n_test": labels.size - training.size,
                    "iterations": iterations,
                    "converged": iterations < self.protocol.max_iter,
                }
            )
        table = pl.concat([kept, pl.DataFrame(records, schema=TRANSFER_SCHEMA)]).sort("draw")
        stamp = {_KEY: self._score_identity(model)}
        write_frame(self._score_path(model), table, stamp)

    def _kept_scores(self, model: ModelSpec) -> pl.DataFrame:
        path = self._score_path(model)
        try:
            if pl.read_parquet_metadata(path).get(_KEY) == self._score_identity(model):
                table = pl.read_parquet(path, glob=False)
                if table.schema == TRANSFER_SCHEMA:
                    return table
        except (OSError, pl.exceptions.PolarsError):
            pass  # not there, or damaged: computed anew
        return pl.DataFrame(schema=TRANSFER_SCHEMA)

    def _identity(self, model: ModelSpec) -> str:
        """Digest of all that decides the features but the weights, whose digest stands beside them."""
        own = model.preprocessing
        question = {
            "spec": model.spec,
            "weights": identify_weights(model.weights),
            "input_size": model.input_size if own is None else own.input_size[1],
            "resize": self.protocol.resize,
            "crop": self.protocol.crop,
            "mean": list(self.protocol.mean),
            "std": list(self.protocol.std),
            "features": self.features,
            "dataset_fingerprint": self.dataset.fingerprint,
            "numerics_version": NUMERICS_VERSION,
        }
        return digest(question)

    def _score_identity(self, model: ModelSpec) -> str:
        settings = {"images_per_class": self.protocol.images_per_class, "max_iter": self.protocol.max_iter}
        return digest({"features": self._identity(model), **settings})

    def _embedding_path(self, model: ModelSpec) -> Path:
        return self.folder / "transfer" / "features" / f"{_slug(model, self.features, self._identity(model))}.npz"

    def _score_path(self, model: ModelSpec) -> Path:
        slug = _slug(model, self.features, self._score_identity(model))
        return self.folder / SCORES / f"{slug}.parquet"


def embed(
    classifier: Classifier,
    dataset: AnnotatedDataset,
    features: Features,
    *,
    batch_size: int = 32,
    workers: int = 0,
    cache: DecodedCache | None = None,
    progress: bool = True,
) -> NDArray[np.float32]:
    """A classifier's features of every image, in evaluation mode and without a graph.

    Args:
        classifier: with the preprocessing that the images are to go through.
        dataset: whose images.
        features: ``"logits"``; or ``"penultimate"``, timm's ``forward_head(..., pre_logits=True)``.
        batch_size: images at once.
        workers: processes that decode images.
        cache: where decoded images are kept for the next classifier.
        progress: show a bar on stderr, if it is a terminal.

    Returns:
        (N, F) float32, in the dataset's order.

    Raises:
        ModelError: the classifier has no such features, or they are not finite.
        DatasetError: an image cannot be read.
    """
    import torch

    from explanation_alignment.batches import iterate_batches

    ids = dataset.ids()
    cut = [range(start, min(start + batch_size, len(ids))) for start in range(0, len(ids), batch_size)]
    decoded = None if cache is None else cache.images(dataset, ids, classifier.preprocessing, range(len(ids)))
    parts = []
    with classifier.explaining(), torch.no_grad(), progress_bars(enabled=progress) as bars:
        bar = bars.add_task(f"{classifier.name}: {features} of {dataset.name}", total=len(ids), note="")
        for batch in iterate_batches(dataset, ids, cut, classifier.preprocessing, workers=workers, decoded=decoded):
            for place, message in batch.errors.items():
                raise DatasetError(f"{dataset.name}: image {batch.ids[place]} cannot be read ({message})")
            images = classifier.preprocessing.normalise(batch.images.to(classifier.device))
            parts.append(_features(classifier, images, features).float().cpu().numpy())
            bars.advance(bar, len(batch.ids))
    values: NDArray[np.float32] = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise ModelError(f"{classifier.name}: its {features} of {dataset.name} are not finite")
    return values


def _features(classifier: Classifier, images: torch.Tensor, features: Features) -> torch.Tensor:
    """(B, F) features of images as the network takes them."""
    import torch

    if features == "logits":
        return classifier.logits(images)
    module: Any = classifier.module
    if not (callable(getattr(module, "forward_features", None)) and callable(getattr(module, "forward_head", None))):
        raise ModelError(f"{classifier.name} is no timm model, which penultimate features are defined for; take logits")
    found = module.forward_head(module.forward_features(images), pre_logits=True)
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        raise ModelError(f"{classifier.name}: its penultimate features are no (B, F) tensor; take logits")
    return found


def one_shot(
    values: NDArray[np.floating[Any]], labels: NDArray[np.int64], training: NDArray[np.int64], max_iter: int = 1000
) -> tuple[float, int]:
    """Accuracy of a logistic regression trained on some images and tested on all others.

    scikit-learn's, with its defaults: L2 penalty, C = 1, lbfgs; features are not scaled.

    Args:
        values: (N, F) features.
        labels: (N,) classes.
        training: places of the training images.
        max_iter: iterations at most.

    Returns:
        The share of the other images that are told right, and the iterations taken (``max_iter``: not converged).

    Raises:
        UsageError: nothing is left to test on.

    Example:
        >>> points = np.array([[0.0], [1.0], [0.1], [0.9]])
        >>> one_shot(points, np.array([0, 1, 0, 1]), np.array([0, 1]))[0]
        1.0
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    others = np.setdiff1d(np.arange(labels.size), training)
    if not others.size:
        raise UsageError(f"all {labels.size} images are for training; none is left to test on")
    model = LogisticRegression(max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # which is what one-shot means
        model.fit(values[training], labels[training])
    return float((model.predict(values[others]) == labels[others]).mean()), int(np.max(model.n_iter_))


def refuses(classifier: Classifier, side: int) -> bool:
    """Whether a classifier takes no images of this side: by timm's word for it, else by trying."""
    import torch

    own = classifier.preprocessing.input_size
    if own[1:] == (side, side):
        return False
    configuration = getattr(classifier.module, "pretrained_cfg", None)
    if isinstance(configuration, Mapping) and configuration.get("fixed_input_size"):
        return True
    with classifier.explaining(), torch.no_grad():
        try:
            classifier.logits(torch.zeros(2, own[0], side, side, device=classifier.device))
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception:  # a network says in its own way that it cannot
            return True
    return False


def transfer_preprocessing(protocol: Protocol, side: int) -> Preprocessing:
    """What CIFAR-100's images go through on the way to a square of this side, the same share of them at any size."""
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.geometry import Geometry

    geometry = Geometry(resize=round(protocol.resize * side / protocol.crop), crop=(side, side))
    return Preprocessing((3, side, side), geometry, protocol.mean, protocol.std)


def _slug(model: ModelSpec, features: str, identity: str) -> str:
    name = model.spec if model.weights == "default" else f"{model.spec}.{Path(model.weights).stem}"
    plain = re.sub(r"[^\w.-]+", "_", name)[:100]
    return f"{plain}--{features}--{identity[:8]}"
