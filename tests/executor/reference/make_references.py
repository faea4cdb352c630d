#!/usr/bin/env python3
"""Tiny models with what `transformers` computes for them, for the tests of the executor: see README.md.

    python make_references.py [NAME...]     writes the folders beside this file; all of them without names
"""

import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DeepseekV3Config, MixtralConfig, Qwen3MoeConfig

HERE = pathlib.Path(__file__).parent
BATCH, SEQ_LEN, VOCAB = 2, 32, 256
# Rounding moves scores by some 1e-6: with this gap between the last expert chosen and the best that is not, any
# correct fp32 program chooses alike.
SMALLEST_GAP = 1e-4

COMMON = dict(
    vocab_size=VOCAB,
    num_hidden_layers=4,
    num_attention_heads=4,
    max_position_embeddings=64,
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=None,
    use_cache=False,
)
QWEN = dict(
    hidden_size=32,
    head_dim=16,
    num_key_value_heads=2,
    intermediate_size=64,
    moe_intermediate_size=16,
    num_experts=8,
    num_experts_per_tok=4,
)


def rope(base):
    return {"rope_type": "default", "rope_theta": base}


CONFIGS = {
    "mixtral": MixtralConfig(
        **COMMON,
        hidden_size=48,
        head_dim=16,
        num_key_value_heads=2,
        intermediate_size=16,
        num_local_experts=8,
        num_experts_per_tok=2,
        rms_norm_eps=1e-5,
        rope_parameters=rope(1e6),
    ),
    "qwen3_moe": Qwen3MoeConfig(**COMMON, **QWEN, norm_topk_prob=True, rope_parameters=rope(1e4)),
    # Layers 0 and 2 are dense.
    "mixed": Qwen3MoeConfig(
        **COMMON,
        **QWEN,
        norm_topk_prob=False,
        decoder_sparse_step=2,
        mlp_only_layers=[0],
        rope_parameters=rope(500.0),
    ),
    # rms_norm_eps is large enough to see that the norms of the two latent streams do not take part in it.
    "deepseek_v3": DeepseekV3Config(
        **COMMON,
        hidden_size=32,
        num_key_value_heads=4,
        q_lora_rank=24,
        kv_lora_rank=16,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        v_head_dim=16,
        intermediate_size=64,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        n_routed_experts=16,
        n_shared_experts=1,
        num_experts_per_tok=4,
        n_group=4,
        topk_group=2,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        num_nextn_predict_layers=0,
        rms_norm_eps=1e-3,
        rope_parameters=rope(1e4),
    ),
}


def make_model(config, seed):
    """Weights large enough for gradients that are not tiny, routers that are sure of their choice."""
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            normal = torch.randn(weight.shape, generator=random)
            if name.endswith("e_score_correction_bias"):
                weight.copy_(0.1 * normal)
            elif name.endswith("embed_tokens.weight"):
                weight.copy_(0.5 * normal)
            elif name.endswith("mlp.gate.weight"):
                weight.copy_(0.3 * normal)
            elif weight.dim() > 1:
                weight.copy_(0.15 * normal)
            elif name.endswith("norm.weight"):
                weight.copy_(1 + 0.2 * normal)
            else:
                assert name.endswith("inv_freq"), name
    tokens = torch.randint(VOCAB, (BATCH, SEQ_LEN + 1), generator=random, dtype=torch.int32)
    return model.eval(), tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def gap(scores, k):
    best = scores.sort(dim=-1, descending=True).values
    return (best[:, k - 1] - best[:, k]).min().item() if scores.shape[-1] > k else float("inf")


def watch_routers(model):
    """A list to which every router that is called adds its smallest gap, and the number of experts without a token."""
    seen = []

    def look(router, _, output):
        logits, _, chosen = output
        if hasattr(router, "e_score_correction_bias"):
            scores = logits.sigmoid() + router.e_score_correction_bias
            of_group = scores.unflatten(-1, (router.num_group, -1)).topk(2).values.sum(-1)
            in_group = torch.zeros_like(of_group).scatter(1, of_group.topk(router.topk_group).indices, 1)
            allowed = in_group.repeat_interleave(scores.shape[-1] // router.num_group, dim=-1).bool()
            smallest = min(gap(of_group, router.topk_group), gap(scores.masked_fill(~allowed, -9), router.top_k))
        else:
            smallest = gap(logits.softmax(-1), router.top_k)
        seen.append((smallest, logits.shape[-1] - chosen.unique().numel()))

    for name, module in model.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(look)
    return seen


def gradients_by_name(model):
    """Saved as if they were the weights, so that names and orientation are those of the checkpoint."""
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for weight in model.parameters():
            weight.copy_(weight.grad)
        model.save_pretrained(folder)
        saved = load_file(f"{folder}/model.safetensors")
    return {name: gradient for name, gradient in saved.items() if not name.endswith("e_score_correction_bias")}


def make(name, seed):
    """False where this seed's routers are not sure, or leave an expert without a token."""
    model, tokens, targets = make_model(CONFIGS[name], seed)
    seen = watch_routers(model)
    logits = model(input_ids=tokens.long()).logits
    if min(smallest for smallest, _ in seen) < SMALLEST_GAP or any(idle for _, idle in seen):
        return False

    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # The mean over all tokens; targets are given, not shifted.
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long())
    loss.backward()
    reread = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager")
    assert torch.equal(reread(input_ids=tokens.long()).logits, logits)

    gradients = gradients_by_name(model)
    assert all(gradient.abs().max() > 1e-5 for gradient in gradients.values())
    reference = dict(tokens=tokens, targets=targets, logits=logits.detach(), loss=loss.detach())
    save_file({**reference, **gradients}, folder / "reference.safetensors")
    parameters = sum(gradient.numel() for gradient in gradients.values())
    smallest = min(gradient.abs().max().item() for gradient in gradients.values())
    print(
        f"{name}: seed {seed}, {parameters} parameters, loss {loss.item():.4f},"
        f" smallest gap {min(each for each, _ in seen):.2g}, least of the largest gradients {smallest:.2g}"
    )
    return True


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or CONFIGS:
        next(seed for seed in range(1000) if make(name, seed))


if __name__ == "__main__":
    main()
