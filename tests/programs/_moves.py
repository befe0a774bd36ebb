"""What reduces and moves values, and reads and writes at indices.

A line each; ``12 * `` says how often it counts, and a backslash that the next line belongs to it.
``$x`` is a value, ``$w(n, c)$`` a param of that shape; see ``_fields``.
"""

MOVES = """\
# reductions
$x1.sum($ax)
$x1.sum($axes)
$x1.mean($ax)
$x1.mean($axes)
$x1.sum(-1, keepdims=True)
$x1.mean(-1, keepdims=True)
$x1.max($ax)
$x1.min($ax, keepdims=True)
$x1.max(-1, keepdims=True)
$x1.prod($ax)
$x1.var($ax)
$x1.std($ax, ddof=1)
$x1.sum($ax, where=$x1 > 0)
$x1.max($ax, where=$x1 < 1, initial=-2.0)
$x1.mean($ax, where=$x1 > -3)
$x1.min($ax, initial=0.5)
jnp.square($x1).mean($axes)
jnp.ptp($x1, axis=$ax)
jnp.average($x1, axis=$ax, weights=jnp.exp($like))
jnp.linalg.norm($x1, axis=$ax)
jnp.linalg.norm($x1, ord=1, axis=$ax)
jnp.linalg.norm($x1, ord=jnp.inf, axis=$ax)
jnp.nansum($x1, axis=$ax)
jnp.nanmax($x1, axis=$ax)
jnp.any($x1 > 0.2, axis=$ax)
jnp.all($x1 >= 0, axis=$ax)
jnp.all($x1 == 0, axis=$ax)
jnp.count_nonzero($x1, axis=$ax)
($x1 > 0).sum($ax)
($x1 >= 0).mean($ax)
jnp.trace($x2)
lax.reduce($x1, 0.0, lax.add, ($e(len(sh) - 1)$,))
lax.reduce($x1, -jnp.inf, lax.max, ($e(len(sh) - 1)$,))
lax.reduce($x1, 1.0, lax.mul, ($e(len(sh) - 1)$,))
# movement
2 * jnp.transpose($x2, $perm)
$x2.T
jnp.swapaxes($x2, 0, -1)
jnp.moveaxis($x2, -1, 0)
2 * $x.reshape(-1)
2 * $x2.reshape(*$e(sh[:-2])$, -1)
$x1.reshape(-1, $e(n)$)
2 * $x1(n % 2 == 0)$.reshape(*$e(sh[:-1])$, 2, -1)
2 * $x1(n % 2 == 0)$.reshape(*$e(sh[:-1])$, -1, 2)
$x1(n % 3 == 0)$.reshape(*$e(sh[:-1])$, 3, -1)
lax.reshape($x2, ($e(np_prod(sh))$,), dimensions=$perm)
$x1(n % 2 == 0)$.reshape(*$e(sh[:-1])$, 2, -1).swapaxes(-1, -2).reshape($e(sh)$)
$x1[..., None]
$x1[None]
jnp.squeeze($x1[:, None], 1)
jnp.broadcast_to($x1, (2, *$e(sh)$))
jnp.broadcast_to($x1[:1], $e(sh)$)
jnp.concatenate([$x1, $like], $ax)
jnp.concatenate([$x1, $x1, -$x1], -1)
jnp.concatenate([$x1, $k(sh)$], -1)
jnp.concatenate([$x1, jnp.zeros_like($x1)], $ax)
jnp.stack([$x1, $like])
jnp.stack([$x1, $like], -1)
jnp.stack([$x1, 2 * $x1], $ax)
jnp.hstack([$x1, $like])
jnp.dstack([$x1, $like])
jnp.split($x1(n % 2 == 0)$, 2, -1)
jnp.split($x1(n > 2)$, [1], -1)
jnp.array_split($x1, 3, -1)
$x1[..., :$m(1, n)$]
$x1[..., $m(0, n)$:]
$x1[..., 1:-1]
$x1[..., ::2]
$x1[..., 1::2]
$x1[..., ::-1]
$x1[..., ::-2]
$x1[0]
$x1[-1]
$x1[..., 0]
$x1[..., -1]
$x2[:, 0]
$x2[:, None, 1:]
lax.slice_in_dim($x1, 0, $e(na)$, 2, axis=$ax)
lax.index_in_dim($x1, 1, axis=$ax, keepdims=False)
jnp.flip($x1, $ax)
jnp.flip($x1, -1)
lax.rev($x1, $axes)
jnp.roll($x1, $m(-3, 4)$, -1)
jnp.roll($x1, 1, $ax)
jnp.roll($x1, 2)
jnp.rot90($x2)
jnp.tile($x1, 2)
jnp.tile($x1, (2, 1))
jnp.repeat($x1, 2, -1)
jnp.repeat($x1, 2, $ax)
jnp.repeat($x1, np.array($e(list(range(n)))$), -1, total_repeat_length=$e(n * (n - 1) // 2)$)
jnp.pad($x1, [(0, 0)] * $e(len(sh) - 1)$ + [(1, 2)])
jnp.pad($x1, [(0, 0)] * $e(len(sh) - 1)$ + [(2, 0)], constant_values=$s)
jnp.pad($x2, [(1, 1)] + [(0, 0)] * $e(len(sh) - 1)$, constant_values=$s)
lax.pad($x1, $s, [(0, 0, 0)] * $e(len(sh) - 1)$ + [(1, 0, 0)])
jnp.diff($x1, axis=-1)
jnp.tril($x2)
jnp.triu($x2, 1)
jnp.where(np.tri($e(sh[-2])$, $e(n)$, dtype=bool), $x2, $s)
jnp.where(np.arange($e(n)$) < $m(1, n)$, $x1, $s)
$x1 * (np.arange($e(n)$) % 2)
$x1 + jnp.arange($e(n)$)
$x2 + jnp.arange($e(sh[-2])$)[:, None]
$x1[:, None] * $x1
$x1[..., None] - $x1[..., None, :]
jnp.atleast_2d($x1)
jnp.expand_dims($x1, (0, -1))
jnp.ravel($x)
jnp.zeros_like($x) + $s
jnp.ones_like($x) * $x.mean()
jnp.full_like($x, 0.5) * $y
jnp.meshgrid($x1(len(sh) == 1)$, $w(c)$)
jnp.broadcast_arrays($x, $y)
# constant indices
$x1[..., np.array($ints(n, c)$)]
$x1[np.array($ints(sh[0], c)$)]
$x1[..., np.array($perms(n)$)]
jnp.take($x1, np.array($ints(na, 4)$), axis=$ax)
jnp.take($x1, np.array($ints1(n, 3)$), axis=-1, mode="$one(wrap|clip|fill)$")
jnp.take($x1, np.array([$ints(n, 2)$, $ints(n, 2)$]), axis=-1)
jnp.take_along_axis($x1, jnp.argsort($x1, 0), 0)
$x2[:, np.array($ints(sh[1], 3)$)]
$x2[np.array([0, 1]), np.array([1, 0])]
$x2[..., np.array([0, 1]), :]
$x1.at[..., :2].set($s)
$x1.at[..., 1:].add($w(n - 1)$)
$x1.at[..., 0].$one(set|add|multiply|min|max)$($y)
$x1.at[..., -1].set($x1[..., 0])
$x1.at[0].$one(set|add|multiply|min|max|divide)$(2.0)
$x1.at[..., np.array($ints(n, 3)$)].$one(set|add|multiply|min|max)$($s)
$x1.at[..., np.array($perms(n)$)].set($x1)
$x1.at[..., np.array($ints(n, 2)$)].get()
$x1.at[..., np.array($ints1(n, 3)$)].get(mode="fill", fill_value=$s)
$x1.at[np.array($ints(sh[0], 2)$)].add($s)
$x1.at[..., ::2].multiply($s)
lax.dynamic_slice_in_dim($x1, 1, $m(1, n)$, -1)
lax.dynamic_slice_in_dim($x1, $m(-3, 9)$, $m(1, n)$, -1)
lax.dynamic_update_slice_in_dim($x1, $x1[..., :2], $m(-2, 9)$, -1)
lax.dynamic_update_slice($x1, $like, (0,) * $e(len(sh))$)
jnp.insert($x1, 1, $s, axis=-1)
jnp.delete($x1, 1, axis=-1)
jnp.append($x1, $like, axis=-1)
# computed indices, on axes that have rather few
$w(5, c)$[$i]
jnp.take($w(5, c)$, $i, axis=0)
jnp.take($w(5, c)$, $i, axis=0, mode="$one(clip|wrap|fill)$")
jnp.nan_to_num(jnp.take($w(5, c)$, $i, axis=0), nan=$s)
$w(5, c)$.at[$i].get(mode="fill", fill_value=$s)
$w(5, c)$.at[$i].get(mode="$one(drop|clip|promise_in_bounds)$") * 0.5
jnp.take($w(c, 5)$, $i, axis=1, mode="fill", fill_value=$s)
jax.nn.one_hot($i, 5) @ $w(5, c)$
jax.nn.one_hot($i, $e(c)$) * $w(c)$
$w(5, c)$.at[$i].$one(set|add|multiply|min|max)$($s)
jnp.zeros((4, $e(n)$)).at[$i1(len(sh) == 1)$].add($x1[:1])
lax.dynamic_index_in_dim($x1, $i.sum(), 0)
lax.dynamic_index_in_dim($x1, $i.max(), -1, keepdims=False)
lax.dynamic_slice_in_dim($x2, $i.min(), 1, 0)
lax.dynamic_update_slice_in_dim($x2, $like, $i.sum(), 0)
lax.dynamic_update_index_in_dim($x2, $x2[0] * 2, $i.max(), 0)
jnp.where($i.sum() > 3, $x, $y)
$x1 * $i.mean()
jax.ops.segment_sum($x2, np.array($ints(sh[0], sh[0])$), 3)
jax.ops.segment_max($x2, np.array($ints(sh[0], sh[0])$) % 2, 2)
jax.ops.segment_prod($x2, np.array($ints(sh[0], sh[0])$), 4)
jnp.nan_to_num(jax.ops.segment_min($x2, np.array($ints(sh[0], sh[0])$), 4), posinf=$s)
"""
