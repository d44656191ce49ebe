"""A random model of the chat model's kind and tokenizer, small enough to train in seconds. For the engine environment:
`tiny_model.py SOURCE TARGET`."""

import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

source, target = sys.argv[1:]
config = AutoConfig.from_pretrained(source)
config.hidden_size, config.intermediate_size, config.num_hidden_layers = 32, 64, 2
config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 8
torch.manual_seed(1)
AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
