"""Mutated specs: what a hand slips into, and what an enemy would write. Every input follows from a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from tests import mistakes

ROOT = Path(__file__).parents[2]
MODELS = [p.read_text() for p in sorted((ROOT / "models").glob("*.jkl"))]
BAD = [m.spec for m in mistakes.every()]
SMALL = [
    "data(x) = evidence()\nvar x: {0..2}\nvar z: {0, 1}\nparam a: real\nparam b: real[2,3]\n"
    "q(z) = Bernoulli(logits=a)\nq(x|z) = Categorical(logits=b[z])\nq(x) = q(z) * q(x|z)\n"
    "minimize KL(data(x) || q(x))\n",
    "data(x) = evidence()\nvar x, z: real[2]\nvar y: {0, 1}\nnet E = linear()\nnet G = linear()\nnet D = mlp(4)\n"
    "p(z|x) = Normal(E(x))\nq(z) = Normal(0, 1)\nq(x|z) = Normal(G(z), 0.5)\nd(y|x,z) = Bernoulli(D(x,z))\n"
    "m(x,z,y) = { y=1: 0.3 * data(x) * p(z|x); y=0: 0.7 * q(z) * q(x|z) }\n"
    "minimize KL(m(x,z,y) || data(x) * p(z|x) * d(y|x,z))\n",
    "var x: {0..2}\nvar z: binary[2]\nparam w: simplex[3]\nnet F = mlp(3)\np(x) = Categorical(w)\n"
    "p(z|x) = Bernoulli(F(x))\nq(x,z) = { k=0: p(x) * p(z|x); k=1: r(z) * r(x|z) }\nr(z) = Bernoulli(0.3)\n"
    "net H = linear()\nr(x|z) = Categorical(H(z))\n"
    "minimize CE(q(x,z) || r(z) * r(x|z)) + 2 * KL(p(x) || p(x)) over H\n",
]
TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|\d+\.\d+(?:[eE][-+]?\d+)?|\d+|[A-Za-z_]\w*\'*|\|\||\.\.|\s+|.', re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w*'*")
KEYWORDS = (
    "var param net let player train minimize maximize over with global old max KL CE R1 Free Delta Normal Bernoulli"
    " Categorical Laplace MultivariateNormal Gamma Dirichlet Poisson Uniform Binomial StudentT evidence ring8 digits"
    " mlp linear real positive unit binary natural simplex cholesky exp log softmax sum linspace cumprod data x z y q p"
).split()
PYTHON = (
    "class def lambda None True False import exec eval __import__ open os sys compile globals self __init__ __class__"
    " __builtins__ __dict__ super torch nn F dist pyro math Tensor Program batch n rows size forward len next iter int"
    " float print type object property return yield async await match case _ copy joined advantage covariance anchor"
    " full normal snapshot losses laws nets params players solutions programs parameters train training to double"
    " state_dict __del__ annotations data_size both value cost score leaf slope label head f r inf nan infer obs"
    " loss_a solve_a old_G q_x G_loc transform_to constraints kl_divergence __reduce__ __getattr__ __annotations__"
).split()
NUMBERS = (
    "0 -1 1 2 3 0.0 -0.5 0.5 1e99 1e-99 1e308 1e999 99999999999999999999 2147483648 4294967296 65537 1000000 -7 1/0 0/0"
    " 1/3 3.0 0.1 1e-5 100000 007 1_000 0x10 inf nan 1e400 1e-400 1e308*1e308 9e99/1e-99 123456789012345678901.5"
).split()
OPTIONS = (
    "game=minimax game=nonsaturating proximal=kl proximal=none proximal=dirac(0.5) proximal=dirac(0) drop=p(z|x)"
    " critic=D critic=T critic=C importance=1 importance=3 importance=0 estimate=monte_carlo estimate=score"
    " estimate=moments estimate=gradient estimate=x"
).split()
CHARACTERS = (
    "()[]{}|,;:=*+-/@.'\"#\\\n\r\t\f\v\0 _~!$%^&<>?`0123456789abcxyzKL"
    "\u2028\u2029\u00a0\u200b\ufeff\u0085\u03b8\u00e9\u2016\U0001d465\ud7ff"
)
EVIL = (
    '"""\nimport os\n',
    "\nimport os\nos.system('true')\n",
    "\\",
    "\r__import__('os')\r",
    "#\nexec('1')",
    '\\"""+exec("1")+"""',
    "{__import__('os')}",
    "%s%n",
    "'''",
    "\x0cimport os",
    "\u2028import os",
    "\n# -*- coding: utf-7 -*-\n",
    "\N{QUOTATION MARK}\\N{QUOTATION MARK}",
    "../../x",
)
"""What might end a string, a comment or a line of the emitted module; in texts and in the names of files."""


def mutated(chance: random.Random) -> tuple[str, str]:
    """A text and a name for it."""
    if chance.random() < 0.04:
        text = noise(chance)
    else:
        text = chance.choice(chance.choices((MODELS, BAD, SMALL), (2, 4, 4))[0])
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
            text = chance.choices(WAYS, WEIGHTS)[0](chance, text)
    name = f"a{chance.choice(EVIL)}b.jkl" if chance.random() < 0.1 else "<text>"
    return text[:20_000], name


def noise(chance: random.Random) -> str:
    match chance.randrange(3):
        case 0:
            return "".join(chance.choices(CHARACTERS, k=chance.randrange(80)))
        case 1:
            words = (*KEYWORDS, *PYTHON, *NUMBERS, *CHARACTERS)
            return " ".join(chance.choices(words, k=chance.randrange(60)))
        case _:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(60))).decode("latin-1")


# --- ways


def characters(chance: random.Random, text: str) -> str:
    i = chance.randrange(len(text) + 1)
    j = min(len(text), i + chance.choice((1, 1, 1, 2, 5, 20)))
    match chance.randrange(5):
        case 0:
            return text[:i] + text[j:]
        case 1:
            return text[:i] + text[i:j] * 2 + text[j:]
        case 2:
            return text[:i] + text[i:j][::-1] + text[j:]
        case 3:
            return text[:i] + chance.choice(CHARACTERS) + text[i:]
        case _:
            return text[:i] + chance.choice(EVIL) + text[i:]


def tokens(chance: random.Random, text: str) -> str:
    found = TOKEN.findall(text)
    solid = [i for i, t in enumerate(found) if not t.isspace()]
    if not solid:
        return text
    i, j = chance.choice(solid), chance.choice(solid)
    match chance.randrange(6):
        case 0:
            found[i] = ""
        case 1:
            found[i] += " " + found[i]
        case 2:
            found[i], found[j] = found[j], found[i]
        case 3:
            found[i] = found[j]
        case 4:
            found[i] = chance.choice((*KEYWORDS, *NUMBERS, *PYTHON))
        case _:
            other = TOKEN.findall(chance.choice(MODELS))
            k = chance.randrange(len(other))
            found[i:i] = other[k : k + chance.choice((1, 3, 8))]
    return "".join(found)


def lines(chance: random.Random, text: str) -> str:
    found = text.split("\n")
    i, j = chance.randrange(len(found)), chance.randrange(len(found))
    match chance.randrange(5):
        case 0:
            found.pop(i)
        case 1:
            found.insert(j, found[i])
        case 2:
            found[i], found[j] = found[j], found[i]
        case 3:
            found.insert(i, chance.choice(chance.choice((MODELS, SMALL))[0].split("\n")))
        case _:
            other = chance.choice(MODELS).split("\n")
            found[i:i] = chance.sample(other, min(len(other), chance.choice((1, 2, 5))))
    return "\n".join(found)


def names(chance: random.Random, text: str) -> str:
    """A name of the spec everywhere, or once, another of its names, or one of Python's."""
    known = sorted(set(NAME.findall(text)))
    if not known:
        return text
    old = chance.choice(known)
    new = chance.choice((chance.choice(known), chance.choice(PYTHON), f"{old}'", old * 40))
    pattern = re.compile(rf"(?<![\w']){re.escape(old)}(?![\w'])")
    if chance.random() < 0.6:
        return pattern.sub(lambda _: new, text)
    places = list(pattern.finditer(text))
    if not places:
        return text
    at = chance.choice(places)
    return text[: at.start()] + new + text[at.end() :]


def numbers(chance: random.Random, text: str) -> str:
    places = list(re.finditer(r"\d+(?:\.\d+)?", text))
    if not places:
        return text
    at = chance.choice(places)
    return text[: at.start()] + chance.choice(NUMBERS) + text[at.end() :]


def options(chance: random.Random, text: str) -> str:
    """Something behind a goal, or another weight before it."""
    goals = list(re.finditer(r"\b(?:minimize|maximize)\b[^\n]*", text))
    if not goals:
        return text
    at = chance.choice(goals)
    goal = at.group().split("#")[0].rstrip()
    known = sorted(set(re.findall(r"(?:net|param)\s+(\w+)", text)))
    match chance.randrange(5):
        case 0 | 1:
            goal += f"{',' if ' with ' in goal else ' with'} {chance.choice(OPTIONS)}"
        case 2:
            goal += f" over {chance.choice((*known, 'x'))}"
        case 3:
            goal = goal.replace("KL", chance.choice(("2 * KL", "-KL", "1/3 * KL", "CE", "R1", "max(0, 1 - KL")), 1)
        case _:
            goal = goal.replace("minimize", "maximize")
    return text[: at.start()] + goal + text[at.end() :]


def kinds(chance: random.Random, text: str) -> str:
    """A space, a family or a builder gives way to another."""
    groups = (
        ("real", "positive", "unit", "binary", "natural", "simplex[3]", "cholesky[2]", "{0, 1}", "{0..2}", "{3, 7}",
         "real[2]", "binary[2]", "binary[7]", "real[2,3]", "real global", "binary[9] global"),
        ("Normal", "Bernoulli", "Categorical", "Laplace", "Delta", "Poisson", "Gamma", "LogNormal", "Uniform", "Cauchy",
         "MultivariateNormal", "Dirichlet", "StudentT", "Binomial", "Geometric", "HalfNormal", "Free"),
        ("mlp(4)", "linear()", "mlp()", "linear(bias=false)", 'mlp(2, 2, activation="tanh")', "conv(3)"),
    )  # fmt: skip
    pattern = (
        r"(?<=: )(?:real|unit|binary|positive|simplex|cholesky|\{[^}\n]*\})(?:\[[^\]\n]*\])?",
        r"\b(?:Normal|Bernoulli|Categorical|Delta|Laplace|MultivariateNormal)\b",
        r"\b(?:mlp|linear)\([^)\n]*\)",
    )
    which = chance.randrange(3)
    places = list(re.finditer(pattern[which], text))
    if not places:
        return text
    at = chance.choice(places)
    return text[: at.start()] + chance.choice(groups[which]) + text[at.end() :]


Way = Callable[[random.Random, str], str]
WAYS: tuple[Way, ...] = (characters, tokens, lines, names, numbers, options, kinds)
WEIGHTS = (1, 3, 2, 4, 2, 4, 4)
