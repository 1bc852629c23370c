"""The policy as it is loaded and saved: no dropout but the adapter's, the base's own settings in the candidate, adapters as they are."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model

from alignment_api.spec import TrainingSpec
from alignment_trainer.errors import RequestError
from alignment_trainer.models.fetch import LocalModel
from alignment_trainer.training.policy import ADAPTER, load_policy, load_tokenizer, save_policy
from support.tiny import save_tiny_model, save_tiny_tokenizer

TOKENS: dict[str, Any] = {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
SIZES: dict[str, Any] = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
NOISY = {
    "modules": transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.2, **TOKENS
    ),
    "a number of the attention": transformers.LlamaConfig(
        intermediate_size=64, attention_dropout=0.2, **SIZES
    ),
    "a number of the layer, and whole layers": transformers.OPTConfig(
        ffn_dim=64, word_embed_proj_dim=32, dropout=0.2, layerdrop=0.5, **SIZES
    ),
    "a router": transformers.MixtralConfig(
        intermediate_size=64, num_local_experts=4, num_key_value_heads=2, router_jitter_noise=0.3, **SIZES
    ),
}
LORA = {"rank": 4, "alpha": 8}
IDS = torch.arange(40)[None]


def spec(**training: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({"precision": "Float32"} | training)


def scores(model: Any) -> torch.Tensor:
    """Logits without a gradient, in the mode that the model is in."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture
def noisy(request: pytest.FixtureRequest, tmp_path: Path) -> LocalModel:
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(NOISY[request.param]).save_pretrained(tmp_path / "base")
    return LocalModel(tmp_path / "base")


@pytest.mark.parametrize("noisy", NOISY, indirect=True)
def test_in_training_a_base_has_no_dropout_of_its_own(noisy: LocalModel) -> None:
    policy = load_policy(noisy, spec())
    exact = scores(policy.eval())
    policy.train()
    for _ in range(3):
        assert torch.equal(scores(policy), exact)


@pytest.mark.parametrize("noisy", NOISY, indirect=True)
def test_a_candidate_says_of_dropout_what_its_base_said(noisy: LocalModel, tmp_path: Path) -> None:
    save_tiny_tokenizer(noisy.folder)
    policy = load_policy(noisy, spec())
    policy.config.use_cache = False  # as the trainer does
    save_policy(policy, load_tokenizer(noisy), tmp_path / "candidate", base=None)
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (noisy.folder, tmp_path / "candidate")
    )
    assert after == before


@pytest.fixture
def base(tmp_path: Path) -> LocalModel:
    save_tiny_model(tmp_path / "base")
    return LocalModel(tmp_path / "base")


def test_sampling_settings_that_transformers_would_not_save_are_in_no_checkpoint_and_in_the_candidate(
    base: LocalModel, tmp_path: Path
) -> None:
    own = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": 200}
    (base.folder / "generation_config.json").write_text(json.dumps(own))
    policy = load_policy(base, spec())
    policy.generation_config.eos_token_id = [257, 200]  # as the trainer adds the tokenizer's
    policy.save_pretrained(tmp_path / "checkpoint")
    save_policy(policy, load_tokenizer(base), tmp_path / "candidate", base=None)
    saved = json.loads((tmp_path / "candidate" / "generation_config.json").read_text())
    assert {name: saved.get(name) for name in own} == own | {"eos_token_id": [257, 200]}


def adapted(base: LocalModel, **settings: Any) -> tuple[LocalModel, torch.Tensor]:
    """A trained adapter of PEFT's making on a base, and what both score together."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(base.folder)
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": "all-linear"} | settings
    )
    policy = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05 if parameter.requires_grad else 0)
    folder = base.folder.with_name("adapter")
    policy.save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return LocalModel(folder, base.folder), scores(policy.eval())


@pytest.mark.parametrize("made", ["pissa", "olora", "gaussian", True])
def test_the_copy_that_is_the_reference_does_not_change_an_adapter_made_from_the_bases_weights(
    base: LocalModel, tmp_path: Path, made: Any
) -> None:
    model, want = adapted(base, init_lora_weights=made)
    policy = load_policy(model, spec(lora=LORA))
    torch.testing.assert_close(scores(policy), want)
    policy.add_adapter("ref", policy.peft_config[ADAPTER])  # as TRL does
    torch.testing.assert_close(scores(policy), want)
    save_policy(
        policy, load_tokenizer(model), tmp_path / "candidate", base={"uri": "s3://base/", "digest": "-"}
    )
    again = transformers.AutoModelForCausalLM.from_pretrained(base.folder)
    loaded = PeftModel.from_pretrained(again, tmp_path / "candidate")
    torch.testing.assert_close(scores(loaded), want)


REFUSED = {
    "biases": ({"bias": "all"}, "trains biases"),
    "the head": ({"target_modules": ["q_proj", "lm_head"]}, "language-model head"),
    "made of random numbers": ({"init_lora_weights": "pissa_niter_4"}, "cannot be restored"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_be_trained_on_is_refused_with_a_sentence(base: LocalModel, kind: str) -> None:
    settings, said = REFUSED[kind]
    model, _ = adapted(base, **settings)
    with pytest.raises(RequestError, match=said):
        load_policy(model, spec(lora=LORA))


def test_virtual_tokens_are_refused_with_a_sentence(base: LocalModel) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base.folder)
    config = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(base.folder.with_name("adapter"))
    with pytest.raises(RequestError, match=r"The adapter in spec\.model cannot be trained on: .*prompt"):
        load_policy(LocalModel(base.folder.with_name("adapter"), base.folder), spec(lora=LORA))


def test_target_modules_with_the_head_are_refused_by_name(base: LocalModel) -> None:
    with pytest.raises(RequestError, match=r"targetModules 'q_proj,lm_head' names the language-model head"):
        load_policy(base, spec(lora=LORA | {"targetModules": "q_proj,lm_head"}))


def test_of_the_settings_for_an_adapter_that_is_there_only_dropout_counts_and_the_log_says_so(
    base: LocalModel, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = adapted(base)
    with caplog.at_level(logging.WARNING):
        load_policy(model, spec(lora=LORA))
        load_policy(base, spec(lora=LORA), warm=model.folder)
        assert not caplog.messages, "nothing else was asked for"
        policy = load_policy(model, spec(lora={"rank": 64, "alpha": 8, "dropout": 0.2}))
    (said,) = caplog.messages
    assert "its own rank 4, alpha 8 and modules: rank 64, alpha 8" in said
    policy.train()
    assert not torch.equal(scores(policy), scores(policy)), "dropout is on"
    assert policy.peft_config[ADAPTER].lora_dropout == 0.2


def test_an_adapter_that_was_trained_with_dropout_is_trained_on_without_when_none_is_asked_for(
    base: LocalModel,
) -> None:
    model, want = adapted(base, lora_dropout=0.5)
    policy = load_policy(model, spec(lora=LORA))
    policy.train()
    torch.testing.assert_close(scores(policy), want)
