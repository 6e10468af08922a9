"""A text from a network that is still learning, to see how it speaks by now."""

import torch

from gpt2cli.training.network import Network

_TEMPERATURE, _TOP = 0.8, 40


@torch.no_grad()
def sample(network: Network, prompt: list[int], count: int, seed: int, end: int) -> list[int]:
    """At most `count` tokens that follow the prompt, up to the one that ends a text. Draws from no random state but
    its own."""
    network.eval()
    device = network.head.device
    generator = torch.Generator().manual_seed(seed)
    ids, most = list(prompt), network.config.n_positions
    for _ in range(count):
        seen = torch.tensor([ids[-most:]], device=device)
        logits = network.hidden(seen)[0, -1].float() @ network.head.float().T
        best, tokens = logits.cpu().topk(min(_TOP, len(logits)))
        drawn = torch.multinomial((best / _TEMPERATURE).softmax(0), 1, generator=generator)
        token = int(tokens[drawn])
        if token == end:
            break
        ids.append(token)
    return ids[len(prompt) :]
