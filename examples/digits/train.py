"""Learn to read handwritten digits: a small network in numpy on scikit-learn's 1797 real images of 8 x 8 pixels.

An ordinary training script: parameters come from the command line, metrics go to a file as JSON lines, and a run that
was cut off goes on from its last checkpoint.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

CLASSES = 10


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.1, help="step size")
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--checkpoints", type=Path, help="folder for checkpoints; none without it")
    parser.add_argument("--metrics", type=Path, help="file for metrics; metrics.jsonl in --out without it")
    return parser.parse_args()


def load(seed):
    """Return train and test images, scaled to 0..1, and their labels."""
    digits = load_digits()
    return train_test_split(digits.data / 16.0, digits.target, test_size=0.2, stratify=digits.target, random_state=seed)


def start(hidden, seed):
    """Return weights at random (He et al. 2015) and biases at zero."""
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(0, np.sqrt(2 / 64), (64, hidden)),
        "b1": np.zeros(hidden),
        "w2": rng.normal(0, np.sqrt(2 / hidden), (hidden, CLASSES)),
        "b2": np.zeros(CLASSES),
    }


def forward(model, x):
    """Return the hidden activations and the probability of each class."""
    hidden = np.maximum(x @ model["w1"] + model["b1"], 0)
    scores = hidden @ model["w2"] + model["b2"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def step(model, x, y, lr):
    """Take one step down the gradient of the cross entropy; return the loss before it."""
    hidden, chance = forward(model, x)
    loss = -np.log(chance[np.arange(len(y)), y]).mean()
    error = (chance - np.eye(CLASSES)[y]) / len(y)
    back = (error @ model["w2"].T) * (hidden > 0)
    model["w2"] -= lr * hidden.T @ error
    model["b2"] -= lr * error.sum(axis=0)
    model["w1"] -= lr * x.T @ back
    model["b1"] -= lr * back.sum(axis=0)
    return loss


def train_epoch(model, x, y, args, epoch):
    """Go once through the images in an order that depends on seed and epoch only; return the mean loss."""
    order = np.random.default_rng([args.seed, epoch]).permutation(len(y))
    batches = [order[i : i + args.batch] for i in range(0, len(y), args.batch)]
    return float(np.mean([step(model, x[batch], y[batch], args.lr) for batch in batches]))


def save(path, model, epoch):
    """Write a checkpoint beside its place and rename it, so that nobody ever sees half of one."""
    part = path.with_name(path.name + ".tmp")
    with part.open("wb") as stream:
        np.savez(stream, epoch=epoch, **model)
    part.replace(path)


def resume(folder):
    """Return the model and the epoch of the newest checkpoint, or None."""
    found = sorted(folder.glob("epoch-*.npz")) if folder else []
    if not found:
        return None
    with np.load(found[-1]) as data:
        model = {name: data[name] for name in data.files}
    return model, int(model.pop("epoch"))


def train(args, x, y, x_test, y_test):
    """Train, tell how it goes, and save every tenth epoch; return the model."""
    model, done = resume(args.checkpoints) or (start(args.hidden, args.seed), 0)
    if done:
        print(f"going on after epoch {done}")
    with (args.metrics or args.out / "metrics.jsonl").open("a") as metrics:
        for epoch in range(done + 1, args.epochs + 1):
            loss = train_epoch(model, x, y, args, epoch)
            accuracy = float((forward(model, x_test)[1].argmax(axis=1) == y_test).mean())
            print(json.dumps({"step": epoch, "loss": loss, "accuracy": accuracy}), file=metrics, flush=True)
            if epoch % 10 == 0:
                print(f"epoch {epoch:3}  loss {loss:.4f}  accuracy {accuracy:.4f}")
                if args.checkpoints:
                    save(args.checkpoints / f"epoch-{epoch:04}.npz", model, epoch)
    return model


def main():
    args = parse_args()
    for folder in filter(None, (args.out, args.checkpoints)):
        folder.mkdir(parents=True, exist_ok=True)
    x, x_test, y, y_test = load(args.seed)
    model = train(args, x, y, x_test, y_test)
    guesses = forward(model, x_test)[1].argmax(axis=1)
    table = confusion_matrix(y_test, guesses)
    save(args.out / "model.npz", model, args.epochs)
    np.savetxt(args.out / "confusion.csv", table, fmt="%d", delimiter=",")
    print(f"right: {int(table.trace())} of {len(y_test)}")


if __name__ == "__main__":
    main()
