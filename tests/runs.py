"""Small runs of `gpt2 finetune`: the random checkpoint, a text, and a folder."""

import pytest

STORY = "The cat and the dog went to the sea. The sea was old, and the dog was wet.\n" * 12


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    return path


@pytest.fixture
def begun(checkpoint, text, tmp_path):
    """begun(name, **wishes) -> the folder of a run that was begun there, on one thread."""
    import torch

    from gpt2cli.training import start
    from gpt2cli.training.folder import Folder
    from gpt2cli.training.recipe import Wishes

    def begin(name="out", *, sources=None, base=checkpoint, validation=None, **wishes):
        folder = Folder(tmp_path / name)
        wishes = {"batch": 128, "length": 32, "rate": 0.003} | wishes
        asked = start.Asked(tuple(sources or [text]), base, "base", validation=validation, wishes=Wishes(**wishes))
        folder.prepare()
        with folder.held():
            start.begin(folder, asked)
        return folder

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield begin
    torch.set_num_threads(before)


def finished(folder, *, cuts=()):
    """Let the run go on to its end, with cuts after so many steps in all; the events."""
    from gpt2cli.training import start

    seen = []
    for cut in [*cuts, None]:
        with folder.held():
            run, _ = start.opened(folder, samples=False)
            for event in run.events():
                seen.append(event)
                if cut is not None and run.training.step >= cut:
                    run.stop()
    return seen
