"""A linear model on pixels: the accuracy that an image classification task gives without any understanding of images.

answers = linear_answers(train, test, classes=10)    # (N,) class numbers for the images of `test`
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.image_classification.pictures import Pictures

EPOCHS, BATCH, RATE, DECAY = 12, 128, 1e-3, 1e-2


def linear_answers(train: Pictures, test: Pictures, classes: int) -> Tensor:
    """Multinomial logistic regression on pixels scaled by their training mean and deviation, fitted by AdamW.

    It has its own seed and draws nothing from torch's global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = train.pixels().flatten(1).float()  # (N, 3 S S)
        std, mean = torch.std_mean(seen, 0)
        seen = seen.sub_(mean).div_(std := std + 1e-3 * std.max() + 1e-6)
        model = torch.nn.Linear(seen.shape[1], classes)
        torch.nn.init.zeros_(model.weight)
        optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
        for epoch in range(EPOCHS):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - epoch / EPOCHS)
            for chosen in torch.randperm(len(train)).split(BATCH):
                loss = F.cross_entropy(model(seen[chosen]), train.labels[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            asked = test.pixels().flatten(1).float().sub_(mean).div_(std)
            return model(asked).argmax(1)
