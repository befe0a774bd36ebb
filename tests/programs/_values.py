"""What is done to values: layers, norms, entry by entry; channels stay free as a rule.

A line each; ``12 * `` says how often it counts, and a backslash that the next line belongs to it.
``$x`` is a value, ``$w(n, c)$`` a param of that shape; see ``_fields``.
"""

UNARY = """\
jnp.tanh jnp.sin jnp.cos jax.nn.relu jax.nn.gelu jax.nn.silu jax.nn.sigmoid jax.nn.softplus
jax.nn.elu jax.nn.leaky_relu jax.nn.relu6 jax.nn.hard_tanh jax.nn.hard_sigmoid jax.nn.hard_swish
jax.nn.celu jax.nn.selu jax.nn.soft_sign jax.nn.log_sigmoid jax.nn.mish jax.nn.squareplus
jax.nn.sparse_plus jnp.abs jnp.square jnp.sign jnp.negative jnp.positive jnp.expm1 jnp.cbrt
jnp.floor jnp.ceil jnp.round jnp.trunc jnp.rint jnp.sinc jnp.arctan jnp.arcsinh jnp.nan_to_num
jnp.exp2 jax.scipy.special.erf jax.scipy.special.erfc jax.scipy.special.i0e jax.scipy.special.i1e
jax.scipy.special.expit jax.scipy.stats.norm.cdf jax.scipy.special.gammaln jnp.i0
lib.straight lib.reversed_gradient lib.clipped_gradient lib.own lib.shifted lib.quantised
lax.stop_gradient lax.optimization_barrier jnp.real jnp.deg2rad jnp.copy
"""

VALUES = """\
# with params: what makes channels
12 * $x1 @ $w(n, c)$
12 * $x1 @ $w(n, c)$ + $w(c)$
6 * jax.nn.relu($x1 @ $w(n, c)$ + $w(c)$)
6 * jnp.tanh($x1 @ $w(n, c)$)
3 * $x1 + jnp.tanh($x1 @ $w(n, c)$) @ $w(c, n)$
$x1 @ $w(c, n)$.T
$x1 * $w(n)$
$x1 + $w(n)$
$x1 * (1 + $w(n)$) + $w(n)$
jnp.einsum("...c,cd->...d", $x1, $w(n, c)$)
jnp.einsum("...c,dc->...d", $x1, $w(c, n)$)
jnp.tensordot($x1, $w(n, 2, c)$, 1)
jnp.einsum("...c,chd->...hd", $x1, $w(n, 2, c)$)
jnp.einsum("...hd,hdc->...c", $x2, $w(sh[-2], n, c)$)
jnp.einsum("...hd,hde->...he", $x2, $w(sh[-2], n, c)$)
jnp.einsum("...td,ts->...sd", $x2, $w(sh[-2], c)$)
jnp.einsum("...i,...j,ijk->...k", $x1, $x1, $w(n, n, c)$)
jnp.einsum("...ii->...i", $x2(sh[-1] == sh[-2])$)
jnp.einsum("...i,...i->...", $x1, $like)
jnp.einsum("...i,...j->...ij", $x1, $like)
jnp.einsum("...ij,...kj->...ik", $x2, $like)
lax.dot_general($x2, $w(n, c)$, (((len($e(sh)$) - 1,), (0,)), ((), ())))
lax.dot_general($x2, $like, (((1,), (1,)), ((0,), (0,))))
lax.dot($x2(len(sh) == 2)$, $w(n, c)$, precision="highest")
jnp.dot($x1, $w(n)$)
jnp.inner($x1, $w(c, n)$)
jnp.vdot($x1, $like)
jnp.matmul($x2, jnp.swapaxes($like, -1, -2))
jnp.outer($x1(len(sh) == 1)$, $w(c)$)
jnp.kron($x1(len(sh) < 3)$, $w(2)$)
lib.conv($x3(len(sh) == 3)$, $w(2, n, c)$)
lib.conv($x3(len(sh) == 3)$, $w(3, n, c)$, stride=2, padding="VALID")
lib.conv($x3(len(sh) == 3)$, $w(2, n, c)$, dilation=2, lhs=2, padding=[(2, 1)])
lib.conv($x3(len(sh) == 3 and n % 2 == 0)$, $w(2, n // 2, 2 * c)$, groups=2)
lib.conv($x3(len(sh) == 3)$, $w(2, 1, n * 2)$, groups=$e(n)$)
lax.conv_general_dilated($x3(len(sh) == 3)$, $w(c, sh[1], 2)$, (1,), "SAME")
lax.conv($x3(len(sh) == 3)$, $w(c, sh[1], 1)$, (1,), "VALID")
lax.conv_transpose($x3(len(sh) == 3)$, $w(2, n, c)$, (2,), "SAME")
lax.conv_general_dilated($x3(len(sh) == 3 and sh[0] == 2)$, $w(c * 2, sh[1], 1)$, (1,), "SAME", \\
  batch_group_count=2)
# norms, attention, gates
lib.layer_norm($x1)
lib.layer_norm($x1) * $w(n)$ + $w(n)$
lib.layer_norm($x1, axis=$axes)
lib.rms_norm($x1) * $w(n)$
lib.rms_norm($x1, axis=$ax)
lib.group_norm($x1(n % 2 == 0)$, 2)
lib.group_norm($x1(n % 4 == 0)$, 4)
jax.nn.standardize($x1)
jax.nn.standardize($x1, axis=$ax)
jax.nn.softmax($x1)
jax.nn.softmax($x1, axis=$ax)
jax.nn.softmax($x1, axis=$axes)
jax.nn.log_softmax($x1, axis=$ax)
jax.nn.softmax($x1, where=$x1 > -1, axis=-1)
jax.nn.logsumexp($x1, axis=$ax, keepdims=True)
jax.scipy.special.logsumexp($x1, axis=$ax, b=$y)
jax.nn.glu($x1(n % 2 == 0)$)
lib.attention($x2(n % 2 == 0)$, $like, $like, 2)
lib.attention($x2(n % 2 == 0)$, $x2(n % 2 == 0)$, $x2(n % 2 == 0)$, 2, masked=True)
lib.attention($x2 @ $w(n, 4)$, $x2 @ $w(n, 4)$, $x2 @ $w(n, c * 2)$, 2)
jax.nn.dot_product_attention($x3(len(sh) == 3)$, $like, $like)
jax.nn.dot_product_attention($x3(len(sh) == 3)$, $like, $like, is_causal=True)
lib.rotary($x2(n % 2 == 0)$)
$x1 - $x1.mean(-1, keepdims=True)
$x1 / (jnp.abs($x1).sum(-1, keepdims=True) + 0.1)
$x1 / jnp.linalg.norm($x1, axis=-1, keepdims=True)
($x2 - $x2.mean(0)) * lax.rsqrt($x2.var(0) + 0.01)
# two operands
3 * $x + $y
3 * $x * $y
$x - $y
$x / (1 + jnp.square($y))
jnp.maximum($x, $y)
jnp.minimum($x, $y)
jnp.fmax($x, $y)
jnp.fmin($x, $y)
jnp.hypot($x, $y)
jnp.logaddexp($x, $y)
jnp.logaddexp2($x, $y)
jnp.where($x > $y, $x, $y)
jnp.where($x > 0, $y, $x)
jnp.where($y > 0.1, $x, $s)
jnp.where($b, $s, $s)
jnp.where($x == 0, $s, $x)
jnp.where($x >= 0, $x, $y)
lax.select($x > 0, $x, $like)
lax.select_n(jnp.clip($x, 0, 2).astype(int), $x, 2 * $x, $like)
$x * $w()$
$x + jnp.exp($w()$)
jax.random.normal(jax.random.key($i.sum()), $e(sh)$) * $x
jnp.broadcast_to($x1.sum(0), $e(sh)$)
$x1.sum(0) * $w(n)$
jnp.cumsum($x2, 0)
jnp.sort($x2, 0)
jnp.flip(jnp.cumsum($x2, 0), 0)
lax.select_n($x > 0, $like, $x)
jnp.clip($x, $s, $s)
jnp.clip($x, -0.5, 0.7)
jnp.clip($x, $y, $y)
lax.clamp(-1.0, $x, 1.0)
lax.clamp(0.1, $x, 1.0)
$x * $s
$x + $s
$s - $x
$x * $k(sh)$
$x + $k(sh)$
jnp.maximum($x, $s)
jnp.minimum($x, $s)
$x ** 2
$x ** 3
$x ** 0
lax.integer_pow($x, 3)
jnp.square($x) ** 0.7
(1 + jnp.square($x)) ** $y
jnp.abs($x) ** $y
jnp.power(2.0, $x)
jnp.exp(0.5 * $x)
jnp.exp($x)
jnp.log1p(jnp.abs($x))
jnp.log(jnp.abs($x) + 0.1)
jnp.sqrt(jnp.abs($x))
lax.rsqrt(jnp.square($x) + 0.5)
1 / (1.5 + jnp.sin($x))
jnp.arcsin(jnp.tanh($x))
jnp.arctanh(0.9 * jnp.tanh($x))
jnp.arccosh(1 + jnp.abs($x))
jnp.cosh(jnp.tanh($x))
jnp.sinh(jnp.tanh($x))
jnp.tan(jnp.tanh($x))
jnp.ldexp($x, 2)
lib.scaled($x, $y)
lib.mixed($x1)
lib.normed_gradient($x1)
lib.own($x) * lib.straight($x)
# other dtypes
$x > $s
$x >= $y
$x != 0
$x == $y
jnp.logical_not($x)
jnp.isfinite($x)
jnp.isclose($x, $y)
jnp.logical_and($b, $x > 0)
jnp.logical_xor($b, $b)
~$b
$b.astype(float) * $y
$x * $b.mean()
$x.astype(jnp.float32)
$x.astype(int)
(3 * $x).astype(jnp.int32)
$i + 1
$i * $i
$i % 3
-$i
$i // 2
$i << 1
$i >> 1
$i & 3
$i | 1
$i ^ $i
~$i
jnp.abs($i)
jnp.clip($i, 0, 3)
jnp.clip($i, 1, 3)
$i.astype(float)
$i == 2
$i @ $w(5)$.astype(int)
lax.population_count($i)
lax.clz($i)
"""
