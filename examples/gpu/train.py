"""Train a small convolution and attention network on noise, on the GPU if there is one, and say the weights' digest.

It seeds nothing and asks for nothing deterministic: whether two runs agree is up to who starts it.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 4, stride=4))
        self.attention = nn.MultiheadAttention(width, 4, dropout=0.1, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 10))

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(dim=1))


def train(device, steps):
    """Return the weights after some steps, by name."""
    model = Network().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        x = torch.randn(64, 3, 32, 32, device=device)
        y = torch.randint(10, (64,), device=device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


def matmul(device, size=2048):
    """Return the digest of a product in single precision, and its largest error against double precision."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    product = a @ b
    error = (product.double() - a.double() @ b.double()).abs().max().item()
    return hashlib.sha256(product.cpu().numpy().tobytes()).hexdigest(), error


def digest(weights):
    found = hashlib.sha256()
    for name, value in weights.items():
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    begun = time.monotonic()
    weights = train(device, args.steps)
    product, error = matmul(device)
    torch.save({name: value.cpu() for name, value in weights.items()}, args.out / "model.pt")
    summary = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "weights": digest(weights),
        "matmul": product,
        "matmul_error": error,
        "seconds": round(time.monotonic() - begun, 2),
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
