"""Train a small convolutional network on scikit-learn's digits with PyTorch, so that a cut-off run ends the same.

Model, optimizer and random state are one checkpoint, written after every epoch beside its place and then renamed. A run
that is killed at any moment and started again goes on from the last whole checkpoint, and its final weights equal
those of a run that nobody disturbed, bit for bit.
"""

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.05, help="step size")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to rest after each epoch, to be killed in")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
    parser.add_argument("--metrics", type=Path, default=Path("metrics.jsonl"), help="file for metrics, as JSON lines")
    return parser.parse_args()


def make_deterministic(seed):
    """One thread: with more, sums are split differently on machines with other numbers of cores."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


def load():
    """Return images (n, 1, 8, 8) scaled to 0..1, their labels, and which of them are for training."""
    digits = load_digits()
    x = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    y = torch.from_numpy(digits.target).long()
    return x, y, torch.arange(len(y)) % 5 != 0


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10)
    )


def save(value, path):
    """Write to disk beside the place, then rename: a reader sees the old file or the new one, whole."""
    part = path.with_name(path.name + ".tmp")
    with part.open("wb") as stream:
        torch.save(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def resume(folder, model, optimizer):
    """Load the newest checkpoint; return how many epochs it has behind it."""
    found = sorted(folder.glob("epoch-*.pt"))
    if not found:
        return 0
    state = torch.load(found[-1], weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    return state["epoch"]


def train_epoch(model, optimizer, x, y, batch):
    """Go once through the images in random order; return the mean loss."""
    model.train()
    losses = []
    for rows in torch.randperm(len(y)).split(batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()


def digest(model):
    """Return the sha256 of the weights: names, then numbers, in the model's own order."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def main():
    args = parse_args()
    for folder in (args.out, args.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    make_deterministic(args.seed)
    x, y, training = load()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    done = resume(args.checkpoints, model, optimizer)
    print(f"going on after epoch {done}" if done else "starting", flush=True)
    with args.metrics.open("a") as metrics:
        for epoch in range(done + 1, args.epochs + 1):
            loss = train_epoch(model, optimizer, x[training], y[training], args.batch)
            right = accuracy(model, x[~training], y[~training])
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            save(state | {"random": torch.get_rng_state()}, args.checkpoints / f"epoch-{epoch:04}.pt")
            print(json.dumps({"step": epoch, "loss": loss, "accuracy": right}), file=metrics, flush=True)
            print(f"epoch {epoch:3}  loss {loss:.4f}  accuracy {right:.4f}", flush=True)
            time.sleep(args.pause)
    summary = {"weights": digest(model), "accuracy": accuracy(model, x[~training], y[~training]), "resumed_after": done}
    save(model.state_dict(), args.out / "model.pt")
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"weights {summary['weights']}")


if __name__ == "__main__":
    main()
