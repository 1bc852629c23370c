"""The published folder loads the way its model card says, with transformers and peft and nothing of ours.

The code in the model cards is what runs here, in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alignment_trainer.publishing.stage import run
from support.models import adapter
from support.publishing import Publishable

pytestmark = pytest.mark.slow

_PROOF = """
import json, os, sys
found = []
for folder, code in json.load(sys.stdin):
    os.chdir(folder)
    names = {}
    exec(code, names)
    model, tokenizer = names["model"], names["tokenizer"]
    text = tokenizer.decode(model.generate(**tokenizer("a b", return_tensors="pt"), max_new_tokens=3)[0])
    assert text.startswith("a b"), text
    weight = sum(p.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n)
    found.append([type(model).__name__, weight])
ours = [name for name in sys.modules if name.startswith("alignment_")]
assert not ours, ours
print(json.dumps(found))
"""


def tiny_model(folder: Path) -> None:
    """A Llama of a few thousand parameters with a tokenizer of letters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {token: n for n, token in enumerate(["<eos>", "<unk>", "a", "b", "c"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="<unk>").save_pretrained(
        folder
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)


def tiny_adapter(base: Path, folder: Path) -> float:
    """An adapter on ``base`` whose configuration names a folder that is gone; returns the size of its weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(folder / "saved")
    weights = (folder / "saved" / "adapter_model.safetensors").read_bytes()
    adapter(folder / "candidate", base.as_uri() + "/", content=weights)
    saved = json.loads((folder / "saved" / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = "/scratch/of/a/pod/that/is/gone"
    (folder / "candidate" / "adapter_config.json").write_text(json.dumps(saved))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "candidate" / name).write_bytes((base / name).read_bytes())
    with torch.no_grad():
        return float(sum(p.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n))


def published(candidate: Path, base: Path, place: Path) -> tuple[Path, list[str]]:
    """Version folder and the blocks of code in its model card."""
    work = Publishable(place.as_uri(), candidate, base.as_uri())
    result = run(work.context(place / "scratch"))
    assert result.published is not None
    folder = work.stores(result.published.uri).local_path(result.published.uri)
    assert folder is not None
    return folder, re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def test_model_cards_tell_how_to_load_full_weights_and_adapters(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model(base)
    size = tiny_adapter(base, tmp_path)
    full, (whole,) = published(base, base, tmp_path / "full")
    tuned, (alone, onto_base) = published(tmp_path / "candidate", base, tmp_path / "tuned")
    jobs = [(full, whole), (tuned, alone), (tuned, onto_base.replace("path/of/the/base", str(base)))]
    done = subprocess.run(
        [sys.executable, "-c", _PROOF],
        input=json.dumps([(str(folder), code) for folder, code in jobs]),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        ["LlamaForCausalLM", 0],
        ["PeftModelForCausalLM", pytest.approx(size, rel=1e-5)],
        ["PeftModelForCausalLM", pytest.approx(size, rel=1e-5)],
    ]
