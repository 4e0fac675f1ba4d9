"""Small specs that train in a blink."""

GAN = """# a comment
data(x) = ring8(std=0.02, n=1000)
var x: real[2]
var z: real[2]
var y: {0, 1}
net G = mlp(16)
net D = mlp(16)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
train(batch=64, steps=200, beta1=0.5)
"""

VAE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[8]
let H = 64
net enc = mlp(H)
net dec = mlp(H)
p(z | x) = Normal(enc(x))
q(z) = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=128, steps=300)
"""

PROXIMAL = GAN.replace("minimize KL(q(x,y) || p(x,y))", "minimize KL(q(x,y) || p(x,y)) with proximal=dirac(1)")

MIXTURE = """
data(x) = iris()
var x: real[4]
var k: {0..2}
param pi: simplex[3]
param mu: real[3,4]
param s: positive[3,4]
p(k | x) = Free
q(k) = Categorical(pi)
q(x | k) = Normal(mu[k], s[k])
minimize KL(data(x) * p(k|x) || q(k) * q(x|k)) with METHOD
train(batch=40, steps=200, lr=0.05, optimizer=rmsprop)
"""

DISCRETE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: binary[6]
net enc = mlp(16)
net dec = mlp(16)
p(z | x) = Bernoulli(enc(x))
q(z) = Bernoulli(0.5)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) with estimate=score
train(batch=32)
"""
