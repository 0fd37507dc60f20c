"""Small tokenizers of every kind that models have, written as a model's directory holds them."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).parents[4]
SMOKE = ROOT / "models" / "smoke"
CHAT_ML = (SMOKE / "chat_template.jinja").read_text("utf-8")
LLAMA_2 = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""As Llama 2's: special tokens in the text, a space before the content, and roles that it refuses."""


def corpus() -> list[str]:
    """The words of this repository's own papers."""
    return [path.read_text("utf-8") for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")]


def write(folder: Path, tokenizer: Tokenizer, template: str | None, **settings: Any) -> Path:
    """A model's directory."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def word_level(folder: Path) -> Path:
    """Every token is one word, as models with random weights have it."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"tok{number}": number for number in range(3, 3000)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    return write(folder, tokenizer, template, bos_token="<s>", eos_token="</s>")


def sentence_piece(folder: Path) -> Path:
    """BPE with bytes for what it does not know, spaces as ▁ and one put in front: as Llama 2 and Mistral 7B."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    alphabet = [f"<0x{number:02X}>" for number in range(256)]
    special = [AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")]
    tokenizer.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=1800, special_tokens=special, show_progress=False)
    )
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {text: len(vocabulary) + number for number, text in enumerate(alphabet)}
    # Llama 2's file marks spaces by a normalizer and does not part words before merging.
    content["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    settings = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "tokenizer_class": "LlamaTokenizer"}
    return write(folder, tokenizer, LLAMA_2, bos_token={"content": "<s>"}, eos_token="</s>", **settings)


def unigram(folder: Path) -> Path:
    """Unigram with ▁, as T5 and many embedding models."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return write(folder, tokenizer, CHAT_ML)


def word_piece(folder: Path) -> Path:
    """Lower case, ``##`` and [CLS] … [SEP], cut at 64 and filled up to 64, as BERT's sentence encoders."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding(length=64)
    return write(folder, tokenizer, None)


def characters(folder: Path) -> Path:
    """Each byte a token: no word is one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: number for number, text in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return write(folder, tokenizer, CHAT_ML)


KINDS = {
    "word-level": word_level,
    "sentence-piece": sentence_piece,
    "unigram": unigram,
    "word-piece": word_piece,
    "characters": characters,
}
