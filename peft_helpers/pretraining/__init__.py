"""How the pocket models were made: text → tokenizer → objective → one resumable loop → Hub folder with a model card.

| module | holds |
|---|---|
| `corpora` | sentences and passages of plain text, without evaluation sets |
| `structure` | attribute lists beside sentences that say the same, made by a grammar |
| `tokenizers` | WordPiece and byte-level BPE, trained on that text |
| `encoder` | masked language modeling and distillation: `pocket-bert` |
| `decoder` | causal language modeling: `pocket-gpt2` |
| `denoising` | restoring damaged text: `pocket-bart` |
| `loop` | the training loop that they share |
| `shipping` | the Hub folder, its card, the page of loss curves |

`python -m peft_helpers.pretraining --help` lists the commands; each continues where it was stopped.
"""
