"""P-tuning in huggingface/peft's files: the vectors that the encoder makes, (l, D), as with prompt tuning.

Neither library keeps the encoder: with `inference_mode` peft takes the vectors as they are. So a folder can be used,
and not trained on with its encoder.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.counterpart_prefix import PROMPT_TUNING, SIZES, STACKS, read_prompt, write_prompt
from peft_helpers.methods.counterparts import Config, Tensors
from peft_helpers.methods.p_tuning import PTuning

ENCODER = ("encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers", "encoder_dropout")


def write_p_tuning(model: nn.Module) -> tuple[Config, Tensors]:
    """Ours as theirs; the encoder that made the vectors is named, though nobody needs it any more.

    Raises:
        ValueError: theirs would answer otherwise; see `counterpart_prefix`.
    """
    method: PTuning = model.adaptation.method
    config, tensors = write_prompt(model)
    kind = {"encoder_reparameterization_type": "LSTM" if method.encoder == "lstm" else "MLP"}
    return config | kind | {"encoder_hidden_size": method.hidden}, tensors


def read_p_tuning(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[PTuning, Tensors]:
    prompt, named = read_prompt(anatomy, config, tensors)
    return PTuning(prompt.length, encoder=None), named


P_TUNING = replace(
    PROMPT_TUNING,
    peft_type="P_TUNING",
    write=write_p_tuning,
    read=read_p_tuning,
    settings=dict.fromkeys((*SIZES, *ENCODER, STACKS)),
)
