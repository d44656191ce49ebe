"""Writes a tiny random BLIP-2: `python tiny_vision_model.py OUT TOKENIZER`, with the engines' interpreter.

Of the vision models that vLLM 0.32 knows it is one that needs no torchvision. It says nothing sensible, but it reads
images: each is QUERY_TOKENS of the prompt.
"""

from __future__ import annotations

import sys

QUERY_TOKENS = 8
CONTEXT_TOKENS = 8192  # long enough for an answer that is still being written when a test has looked at it
SIDE = 28  # of an image as the model sees it


def write(out: str, tokenizer_folder: str) -> None:
    """The model with its processor, as engines load it."""
    import torch
    from transformers import (
        AddedToken,
        AutoTokenizer,
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
    )

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.add_tokens([AddedToken("<image>", normalized=False, special=True)])
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "hidden_size": 32}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(image_size=SIDE, patch_size=14, **small),
        qformer_config=Blip2QFormerConfig(vocab_size=100, encoder_hidden_size=32, cross_attention_frequency=1, **small),
        text_config=OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            word_embed_proj_dim=64,
            ffn_dim=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        num_query_tokens=QUERY_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    Blip2ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(out)
    parts = "{% for part in message['content'] if part['type'] != 'image' %}{{ part['text'] }}{% endfor %}"
    template = (
        "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}"
        "{% else %}" + parts + "{% endif %}{% endfor %}"
    )
    Blip2Processor(
        BlipImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer,
        num_query_tokens=QUERY_TOKENS,
        chat_template=template,
    ).save_pretrained(out)


if __name__ == "__main__":
    write(*sys.argv[1:])
