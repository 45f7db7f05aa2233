"""Two text networks over bytes: a depthwise-separable one that is cheap, and a residual one that attends to context.

Both take integers `[N, L]`: the UTF-8 bytes of a normalised message, 0 where there is none. Every n-gram is hashed
inside the graph, in int32 that cannot overflow, so an exported model begins at the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from detectors.networks.module import Module
from pipeline.core.settings import Settings

AUTHOR, ROOM = 1, 2  # begin an earlier message of the author's, of the room's; the author's come first
URL, MENTION = 3, 4  # what normalisation leaves of a link, of an @mention
_SPACE = 32
_HASH = (1 << 15) - 1  # hashes keep 15 bits: the product of two of them fits int32
_SCANS = 4  # doublings: a word's hash sees its last 2**4 bytes
_FAR = 1e4  # subtracted from what attention must not look at


class TextArchitecture(Settings):
    """Enough to build it again around its weights: a `mobilenet` reads the message, a `resnet` its context, too."""

    backbone: Literal["mobilenet", "resnet"] = "resnet"
    classes: int = Field(default=2, ge=2, le=4096)

    @property
    def multiple(self) -> int:
        """What the bytes that it reads at once are a multiple of: all its strides, and its windows of attention."""
        return 8 if self.backbone == "mobilenet" else 64


class NgramHashes(Module):
    """int32 `[N, L]` bytes, the last of each row 0 → for every kind of n-gram int32 `[N, L]`: its row in one table, 0
    where there is none.

    Kinds, each ending at the position: the byte itself; `grams` bytes (multilinear hash, Carter & Wegman 1979); the
    word so far, whole with its end where it ends; two words in a row, where the second ends (hashed n-grams of words
    and characters: Bojanowski et al. 2017, arXiv 1607.04606; Weinberger et al. 2009, arXiv 0902.2206). A word's hash
    is the polynomial h ← a·h + b with a = 0 after a word's end; such steps compose, so a scan by doubling has it in
    four steps (Hillis & Steele 1986; Blelloch 1990).
    """

    def __init__(self, rows: int, grams: Sequence[int]) -> None:
        """`rows` of a kind: a power of two, at most 2**15."""
        super().__init__()
        self.rows, self.grams = rows, tuple(grams)
        self.kinds = len(self.grams) + 2
        source = torch.Generator().manual_seed(7)
        self.odd: list[int] = (torch.randint(0, 1 << 13, (16,), generator=source) * 2 + 1).tolist()  # below 2**14
        letters = [int(b in (URL, MENTION, 39) or b >= 128 or chr(b).isalnum()) for b in range(256)]
        self.register_buffer("letters", torch.tensor(letters, dtype=torch.int32)[:, None], persistent=False)

    @property
    def size(self) -> int:
        """Rows of the one table: 256 bytes, then every kind's."""
        return 256 + self.kinds * self.rows

    def forward(self, codes: Tensor) -> list[Tensor]:
        mask = self.rows - 1
        text = (codes > ROOM).int()
        letter = F.embedding(codes, self.letters)[..., 0]
        inside = _later(letter, 1)  # was the byte before part of a word?
        space = torch.full_like(codes, _SPACE)
        plain = torch.where(codes > ROOM, codes, space)
        found: list[Tensor] = []

        sums = plain * self.odd[0]
        for length in range(2, max(self.grams, default=1) + 1):
            sums = sums + _later(plain, length - 1, _SPACE) * self.odd[length - 1]
            if length in self.grams:
                found.append((sums & mask) * text)

        word = (torch.where(letter > 0, plain, space) * self.odd[7]) & _HASH
        factor = inside * self.odd[8]
        for scan in range(_SCANS):
            word = (word + factor * _later(word, 1 << scan)) & _HASH
            factor = (factor * _later(factor, 1 << scan)) & _HASH
        end = (1 - letter) * inside
        found.append((word & mask) * torch.maximum(text, end))

        whole = (word | 1) * end
        before = _later(whole, 1)  # the nearest word that ended earlier, carried forward in the same way
        for scan in range(_SCANS):
            before = torch.where(before == 0, _later(before, 1 << scan), before)
        found.append(((((whole * self.odd[9]) & _HASH) * 5 + before * 4097) & mask) * end)

        placed = [torch.where(kind > 0, kind + (256 + i * self.rows), kind) for i, kind in enumerate(found)]
        return [codes, *placed]


class HashedNgrams(Module):
    """int32 `[N, L]` → float `[N, L, width]`: the sum of the vectors of every n-gram that ends there.

    `fused` reads the table and adds in one operator, which OpenVINO has and does in less time; ONNX has none: set it
    to False before exporting there. In training each n-gram is left out with probability `drop` (word dropout,
    Iyyer et al. 2015, DAN).
    """

    def __init__(self, rows: int, width: int, grams: Sequence[int], drop: float) -> None:
        super().__init__()
        self.hashes, self.drop = NgramHashes(rows, grams), drop
        self.fused = True
        self.table = nn.Embedding(self.hashes.size, width)
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[0] = 0  # nothing there; its gradient is kept away by `padding_idx`

    def forward(self, codes: Tensor) -> Tensor:
        rows = torch.stack(self.hashes(codes), 2)
        count, length, kinds = rows.shape
        if self.training:
            rows = rows * (torch.rand(rows.shape, device=rows.device) >= self.drop)
            flat = rows.reshape(-1, kinds).long()
            summed = F.embedding_bag(flat, self.table.weight, mode="sum", padding_idx=0) / (1 - self.drop)
        elif self.fused:
            summed = F.embedding_bag(rows.reshape(-1, kinds), self.table.weight, mode="sum")
        else:
            summed = self.table(rows).sum(2)
        return summed.reshape(count, length, -1)


class Separable(Module):
    """Depthwise, then pointwise convolution (MobileNet, Howard et al. 2017, arXiv 1704.04861), in one dimension:
    `[N, width, T]` → `[N, out, T / stride]`. Nothing is added to it where it changes neither width nor length."""

    def __init__(self, width: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(width, width, kernel, stride, kernel // 2, groups=width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, out, 1, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(),
        )
        self.residual = width == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class CheapText(Module):
    """A 1-D MobileNet over hashed n-grams: integers `[N, L]`, L a multiple of 8 → logits `[N, classes]`.

    The head sees the bag of n-grams (fastText, Joulin et al. 2016, arXiv 1607.01759) beside the mean and the maximum
    of the convolutions.
    """

    def __init__(
        self,
        classes: int = 3,
        *,
        rows: int = 1 << 13,
        width: int = 16,
        grams: Sequence[int] = (3, 5),
        channels: Sequence[int] = (32, 64, 64),
        kernels: Sequence[int] = (9, 5, 5),
        strides: Sequence[int] = (4, 2, 1),
        drop: float = 0.2,
        head_drop: float = 0.3,
    ) -> None:
        super().__init__()
        self.stem = HashedNgrams(rows, width, grams, drop)
        widths = [width, *channels]
        self.blocks = nn.Sequential(
            *(Separable(*each) for each in zip(widths[:-1], channels, kernels, strides, strict=True))
        )
        self.stride = 1
        for stride in strides:
            self.stride *= stride
        self.head = nn.Sequential(nn.Dropout(head_drop), nn.Linear(width + 2 * widths[-1], classes))

    def forward(self, codes: Tensor) -> Tensor:
        return self.judged(codes)[0]

    def judged(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the sum of n-grams at each byte `[N, L, width]`, 0 where the message is not."""
        codes = _ended(codes)
        there = (codes > 0).float()
        grams = self.stem(codes)
        bag = grams.sum(1) / there.sum(1, keepdim=True).clamp(min=1).sqrt()
        there = there[:, None, :: self.stride]
        maps = self.blocks(grams.transpose(1, 2)) * there  # never negative: what is outside is 0
        mean = maps.sum(2) / there.sum(2).clamp(min=1)
        return self.head(torch.cat([bag, mean, maps.amax(2)], 1)), grams


class Residual(Module):
    """Pre-activation residual block (He et al. 2016, arXiv 1603.05027) of two convolutions: `[N, T, width]` → the
    same. Layer norm, not batch norm: it does not care how much context a batch happens to have. `there` `[N, T, 1]`
    is 1 where there is text. Begins as the identity (Zhang et al. 2019, Fixup, arXiv 1901.09321)."""

    def __init__(self, width: int, kernel: int, drop: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.narrow = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.again = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(drop)
        nn.init.zeros_(self.again.weight)
        nn.init.zeros_(self.again.bias)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        y = _along(self.narrow, F.gelu(self.first(x)))
        y = _along(self.again, self.dropout(F.gelu(self.second(y))))
        return (x + y) * there


class LocalGlobalAttention(Module):
    """Attention in windows and to global tokens (Longformer, Beltagy et al. 2020, arXiv 2004.05150; tokens of their
    own as in ETC, Ainslie et al. 2020, arXiv 2004.08483): linear in length.

    `x` `[N, T, width]`, T a multiple of `window`; `there` `[N, T, 1]`; `tokens` `[N, G, width]` → new `x`, `tokens`.
    A position sees its own window, the one before, the one after, and every token; a token sees all positions and
    tokens. Begins as the identity.
    """

    def __init__(self, width: int, heads: int, window: int, drop: float) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.token_project = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.out, self.token_out = nn.Linear(width, width), nn.Linear(width, width)
        self.place = nn.Parameter(torch.zeros(heads, 1, window, 3 * window))  # where, as seen from where
        self.dropout = nn.Dropout(drop)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, there: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = self._split(self.project(self.norm(x)))
        asking, naming, telling = self._split(self.token_project(self.token_norm(tokens)))
        hidden = (there.transpose(1, 2) - 1)[:, None] * _FAR  # N, 1, 1, T

        seen = torch.cat([asking @ key.transpose(2, 3) + hidden, asking @ naming.transpose(2, 3)], -1).softmax(-1)
        tokens = tokens + self.dropout(self.token_out(_merged(seen @ torch.cat([value, telling], 2))))

        windows = self._windows(query)
        near = windows @ self._around(key).transpose(3, 4) + self.place
        near = near + self._around(hidden.transpose(2, 3), -_FAR).transpose(3, 4)
        whole = windows @ naming.transpose(2, 3)[:, :, None]
        weights = torch.cat([near, whole], -1).softmax(-1)
        reach = 3 * self.window
        y = weights[..., :reach] @ self._around(value) + weights[..., reach:] @ telling[:, :, None]
        y = self.out(_merged(y.flatten(2, 3)))
        return x + self.dropout(y) * there, tokens

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[N, T, 3·width]` → queries (scaled), keys, values `[N, heads, T, depth]`."""
        count, _, width = projected.shape
        depth = width // (3 * self.heads)
        query, key, value = projected.reshape(count, -1, 3, self.heads, depth).permute(2, 0, 3, 1, 4).unbind(0)
        return query * depth**-0.5, key, value

    def _windows(self, x: Tensor) -> Tensor:
        """`[N, H, T, D]` → `[N, H, T / window, window, D]`."""
        return x.unflatten(2, (-1, self.window))

    def _around(self, x: Tensor, beyond: float = 0.0) -> Tensor:
        """`[N, H, T, D]` → `[N, H, T / window, 3·window, D]`: each window between its neighbours; `beyond` stands
        where there is no neighbour."""
        x = self._windows(x)
        padded = F.pad(x, (0, 0, 0, 0, 1, 1), value=beyond)
        return torch.cat([padded[:, :, :-2], x, padded[:, :, 2:]], 3)


class HeavyText(Module):
    """A 1-D ResNet over hashed n-grams that attends to its context: integers `[N, L]`, L a multiple of 64 → logits
    `[N, classes]`.

    The message comes first; then each earlier message of the author's behind a byte `AUTHOR`, then those of the room
    behind `ROOM`. Only the message is pooled: the context reaches the answer through attention and the tokens.
    """

    def __init__(
        self,
        classes: int = 3,
        *,
        rows: int = 1 << 14,
        width: int = 32,
        grams: Sequence[int] = (3, 4, 5),
        channels: int = 96,
        heads: int = 4,
        window: int = 16,
        tokens: int = 2,
        drop: float = 0.2,
        block_drop: float = 0.1,
        head_drop: float = 0.3,
    ) -> None:
        super().__init__()
        self.stem = HashedNgrams(rows, width, grams, drop)
        self.part = nn.Embedding(3, width)
        nn.init.normal_(self.part.weight, std=0.02)
        self.patch = nn.Conv1d(width, channels, 7, 4, 3)
        self.blocks = nn.ModuleList(Residual(channels, 3, block_drop) for _ in range(2))
        self.attention = nn.ModuleList(LocalGlobalAttention(channels, heads, window, block_drop) for _ in range(2))
        self.tokens = nn.Parameter(torch.randn(1, tokens, channels) * 0.1)
        self.norm, self.token_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.head = nn.Sequential(nn.Dropout(head_drop), nn.Linear(width + (2 + tokens) * channels, classes))

    def forward(self, codes: Tensor) -> Tensor:
        return self.judged(codes)[0]

    def judged(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the sum of n-grams at each byte `[N, L, width]`, 0 where the message is not."""
        codes = _ended(codes)
        there = (codes > 0).float()[..., None]
        author = (torch.cumsum((codes == AUTHOR).int(), 1) > 0).int()
        room = (torch.cumsum((codes == ROOM).int(), 1) > 0).int()
        part = torch.maximum(author, 2 * room)
        own = there * (part == 0).float()[..., None]

        grams = self.stem(codes)
        bag = (grams * own).sum(1) / own.sum(1).clamp(min=1).sqrt()
        x = _along(self.patch, (grams + self.part(part)) * there)
        whole = own
        there, own = there[:, ::4], own[:, ::4]
        x = x * there
        tokens = self.tokens.expand(x.shape[0], -1, -1)
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = block(x, there)
            x, tokens = attention(x, there, tokens)
        x = self.norm(x)
        mean = (x * own).sum(1) / own.sum(1).clamp(min=1)
        most = (x * own - (1 - own) * 20).amax(1)
        return self.head(torch.cat([bag, mean, most, self.token_norm(tokens).flatten(1)], 1)), grams * whole


def _ended(codes: Tensor) -> Tensor:
    """int32, and the last byte of each row given up for the 0 that ends every word."""
    return F.pad(codes.int()[:, :-1], (0, 1))


def _later(x: Tensor, steps: int, fill: int = 0) -> Tensor:
    """`[N, L]` → the same, `steps` later, `fill` before."""
    return F.pad(x[:, :-steps], (steps, 0), value=fill)


def _along(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of `[N, T, width]`."""
    return convolution(x.transpose(1, 2)).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    """`[N, heads, T, depth]` → `[N, T, width]`."""
    return x.transpose(1, 2).flatten(2)


def text_network(architecture: TextArchitecture) -> CheapText | HeavyText:
    """With its first weights."""
    return (CheapText if architecture.backbone == "mobilenet" else HeavyText)(architecture.classes)


class Reading(Module):
    """A network as it is exported: uint8 `[N, L]` → probabilities `[N, C]`, and for each label the byte whose n-grams
    speak most for it, int32 `[N, C]`: the head is linear in the bag of n-grams, so that each has its own part in the
    logit."""

    def __init__(self, network: CheapText | HeavyText) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        logits, grams = self.network.judged(codes)
        linear = self.network.head[-1]
        parts = grams @ linear.weight[:, : grams.shape[2]].T
        return logits.softmax(1), parts.argmax(1).int()
