"""S25: D in training. It says which of two pictures of one person at one age is real."""

import torch
import torch.nn.functional as F

from agedit.network.discriminator import Discriminator

SMOOTH, EVERY = (
    0.5,
    4,
)  # weight of the approximate R1 and R2, and every how many steps they count (lazily: Karras et al., 2020)


class Adversary:
    """D and its optimiser.

    Args of methods:
        seen: a `batches.Seen`. y: (B, 3, r, r), the drawn pictures. marks: what `discriminator.marks_of` gives of the pairs' targets, and of y.
    """

    def __init__(self, device):
        self.device = device
        self.network = Discriminator().to(device=device.torch, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 5e-4, (0.0, 0.99), eps=1e-7)

    def train(self, seen, y, marks, step):
        """One step of D; returns its loss, 0.69 where it knows nothing.

        Pairs are compared with each other (relativistic: Jolicoeur-Martineau, 2019; Huang et al., 2024), with the approximate R1 and R2 of finite
        differences. Photos have no second age to compare with.
        """
        pair, smooth = seen.pair, step % EVERY == 0
        wanted, drawn = seen.target[pair], y.detach()[pair].clamp(-1, 1)
        rows, pictures = len(wanted), torch.cat([wanted, drawn])
        with self.device.autocast():
            marks = [torch.cat(v).detach() for v in zip(*marks)]
            if smooth:
                pictures = torch.cat([pictures, pictures + 0.03 * torch.randn_like(pictures)])
                marks = [torch.cat([v, v + 0.06 * torch.randn_like(v)]) for v in marks]
            logits, _ = self.network(
                pictures,
                seen.goal[pair].repeat(len(pictures) // rows),
                torch.cat([seen.change(p, pair) for p in pictures.split(rows)]),
                marks,
            )
        real, fake, *near = logits.split(rows)
        loss = total = seen.places(F.softplus(fake - real), pair)
        if smooth:
            total = loss + EVERY * SMOOTH * sum((a - b).square().mean() for a, b in zip((real, fake), near))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.device.average_gradients(self.network)
        self.optimizer.step()
        return loss.detach()

    def hear(self, seen, y, marks):
        """What the generator is told, in autocast: D's loss turned round, and how far its features of y are from those of the targets
        (pix2pixHD, Wang et al., 2018)."""
        pair, (meant, drawn) = seen.pair, marks
        ask = lambda picture, marks: self.network(picture, seen.goal[pair], seen.change(picture, pair), marks)
        logits, features = ask(y[pair].clamp(-1, 1), drawn)
        with torch.no_grad():
            real, wanted = ask(seen.target[pair], meant)
        return seen.places(F.softplus(real - logits), pair), sum(
            (a - b).float().abs().mean() for a, b in zip(features, wanted)
        )
