"""Makes a tiny random Llama model with its tokenizer: what the CPU engine serves when nothing may be downloaded.

The weights are random but not arbitrary. A Llama at its default initialisation is useless for proving that a KV cache
arrived intact: its greedy text hardly depends on the prompt. Here attention is sharp and outweighs the token embedding
in the residual stream, so that the first KV block of a prompt changes the text that follows its last one, and
`assert_text_depends_on_every_block` refuses to hand out a model for which that does not hold.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20480
VOCABULARY = 2048
BLOCK_TOKENS = 128
"""Tokens per KV block of vLLM's CPU backend (vllm/platforms/cpu.py)."""

CONFIG = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=16384,
    tie_word_embeddings=False,
    bos_token_id=0,
    eos_token_id=1,
    dtype="float32",
)

WEIGHT_SCALE = {
    "embed_tokens": 0.3,
    "q_proj": 0.12,
    "k_proj": 0.12,
    "v_proj": 0.15,
    "o_proj": 0.15,
    "gate_proj": 0.06,
    "up_proj": 0.06,
    "down_proj": 0.06,
    "lm_head": 0.3,
}
"""Standard deviation of each weight matrix, by the name of its layer.

A unit-variance input of width 256 leaves `q_proj` and `k_proj` with a standard deviation of 0.12 * 16 = 1.9, hence
attention logits of about 1.9^2 = 3.7: sharp enough to single out tokens anywhere in the prompt.
"""

CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def corpus() -> Iterator[str]:
    """Yields the descriptions of the locked packages: text that needs no download and changes only with the lock."""
    locked = [str(Path(torch.__file__).parents[1])]
    for distribution in sorted(metadata.distributions(path=locked), key=lambda d: d.name.lower()):
        yield distribution.metadata.get_payload()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer, for which no text is out of vocabulary.

    Raises:
        RuntimeError: the corpus is too small for the vocabulary.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    if bpe.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"the corpus yields {bpe.get_vocab_size()} tokens, {VOCABULARY} are needed: add text")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",  # noqa: S106  (a token of text, not a secret)
        eos_token="</s>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONFIG.max_position_embeddings,
    )


def words(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of the tokens that read as a word, in the order of the vocabulary."""
    return [i for i in range(VOCABULARY) if (text := tokenizer.decode([i]).strip()).isascii() and text.isalpha()]


def make_model(spoken: list[int]) -> LlamaForCausalLM:
    """Draws the weights. The model speaks only the tokens in `spoken`: it ends no text early, no character halfway."""
    model = LlamaForCausalLM(CONFIG).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() == 2:
                weight.normal_(0, WEIGHT_SCALE[name.split(".")[-2]], generator=generator)
        silent = torch.ones(VOCABULARY, dtype=torch.bool)
        silent[spoken] = False
        model.lm_head.weight[silent] = 0
    return model


def assert_text_depends_on_every_block(model: LlamaForCausalLM, spoken: list[int]) -> None:
    """Checks that prompts which differ in one KV block only are continued by different texts, whichever block it is.

    Raises:
        RuntimeError: two prompts are continued alike, so equal texts would prove nothing about the KV cache.
    """
    generator = torch.Generator().manual_seed(SEED)
    blocks, new_tokens = 4, 16

    def draw(tokens: int) -> torch.Tensor:
        return torch.tensor(spoken)[torch.randint(len(spoken), (tokens,), generator=generator)]

    base = draw(blocks * BLOCK_TOKENS + 1)
    prompts = [base]
    for block in range(blocks):
        changed = base.clone()
        changed[block * BLOCK_TOKENS : (block + 1) * BLOCK_TOKENS] = draw(BLOCK_TOKENS)
        prompts.append(changed)
    batch = torch.stack(prompts)
    with torch.no_grad():
        texts = model.generate(
            batch, attention_mask=torch.ones_like(batch), max_new_tokens=new_tokens, do_sample=False, pad_token_id=1
        )[:, base.numel() :].tolist()
    for (i, one), (j, other) in itertools.combinations(enumerate(texts), 2):
        if one == other:
            raise RuntimeError(f"prompts {i} and {j} are continued by the same text: sharpen WEIGHT_SCALE")
    if any(len(set(text)) < new_tokens // 2 for text in texts):
        raise RuntimeError(f"a text repeats itself, it carries too little information: {texts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="folder to write the model and the tokenizer to")
    directory = parser.parse_args().directory
    tokenizer = make_tokenizer()
    spoken = words(tokenizer)
    model = make_model(spoken)
    assert_text_depends_on_every_block(model, spoken)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    print(
        f"{directory}: {model.num_parameters():,} parameters, {len(spoken)} of {VOCABULARY} tokens spoken",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
