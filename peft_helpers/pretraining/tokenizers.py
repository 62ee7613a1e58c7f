"""Training the tokenizers: WordPiece without case for the encoder, byte-level BPE for the decoders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BART_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
END_OF_TEXT = "<|endoftext|>"


def train_wordpiece(texts: Iterable[str], out: Path, vocabulary: int, longest: int) -> None:
    """Train an uncased WordPiece tokenizer and save it as transformers' `BertTokenizer` files."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizer

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            min_frequency=3,
            limit_alphabet=1000,
            special_tokens=BERT_SPECIAL,
            show_progress=False,
        ),
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizer(tokenizer_object=made, do_lower_case=True, model_max_length=longest).save_pretrained(out)


def train_byte_bpe(texts: Iterable[str], out: Path, kind: str, vocabulary: int, longest: int) -> None:
    """Train a byte-level BPE tokenizer and save it as transformers' `GPT2Tokenizer` or `BartTokenizer` files.

    Args:
        texts: what to learn merges from.
        out: a folder.
        kind: "gpt2" (one special token, `<|endoftext|>`, which also pads) or "bart" (`<s> … </s>` around each text).
        vocabulary: how many tokens, the 256 bytes and the special ones included.
        longest: the model's positions.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import BartTokenizer, GPT2Tokenizer

    special = [END_OF_TEXT] if kind == "gpt2" else BART_SPECIAL
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if kind == "gpt2":
        made.post_processor = processors.ByteLevel(trim_offsets=False)
        tokenizer = GPT2Tokenizer(tokenizer_object=made, pad_token=END_OF_TEXT, model_max_length=longest)
    else:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        tokenizer = BartTokenizer(tokenizer_object=made, model_max_length=longest)
    tokenizer.save_pretrained(out)
