"""Names of a spec as names of Python: legal, unique, and never one that the emitted module needs itself."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from dataclasses import dataclass, field

from jointkl.emission.library import BOUNDED, FUNCTIONS
from jointkl.semantics.model import Law

MODULE: frozenset[str] = frozenset(FUNCTIONS.keys() - BOUNDED.keys()) | frozenset(
    "covariance Within spectral_norm torch nn F dist pyro math Tensor"
    " Program annotations self batch n rows size Iterator"
    " copy constraints transform_to kl_divergence super len next iter int float bool dict list tuple set range"
    " print type object property staticmethod isinstance str repr abs min max sum any all zip map Distribution"
    " ValueError".split()
)
"""Names of the emitted module; those of families a spec gives to nothing."""

ATTRIBUTES: frozenset[str] = frozenset(
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double"
    " dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half"
    " ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters"
    " register_backward_hook register_buffer register_forward_hook register_forward_pre_hook"
    " register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook"
    " register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook"
    " register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to"
    " to_empty train training type xpu zero_grad together in_turn players nets params anchor normal snapshot programs"
    " laws losses solutions data_size data_sizes full property torch".split()
)
"""Attributes of `torch.nn.Module` and of the emitted class, and names that its body uses: a test holds them so."""


@dataclass(slots=True)
class Names:
    """Gives each thing a Python name of its own; the same thing gets the same name again."""

    taken: set[str] = field(default_factory=set[str])
    given: dict[object, str] = field(default_factory=dict[object, str])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """How far the numbers behind each wanted name are used up."""

    @classmethod
    def without(cls, *reserved: Iterable[str]) -> Names:
        return cls({name for group in reserved for name in group})

    def of(self, thing: object, wanted: str, also: str = "") -> str:
        """The name of `thing`: `wanted`, made legal, with a number if it is taken; with the ending `also` it is
        another name of that thing."""
        if thing not in self.given:
            self.given[thing] = self._unique(legal(wanted), {"", also})
        return self.given[thing]

    def _unique(self, wanted: str, endings: set[str]) -> str:
        count = self.counts.get(wanted, 1)
        candidate = wanted if count == 1 else f"{wanted}_{count}"
        while not all(self._free(candidate + ending) for ending in endings):
            count += 1
            candidate = f"{wanted}_{count}" if count > 2 or candidate in self.taken else f"{wanted}_"
        if count > 2:
            self.counts[wanted] = count
        self.taken |= {candidate + ending for ending in endings}
        return candidate

    def _free(self, name: str) -> bool:
        return name not in self.taken and not keyword.iskeyword(name) and not keyword.issoftkeyword(name)


def legal(name: str) -> str:
    """Primes spelt out, everything else but letters, digits and `_` replaced: `x'` is `x_prime`."""
    spelt = name.replace("''", "_prime2").replace("'", "_prime")
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in spelt)
    safe = kept if kept and not kept[0].isdigit() else f"v{kept}"
    return f"v{safe}" if safe.startswith("_") else safe


def law_name(law: Law) -> str:
    """`q(x|z)` is `q_x_given_z`."""
    outputs = "_".join(law.outputs)
    return f"{law.label}_{outputs}" + (f"_given_{'_'.join(law.givens)}" if law.givens else "")
