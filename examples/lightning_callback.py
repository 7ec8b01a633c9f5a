"""Explanation alignment as a Lightning callback: logged after every validation epoch, whatever the module does.

pip install lightning
python examples/lightning_callback.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

import explanation_alignment as ea

sys.path.insert(0, str(Path(__file__).parent))
from in_training import explain, images_of, small_network


class AlignmentCallback(lightning.Callback):
    """Explains the validation images by input gradients and logs ``alignment/iou`` and ``alignment/hits``.

    Args:
        binarization: from map to mask, for the IoU.
        every: epochs between two measurements.

    Batches are (images, labels, masks); for others overwrite :meth:`unpack`.
    """

    def __init__(self, binarization: str = "std:1", every: int = 1) -> None:
        self.every = every
        self.metrics = MetricCollection(
            {"iou": ea.metrics.IoUCoverage(binarization), "hits": ea.metrics.PointingGame()}, prefix="alignment/"
        )

    def unpack(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and masks (B, H, W) of a batch."""
        images, _, masks = batch
        return images, masks

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin anew, on the module's device."""
        self.metrics.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Explain a batch; Lightning has put the module into evaluation mode."""
        if trainer.current_epoch % self.every == 0:
            images, masks = self.unpack(batch)
            with torch.inference_mode(False):  # validation runs in it, and gradients need to leave it
                _, maps = explain(pl_module, images.clone())
            self.metrics.update(maps, masks)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the means."""
        if trainer.current_epoch % self.every == 0:
            pl_module.log_dict(self.metrics.compute())


class Squares(lightning.LightningModule):
    """Stands for your module."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss."""
        images, labels, _ = batch
        return nn.functional.cross_entropy(self(images), labels)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Accuracy."""
        images, labels, _ = batch
        self.log("accuracy", (self(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 3e-3)


class History(lightning.Callback):
    """Keeps what was logged, epoch by epoch; a logger of yours does that."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Called after everything of the epoch was logged."""
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(epochs: int = 4) -> list[dict[str, float]]:
    """Train for a few epochs and return what was logged."""
    lightning.seed_everything(0, verbose=False)
    generator = torch.Generator().manual_seed(0)
    train = TensorDataset(*images_of(256, marked=False, generator=generator))
    validation = TensorDataset(*images_of(128, marked=False, generator=generator))
    history = History()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few workers load, and that nothing is logged to a file
        trainer = lightning.Trainer(
            max_epochs=epochs,
            callbacks=[AlignmentCallback(), history],
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(Squares(), DataLoader(train, 32, shuffle=True), DataLoader(validation, 32))
    return history.epochs


def main() -> None:
    """Train and print what was logged."""
    for epoch, values in enumerate(fit()):
        print(f"epoch {epoch}", *(f"{name} {value:.2f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
