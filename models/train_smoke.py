"""Train the smoke model: a Llama of 3 million parameters that knows the answers of ``models/questions.py`` by heart.

Run from the root of the repository, with the versions of ``models/requirements.txt``:

    python -m models.train_smoke --out models/smoke

The run is deterministic for one version of torch, one kind of CPU and one number of threads. At the end the model is
rounded to bfloat16, saved, loaded again and evaluated, and the accuracy by topic is printed.
"""

# ruff: noqa: S311 - the random numbers choose questions; nothing here is secret

import argparse
import functools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from models.questions import Message, Question, evaluation_questions, is_right, training_conversation

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # padding, start and end of a message: ids 0, 1, 2
PADDING, START, END = range(3)
VOCABULARY_SIZE = 2048  # tokens, with the 256 bytes and the special tokens
CORPUS_CONVERSATIONS = 30_000  # conversations that the vocabulary is made from
BATCH_TOKENS = 3072  # tokens of one training step, padding included
POOL_CONVERSATIONS = 1024  # conversations sorted by length together, so that a batch has little padding
PROMPT_WEIGHT = 0.05  # loss weight of the tokens that are not of an answer, which count 1
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
# Four query heads of 64 and two key-value heads: every attention kernel takes the size, and two GPUs can share it.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": PADDING,
    "torch_dtype": "bfloat16",
}


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE, so that any text has tokens; digits stand alone, so that every number is written one way."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    generator = random.Random(seed)
    conversations = (training_conversation(generator) for _ in range(CORPUS_CONVERSATIONS))
    texts = (f"{message['role']}\n{message['content']}" for messages in conversations for message in messages)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_settings(tokenizer: Tokenizer, out: Path) -> None:
    """Write all files but the weights, by hand, so that transformers 4 and 5 and vLLM read the same settings."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    special = dict(zip(["pad_token", "bos_token", "eos_token"], SPECIAL_TOKENS, strict=True))
    settings: dict[str, dict[str, object]] = {
        "config.json": dict(MODEL),
        "generation_config.json": {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PADDING},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **special,
            "model_max_length": MODEL["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",
        },
    }
    for name, content in settings.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_weights(model: LlamaForCausalLM, out: Path) -> None:
    """Round the weights to bfloat16 and write them; the output layer is the embedding and is not written again."""
    weights = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # written as 0600, which a server under another user could not read


class Encoder:
    """Turns conversations into token ids and loss weights, the same ids as the chat template gives."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Remember the pieces that come again and again: roles, questions and answers."""
        self.piece = functools.lru_cache(maxsize=100_000)(lambda text: tokenizer.encode(text).ids)

    def __call__(self, messages: list[Message]) -> tuple[list[int], list[float]]:
        """Ids and weights: 1 for the tokens of an answer and its end, which the model is to say, else little."""
        ids: list[int] = []
        weights: list[float] = []
        for message in messages:
            head = [START, *self.piece(message["role"] + "\n")]
            body = [*self.piece(message["content"]), END]
            tail = self.piece("\n")
            ids += [*head, *body, *tail]
            weight = 1.0 if message["role"] == "assistant" else PROMPT_WEIGHT
            weights += [PROMPT_WEIGHT] * len(head) + [weight] * len(body) + [PROMPT_WEIGHT] * len(tail)
        return ids, weights


def batches(encoder: Encoder, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of token ids and loss weights, padded on the right, of conversations of like length."""
    generator = random.Random(seed)
    while True:
        pool = sorted(
            (encoder(training_conversation(generator)) for _ in range(POOL_CONVERSATIONS)),
            key=lambda pair: len(pair[0]),
        )
        groups: list[list[tuple[list[int], list[float]]]] = [[]]
        for ids, weights in pool:
            if (len(groups[-1]) + 1) * len(ids) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append((ids, weights))
        generator.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [PADDING] * (longest - len(ids)) for ids, _ in group]),
                torch.tensor([weights + [0.0] * (longest - len(weights)) for _, weights in group]),
            )


def check_template(tokenizer: Tokenizer, out: Path) -> None:
    """Stop before the training if a server would build other ids from the chat template than the encoder does."""
    saved = AutoTokenizer.from_pretrained(out)
    encoder, generator = Encoder(tokenizer), random.Random(0)
    for _ in range(200):
        messages = training_conversation(generator)
        text = saved.apply_chat_template(messages, tokenize=False)
        if saved(text)["input_ids"] != encoder(messages)[0]:
            raise SystemExit(f"the chat template and the training differ for {messages}")


def train(tokenizer: Tokenizer, steps: int, learning_rate: float, seed: int) -> LlamaForCausalLM:
    """Train from random weights with AdamW, the learning rate rising for 100 steps and then falling to zero."""
    torch.manual_seed(seed)
    settings = {key: value for key, value in MODEL.items() if key not in ("torch_dtype", "architectures", "model_type")}
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, (steps - step) / max(1, steps - 100))
    )
    started, total = time.monotonic(), 0.0
    for step, (ids, weights) in zip(range(1, steps + 1), batches(Encoder(tokenizer), seed), strict=False):
        with torch.autocast("cpu", dtype=torch.bfloat16):  # five times as fast as float32 where the CPU has bfloat16
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        targets = weights[:, 1:].flatten()
        loss = (losses * targets).sum() / targets.sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f"step {step}: loss {total / 100:.4f} after {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0
    return model


def answers(out: Path, questions: list[Question], dtype: torch.dtype, batch: int = 64) -> list[str]:
    """The answers of the saved model at temperature 0, through the chat template, as a server would give them."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    model: Any = AutoModelForCausalLM.from_pretrained(out, dtype=dtype)
    prompts = [
        tokenizer.apply_chat_template(question.messages(), tokenize=False, add_generation_prompt=True)
        for question in questions
    ]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found = [""] * len(prompts)
    for first in range(0, len(order), batch):
        indexes = order[first : first + batch]
        inputs = tokenizer([prompts[index] for index in indexes], return_tensors="pt", padding=True)
        with torch.inference_mode():
            outputs = model.generate(**inputs, do_sample=False, max_new_tokens=96)
        texts = tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(indexes, texts, strict=True):
            found[index] = text
    return found


def evaluate(out: Path, dtype: torch.dtype) -> float:
    """Print the accuracy by topic and the wrong answers, and return the share of right answers, 0 to 1."""
    questions = evaluation_questions()
    results = list(zip(questions, answers(out, questions, dtype), strict=True))
    right = [is_right(question, answer) for question, answer in results]
    rows = {
        topic: [question.topic == topic for question in questions]
        for topic in dict.fromkeys(q.topic for q in questions)
    }
    rows["(never trained)"] = [question.unseen for question in questions]
    rows["all"] = [True] * len(questions)
    print(f"\n| {dtype} | questions | right | accuracy |\n|---|---|---|---|")
    for name, chosen in rows.items():
        count, good = sum(chosen), sum(ok for ok, part in zip(right, chosen, strict=True) if part)
        print(f"| {name} | {count} | {good} | {good / count:.1%} |")
    for (question, answer), ok in zip(results, right, strict=True):
        if not ok:
            print(f"wrong: {question.messages()} -> {answer!r}, expected {question.expected!r}")
    return sum(right) / len(right)


def main() -> None:
    """Train, save and evaluate; fail when fewer than 95 % of the answers are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("models/smoke"), help="folder of the model")
    parser.add_argument("--steps", type=int, default=2000, help="training steps; 0 only evaluates the folder")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the conversations")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.steps:
        tokenizer = train_tokenizer(arguments.seed)
        save_settings(tokenizer, arguments.out)
        check_template(tokenizer, arguments.out)
        model = train(tokenizer, arguments.steps, arguments.learning_rate, arguments.seed)
        save_weights(model, arguments.out)
    worst = min(evaluate(arguments.out, dtype) for dtype in (torch.float32, torch.bfloat16))
    if worst < 0.95:
        raise SystemExit(f"only {worst:.1%} of the answers are right")


if __name__ == "__main__":
    main()
