"""Conversations as the model's own chat template and our training template render them, as JSON. For the engine
environment: `template_texts.py MODEL_FOLDER TEMPLATE`."""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

USER, ANSWER = {"role": "user", "content": "Two  chairs,\n please"}, {"role": "assistant", "content": " {} "}
SYSTEM = {"role": "system", "content": "Answer in JSON."}
CONVERSATIONS = [[USER, ANSWER], [SYSTEM, USER, ANSWER], [USER, ANSWER | {"weight": 0}, USER, ANSWER], [SYSTEM, ANSWER]]

folder, template = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)


def texts() -> list[str]:
    """As the tokenizer renders them now."""
    return [tokenizer.apply_chat_template(messages, tokenize=False) for messages in CONVERSATIONS]


own = texts()
tokenizer.chat_template = Path(template).read_text()
learned = []
for messages in CONVERSATIONS:
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    learned.append(tokenizer.decode([id for id, is_learned in pairs if is_learned]))
print(json.dumps({"own": own, "training": texts(), "learned": learned}))
