"""What the encoder families have in common: embeddings, a run through layers, a pooler."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrained_configs.config import ModelConfig
from pytorch_modeling.layers import Embeddings, counted_position_ids, position_ids
from pytorch_modeling.packing import Packing, has_kernel, packing_of


class Encoder(nn.Module, ABC):
    """Embeddings and layers; with a pooler for tasks that read the whole input's pooled state.

    A family adds its layers and says in which order they run, and with what beside their input.
    """

    def __init__(self, config: ModelConfig, *, pooled: bool) -> None:
        """Build an encoder; its weights are PyTorch's defaults until initialised or loaded."""
        super().__init__()
        #: How many of the first layers are computed again in backward instead of keeping what they computed.
        self.n_recomputed = 0
        self.position_offset = config.family.position_offset
        #: The row of the position table that is padding's alone; None where padding counts on.
        self.padding_row = config.pad_token_id if config.family.padding_row else None
        self.pooled_token = config.family.pooled_token
        self.head_size = config.hidden_size // config.num_attention_heads
        #: Whether padding is left out where there is a kernel for that: there is none that knows distances.
        self.packs = config.position_embedding_type == "absolute"
        self.embeddings = Embeddings(config)
        projected = config.embedding_projection == "output"
        self.projection = nn.Linear(config.embedding_size, config.hidden_size) if projected else None
        self.build_layers(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None

    @abstractmethod
    def build_layers(self, config: ModelConfig) -> None:
        """Create the modules of the layers."""

    @abstractmethod
    def layer_sequence(self) -> Iterable[nn.Module]:
        """Return the layers in the order in which they run; one may occur more than once."""

    def layer_arguments(self, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Return what every layer is given beside its input: here which positions may be attended to.

        Args:
            attention_mask: int [B, S].
            token_type_ids: int [B, S].
        """
        return (attention_mask.bool()[:, None, None, :],)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        hidden_states: list[Tensor] | None = None,
        host_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode a batch.

        Args:
            input_ids: int [B, S].
            attention_mask: int [B, S], 1 = real token, at least one per row.
            token_type_ids: int [B, S].
            hidden_states: if given, the embeddings' output [B, S, E], the first layer's input and every layer's
                output [B, S, H] are appended to it.
            host_mask: the mask as bool [B, S] on the CPU, if padding may be left out; not with `hidden_states`.

        Returns:
            [B, S, H], the last layer's output; of padding whatever it happens to be.
        """
        states = hidden_states if hidden_states is not None else _Forgetful()
        inputs = (input_ids, token_type_ids, self.positions(input_ids, attention_mask))
        packing = self._packing(host_mask, input_ids.device)
        x = self.embeddings(*(inputs if packing is None else map(packing.packed, inputs)))
        states.append(x)
        if self.projection is not None:
            # What layers are added to stays in float32; a CPU's autocast would leave it in bfloat16 from here on.
            x = self.projection(x).float()
        states.append(x)
        arguments = self.layer_arguments(attention_mask, token_type_ids) if packing is None else (packing,)
        for i, layer in enumerate(self.layer_sequence()):
            recomputed = i < self.n_recomputed and torch.is_grad_enabled()
            x = checkpoint(layer, x, *arguments, use_reentrant=False) if recomputed else layer(x, *arguments)
            states.append(x)
        return x if packing is None else packing.padded(x, *input_ids.shape)

    def _packing(self, host_mask: Tensor | None, device: torch.device) -> Packing | None:
        if host_mask is None or not self.packs or not has_kernel(device, self.head_size):
            return None
        return packing_of(host_mask, device)

    def positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the row of the position table that each token takes, int64 [B, S]."""
        if self.padding_row is None:
            return position_ids(attention_mask, self.position_offset)
        return counted_position_ids(input_ids, attention_mask, self.padding_row)

    def pool(self, sequence_output: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool [B, S, H] at each row's first or last real token, as the family does -> [B, H]."""
        assert self.pooler is not None, "this encoder was built without a pooler"
        return torch.tanh(self.pooler(self.pooled_state(sequence_output, attention_mask)))

    def pooled_state(self, sequence_output: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the state of [B, S, H] that is pooled, that of each row's first or last real token, [B, H]."""
        real = attention_mask.to(torch.int32)
        token = real.argmax(dim=1) if self.pooled_token == "first" else real.cumsum(dim=1).argmax(dim=1)
        rows = torch.arange(token.shape[0], device=token.device)
        return sequence_output[rows, token]


def compile_layers(encoder: Encoder) -> None:
    """Compile the layers, each once per shape of its input; layers of one class share what is compiled."""
    # Dropout on a CPU is left out of what is compiled: no need to say so.
    torch._logging.set_logs(dynamo=logging.ERROR)
    # Lengths are multiples of 32: at most 16 shapes, in training and in evaluation, and an epoch's last batch.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for layer in set(encoder.layer_sequence()):
        layer.compile(dynamic=False)
    # Every batch has another number of real tokens.
    encoder.packs = False


class _Forgetful(list[Tensor]):
    """A list that keeps nothing, so that no layer's output outlives its use."""

    def append(self, value: Tensor) -> None:
        """Drop the value."""
