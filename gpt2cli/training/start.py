"""A run is begun: its data, its plan and its first state on disk. What was begun is opened, in the same way whether it
has just been, or was cut."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.export.checkpoint import Checkpoint, Config, read_config
from gpt2cli.export.graph import check_activation
from gpt2cli.tokenizer import learning
from gpt2cli.tokenizer.files import END
from gpt2cli.tokenizer.tokenizer import Tokenizer
from gpt2cli.training import documents, memory, recipe, sources
from gpt2cli.training.card import card
from gpt2cli.training.documents import Corpus
from gpt2cli.training.folder import Folder
from gpt2cli.training.lora import adapt
from gpt2cli.training.network import Network, fresh_weights, weights_from
from gpt2cli.training.recipe import Shape, Sizes, Wishes
from gpt2cli.training.run import Run, Standing, Texts
from gpt2cli.training.sources import STDIN
from gpt2cli.training.training import Plan, Training

LEAST = 64  # tokens to learn from; with less there is nothing to learn
_HELD = 0.05  # of the text is not learnt from
Progress = Callable[[str, int, int | None], None]  # (title, done, in all)


@dataclass(frozen=True)
class Asked:
    """What a run is to be."""

    sources: tuple[Path, ...]
    base: Path | None = None  # the folder of a checkpoint; None: a model is made anew, of this shape
    base_name: str = ""
    shape: Shape = field(default_factory=Shape)
    validation: Path | None = None
    split_on: str = END
    wishes: Wishes = field(default_factory=Wishes)
    device: str = "auto"
    command: tuple[str, ...] = ()


def device_of(name: str) -> str:
    """cpu or cuda. Raises UsageError."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("PyTorch finds no CUDA device here", "--device cpu, or install PyTorch for your GPU")
    return "cuda" if there and name != "cpu" else "cpu"


def begin(
    folder: Folder,
    asked: Asked,
    options: dict[str, Any] | None = None,
    progress: Progress = lambda title, done, total: None,
) -> None:
    """Put all that a run needs into a folder that is prepared, and whose lock the caller holds. `options` are kept for
    whoever resumes.

    Raises UsageError, UnknownModel, CorruptFile, CannotMeet, StorageError, and nothing was begun."""
    device = device_of(asked.device)
    _check_asked(asked)
    checkpoint = None if asked.base is None else Checkpoint(asked.base)
    if checkpoint is None:
        _make_anew(folder, asked, progress)
    else:
        check_activation(checkpoint.config, checkpoint.folder)
        folder.settings(checkpoint.folder, tied=checkpoint.tied)
    config, tied = read_config(folder.run / "last"), checkpoint is None or checkpoint.tied
    learnt, held = _corpora(folder, asked, config, progress)
    sizes = Sizes(len(learnt.ids), len(held.ids), config.parameters, config.n_positions, fresh=checkpoint is None)
    plan = _checked(recipe.chosen(asked.wishes, sizes, device), asked, config)
    name = asked.base_name or folder.path.name
    plan = memory.fitted(plan, config, tied=tied, name=name, free=memory.available(device))
    network = Network(config, tied=tied, dropout=plan.dropout)
    if checkpoint is None:
        fresh_weights(network, plan.seed)
    else:
        weights_from(network, checkpoint)
    network = _arranged(network, plan)
    facts = {
        "name": folder.path.name,
        "base": asked.base_name,
        "command": list(asked.command),
        "options": options or {},
        "plan": asdict(plan),
        "tied": tied,
        "data": asdict(learnt.facts),
        "held": len(held.ids),
        "held_apart": asked.validation is not None,
        "parameters": config.parameters,
        "trainable": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    training = Training(network, plan, learnt)
    folder.save_state({"training": training.state(), "standing": vars(Standing())})
    folder.write_plan(facts)


def opened(
    folder: Folder, *, samples: bool = True, told: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Run, dict[str, Any]]:
    """The run in a folder, at its last state, and the facts about it. Raises CorruptFile, UsageError."""
    facts = folder.plan()
    if folder.ended:
        raise UsageError(f"the run in '{folder.path}' has ended", f"learn on from it: -m {folder.path}, another -o")
    try:
        plan, name = Plan.read(facts["plan"]), facts["base"]
        if plan.device != "cpu":
            device_of(plan.device)
        config = read_config(folder.run / "last")
        network = _arranged(Network(config, tied=facts["tied"], dropout=plan.dropout), plan)
    except (KeyError, TypeError) as error:
        raise CorruptFile(f"the plan of the run in '{folder.path}' is broken: {error}", "begin a new run") from None
    whole = documents.opened(folder.run)
    if facts["held_apart"]:
        learnt, held = whole, documents.opened(folder.run / "held")
    else:
        learnt, held = documents.split(whole, _HELD)
    training, tokenizer = Training(network, plan, learnt), Tokenizer(folder.run / "last")
    end = _end(config, tokenizer)

    def keep(figures: dict[str, Any]) -> None:
        said = card(facts, figures, run.standing.before)
        folder.save_best(network, said, (plan.lora, name) if plan.lora else None)

    texts = Texts(held, _sizes(tokenizer, config, end), end, tokenizer.decode)
    run = Run(folder, training, texts, keep, samples=samples, told=told)
    state = folder.state(plan.device)
    try:
        run.restore(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFile(f"the state of the run in '{folder.path}' is broken: {error}", "begin a new run") from None
    return run, facts


def _arranged(network: Network, plan: Plan) -> Network:
    """With what is to be learnt, and only that, asking for gradients."""
    if plan.lora is not None:
        adapt(network, plan.lora, plan.seed)
    elif plan.freeze:
        for part in (network.wte, network.wpe, *network.h[: plan.freeze]):
            part.requires_grad_(False)
    return network


def _check_asked(asked: Asked) -> None:
    """Raises UsageError where what was asked for contradicts itself."""
    if [*asked.sources, asked.validation].count(STDIN) > 1:
        raise UsageError("stdin is named twice, and can be read once", "put the text into a file")
    if asked.base is None and (asked.wishes.lora or asked.wishes.freeze):
        raise UsageError("a model from scratch has nothing that could stay", "leave out --lora and --freeze")


def _make_anew(folder: Folder, asked: Asked, progress: Progress) -> None:
    """The vocabulary and the settings of a model of the shape that was asked for, or that suits the text."""
    found = sources.files(asked.sources)
    if once := next((path for path in found if not path.is_file()), None):
        name = "stdin" if once == STDIN else f"'{once}'"
        raise UsageError(f"--from-scratch reads the text twice, {name} gives it once", "put it into a file")
    nbytes = 0

    def pieces() -> Any:
        nonlocal nbytes
        for piece in sources.texts(asked.sources, asked.split_on):
            nbytes += len(piece.encode())
            progress("learning a vocabulary", nbytes, None)
            yield piece

    total = sum(path.stat().st_size for path in found)
    layers, width, vocabulary = next(row[1:] for row in _SHAPES if total <= row[0])
    shape = asked.shape
    layers, width = shape.layers or layers, shape.width or width
    heads = shape.heads or next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0)
    if width % heads:
        near = max(1, width // heads) * heads
        raise UsageError(f"--width {width} cannot be divided into {heads} heads", f"choose --width {near}")
    target = folder.run / "last"
    try:
        size = learning.learn(pieces(), shape.vocabulary or vocabulary, target)
        config = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "bos_token_id": size - 1,
            "eos_token_id": size - 1,
            "vocab_size": size,
            "n_positions": shape.positions or 512,
            "n_embd": width,
            "n_layer": layers,
            "n_head": heads,
        }
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise folder.unwritable(error) from None


# Up to so many bytes of text: layers, width, vocabulary.
_SHAPES = ((300_000, 4, 128, 1024), (3_000_000, 6, 192, 4096), (float("inf"), 8, 384, 8192))


def _corpora(folder: Folder, asked: Asked, config: Config, progress: Progress) -> tuple[Corpus, Corpus]:
    """What is learnt from, and what is not. Raises CannotMeet where there is too little."""
    tokenizer = Tokenizer(folder.run / "last")
    end, read = _end(config, tokenizer), 0

    def told(nbytes: int) -> None:
        nonlocal read
        read += nbytes
        progress("reading", read, total)

    def gathered(sources: tuple[Path, ...], target: Path) -> Corpus:
        return documents.gather(
            sources,
            target,
            tokenizer=tokenizer,
            end=end,
            vocabulary=config.vocab_size,
            split_on=asked.split_on,
            progress=told,
        )

    total = None if STDIN in asked.sources else sum(path.stat().st_size for path in sources.files(asked.sources))
    try:
        whole = gathered(asked.sources, folder.run)
        if asked.validation is None:
            enough = len(whole.ids) - 2 >= LEAST
            learnt, held = documents.split(whole, _HELD) if enough else (whole, whole)
        else:
            (folder.run / "held").mkdir(exist_ok=True)
            total = None
            learnt, held = whole, gathered((asked.validation,), folder.run / "held")
    except OSError as error:
        raise folder.unwritable(error) from None
    if not whole.facts.documents:
        raise CannotMeet("there is no text: what was read is empty", "give files with text: 100 kB and more")
    if len(whole.ids) - 2 < LEAST:
        raise CannotMeet(
            f"the text is too short: {LEAST} tokens are the least, it has {len(whole.ids) - whole.facts.documents - 1}",
            "give more: a voice is learnt from 100 kB and more",
        )
    for corpus, what in ((learnt, "to learn from"), (held, "to measure the loss on")):
        if _counted(corpus) < 1:
            raise CannotMeet(f"there is no token {what}", "give more text")
    return learnt, held


def _counted(corpus: Corpus) -> int:
    """The tokens that have a loss."""
    before = int((corpus.prompts.clip(1, len(corpus.ids)) @ [-1, 1]).sum()) if len(corpus.prompts) else 0
    return len(corpus.ids) - 1 - before


def _sizes(tokenizer: Tokenizer, config: Config, end: int) -> Any:
    """The bytes of each token; the one that ends a text has none."""
    sizes = documents.token_sizes(tokenizer, config.vocab_size)
    sizes[end] = 0
    return sizes


def _end(config: Config, tokenizer: Tokenizer) -> int:
    ends = config.eos_token_ids  # in any order: what the tokenizer calls the end is that of a document
    end = tokenizer.end if not ends or tokenizer.end in ends else ends[0]
    if end is None or end >= config.vocab_size:
        raise CorruptFile("the model has no token that ends a text", "name one: eos_token_id in its config.json")
    return end


def _checked(plan: Plan, asked: Asked, config: Config) -> Plan:
    wishes = asked.wishes
    if wishes.length is not None and wishes.length > config.n_positions:
        raise UsageError(
            f"--length {wishes.length} is more than the model's {config.n_positions} positions",
            f"choose at most {config.n_positions}",
        )
    if wishes.freeze > config.n_layer:
        raise UsageError(f"--freeze {wishes.freeze}: the model has {config.n_layer} layers", "choose fewer")
    return replace(plan, length=min(plan.length, config.n_positions))
